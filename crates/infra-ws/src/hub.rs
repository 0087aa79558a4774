//! The owner of all connections of a process.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use infra_core::{Clock, lifecycle::Shutdown, random::Random};

use crate::{
    admission::{Admission, Seat},
    close::Close,
    connection::{Connection, ConnectionId},
    facts::Facts,
    ledger::Ledger,
    options::Options,
    outbox::Outbox,
    registry::{Membership, Registry},
};

/// What a drain did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Drained {
    /// Connections that were asked to close.
    pub asked: usize,
    /// Connections that had not ended by the deadline.
    pub left: usize,
}

/// Owns the connections of a process: admits, counts, finds and drains them.
#[derive(Debug)]
pub struct Hub {
    pub(crate) options: Arc<Options>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) shutdown: Shutdown,
    pub(crate) admission: Arc<Admission>,
    registry: Arc<Registry>,
    next: AtomicU64,
    is_draining: AtomicBool,
    random: Random,
}

impl Hub {
    /// Creates a hub; its tasks belong to `shutdown`, at whose beginning connections are closed
    /// with 1001. Call [`drain`](Self::drain) first to say farewell.
    pub fn new(options: Options, clock: Arc<dyn Clock>, shutdown: Shutdown) -> Arc<Self> {
        let options = Arc::new(options);
        Arc::new(Self {
            admission: Admission::new(Arc::clone(&options)),
            registry: Registry::new(Arc::clone(&options)),
            options,
            clock,
            shutdown,
            next: AtomicU64::new(1),
            is_draining: AtomicBool::new(false),
            random: Random::from_system(),
        })
    }

    /// Returns how many connections are open or in their handshake.
    pub fn count(&self) -> usize {
        self.admission.count()
    }

    /// Returns an open connection.
    pub fn get(&self, id: ConnectionId) -> Option<Connection> {
        self.registry.get(id)
    }

    /// Returns the open connections of a user, oldest first.
    pub fn of_user(&self, user: &str) -> Vec<Connection> {
        self.registry.of_user(user)
    }

    /// Returns how many users have a connection.
    pub fn users(&self) -> usize {
        self.registry.users()
    }

    /// Returns all open connections, as of now.
    pub fn connections(&self) -> Vec<Connection> {
        self.registry.all()
    }

    /// Returns what became of all messages, also of connections that have ended.
    pub fn ledger(&self) -> Ledger {
        self.registry.ledger()
    }

    /// Returns how many bytes are held of unfinished messages, and of messages that wait.
    pub fn held_bytes(&self) -> (usize, usize) {
        (self.registry.inbound.used(), self.registry.outbound.used())
    }

    /// Closes all connections of a user, such as after a ban; returns how many.
    pub fn revoke(&self, user: &str, close: &Close) -> usize {
        let connections = self.of_user(user);
        for connection in &connections {
            connection.shed(close.clone());
        }
        connections.len()
    }

    /// Returns whether new connections are refused because the end has begun.
    pub fn is_draining(&self) -> bool {
        // Acquire pairs with the release in `drain`.
        self.is_draining.load(Ordering::Acquire)
    }

    /// Refuses new connections from now on; the readiness of the hub is off.
    pub fn begin_drain(&self) {
        // Release pairs with the acquire in `is_draining`.
        self.is_draining.store(true, Ordering::Release);
    }

    /// Refuses new connections and closes the open ones with `close`, each at a random moment of
    /// `spread`, so that they do not all come back at once; waits up to `grace` for their end.
    ///
    /// `last_words` is called once for each before it closes, to send it a hint or a token.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the hub draining, with some connections not asked yet.
    pub async fn drain(
        &self,
        close: Close,
        spread: Duration,
        grace: Duration,
        last_words: impl Fn(&Connection),
    ) -> Drained {
        self.begin_drain();
        let mut order: Vec<(Duration, Connection)> = self
            .connections()
            .into_iter()
            .map(|connection| (spread.mul_f64(self.random.unit()), connection))
            .collect();
        order.sort_unstable_by_key(|(moment, connection)| (*moment, connection.id()));
        let asked = order.len();
        let mut passed = Duration::ZERO;
        for (moment, connection) in order {
            tokio::time::sleep(moment.saturating_sub(passed)).await;
            passed = moment;
            last_words(&connection);
            connection.close(close.clone());
        }
        // Handshakes that were under way when it began.
        for late in self.connections() {
            late.close(close.clone());
        }
        let _in_time = tokio::time::timeout(grace, self.registry.empty()).await.is_ok();
        Drained { asked, left: self.registry.len() }
    }

    /// Begins a connection: lists it until the membership is dropped.
    pub(crate) fn begin(&self, facts: Facts, seat: &Seat) -> (Connection, Membership) {
        // Relaxed: only the numbers' difference matters.
        let id = ConnectionId(self.next.fetch_add(1, Ordering::Relaxed));
        let outbox = Outbox::new(Arc::clone(&self.options), Arc::clone(&self.registry.outbound));
        let registry = Arc::downgrade(&self.registry);
        let connection = Connection::new(id, facts, outbox, registry, Arc::clone(seat.standing()));
        let membership = self.registry.list(&connection);
        (connection, membership)
    }
}

#[cfg(test)]
impl Hub {
    /// Creates a hub for a test without sockets.
    pub(crate) fn for_tests(options: Options) -> Arc<Self> {
        Self::new(options, infra_core::SystemClock::shared(), Shutdown::new())
    }

    /// Lists a connection without a socket.
    pub(crate) fn connect_for_tests(&self) -> (Connection, (Membership, Seat)) {
        let peer = std::net::SocketAddr::from(([127, 0, 0, 1], 9));
        let seat = self.admission.admit(peer.ip()).unwrap();
        let (connection, membership) = self.begin(Facts::of_peer(peer), &seat);
        (connection, (membership, seat))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        connection::{Ended, State},
        frame::{Class, Frame},
        index::NotIdentified,
        origin::OriginPolicy,
    };

    fn hub(change: impl FnOnce(Options) -> Options) -> Arc<Hub> {
        Hub::for_tests(change(Options::new(OriginPolicy::same_host())))
    }

    #[tokio::test]
    async fn a_connection_goes_through_its_states_and_never_back() {
        let hub = hub(|options| options.per_user(1));
        let (connection, guards) = hub.connect_for_tests();
        assert_eq!(connection.state(), State::Open);
        connection.identify("ann").unwrap();
        connection.identify("ann").unwrap();
        assert_eq!((connection.state(), connection.user()), (State::Identified, Some("ann")));
        assert_eq!(connection.identify("bob"), Err(NotIdentified::Other));
        let (second, _guards) = hub.connect_for_tests();
        assert_eq!(second.identify("ann"), Err(NotIdentified::TooMany));
        assert_eq!(hub.of_user("ann").len(), 1);
        connection.close(Close::NORMAL);
        assert_eq!(connection.state(), State::Closing);
        connection.end(Ended::Lost);
        connection.end(Ended::Client(Some(1000)));
        assert_eq!((connection.state(), connection.ended()), (State::Ended, Some(&Ended::Lost)));
        drop(guards);
        assert_eq!(connection.identify("ann"), Err(NotIdentified::Ended));
        assert_eq!((hub.users(), hub.connections().len(), hub.count()), (0, 1, 1));
        second.identify("ann").unwrap();
    }

    #[tokio::test]
    async fn the_hubs_ledger_is_the_sum_of_all_that_ever_were() {
        let hub = hub(|options| options.outbox(2, 100));
        for _ in 0..3 {
            let (connection, _guards) = hub.connect_for_tests();
            for _ in 0..3 {
                connection.send(Frame::text("x"), Class::Ephemeral);
            }
            assert!(hub.ledger().is_balanced());
        }
        let ledger = hub.ledger();
        assert_eq!((ledger.enqueued, ledger.dropped, ledger.discarded), (9, 3, 6));
        assert!(ledger.is_balanced());
        assert_eq!(hub.held_bytes(), (0, 0));
    }

    #[tokio::test]
    async fn who_holds_most_is_closed_when_the_process_holds_too_much() {
        let hub = hub(|options| options.budgets(1_000, 1_000));
        let (small, _guards) = hub.connect_for_tests();
        let (large, _guards) = hub.connect_for_tests();
        small.send(Frame::text("x".repeat(300)), Class::Durable);
        large.send(Frame::text("x".repeat(600)), Class::Durable);
        assert_eq!(small.state(), State::Open);
        assert!(small.send(Frame::text("x".repeat(200)), Class::Durable));
        assert_eq!((small.state(), large.state()), (State::Open, State::Closing));
        assert_eq!(large.outbox().closing().unwrap().code, 1013);
        assert_eq!(hub.held_bytes(), (0, 500), "what waited for it is free at once");

        small.hold_inbound(600);
        let (third, _guards) = hub.connect_for_tests();
        third.hold_inbound(400);
        assert_eq!(third.state(), State::Open);
        third.hold_inbound(500);
        assert_eq!((small.state(), third.state()), (State::Closing, State::Open));
        let (fourth, _guards) = hub.connect_for_tests();
        fourth.hold_inbound(400);
        assert_eq!(fourth.state(), State::Open, "what is closing does not count");
    }

    #[tokio::test]
    async fn a_revoked_user_loses_all_connections_and_nobody_else_one() {
        let hub = hub(|options| options);
        let all: Vec<_> = ["ann", "ann", "bob"]
            .map(|user| {
                let (connection, guards) = hub.connect_for_tests();
                connection.identify(user).unwrap();
                (connection, guards)
            })
            .into();
        assert_eq!(hub.revoke("ann", &Close::POLICY), 2);
        let states: Vec<State> = all.iter().map(|(connection, _)| connection.state()).collect();
        assert_eq!(states, [State::Closing, State::Closing, State::Identified]);
        assert_eq!(hub.revoke("eve", &Close::POLICY), 0);
    }
}
