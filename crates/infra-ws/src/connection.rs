//! The handle of a connection.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use infra_core::clock::Timestamp;

use crate::{
    admission::Standing,
    budget::Advance,
    close::Close,
    facts::Facts,
    frame::{Class, Frame, Unsent},
    index::NotIdentified,
    lanes::Priority,
    layer::{self, Layer},
    ledger::Ledger,
    outbox::Outbox,
    post::Post,
    registry::Registry,
};

/// Names a connection within its hub; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub(crate) u64);

impl ConnectionId {
    /// Returns it as a number.
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a connection is in its life.
///
/// ```text
/// Open -> Identified -> Closing -> Ended
///   |          |                     ^
///   +----------+---------------------+   each may end at once; there is no way back
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// The handshake is done; whose connection it is nobody has said.
    Open,
    /// It belongs to a user.
    Identified,
    /// It takes nothing more and ends once what waits is delivered.
    Closing,
    /// It is gone.
    Ended,
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The client closed it, with this code if it named one.
    Client(Option<u16>),
    /// The client vanished, or its socket broke.
    Lost,
    /// The server closed it.
    Server(Close),
}

/// A connection as the application holds it. Cheap to clone; it outlives its socket harmlessly.
#[derive(Debug, Clone)]
pub struct Connection(Arc<Inner>);

/// In this order: a message to many touches the first fields of each connection.
#[derive(Debug)]
#[repr(C)]
struct Inner {
    layers: OnceLock<Arc<[Arc<dyn Layer>]>>,
    outbox: Outbox,
    id: ConnectionId,
    facts: Facts,
    registry: Weak<Registry>,
    standing: Arc<Standing>,
    user: OnceLock<Arc<str>>,
    session: OnceLock<Arc<str>>,
    ended: OnceLock<Ended>,
    /// Bytes of an unfinished message that are held for this client.
    inbound: AtomicUsize,
    /// Wall milliseconds at which what identified it ends.
    good_until: AtomicU64,
}

impl Connection {
    pub(crate) fn new(
        id: ConnectionId,
        facts: Facts,
        outbox: Outbox,
        registry: Weak<Registry>,
        standing: Arc<Standing>,
    ) -> Self {
        Self(Arc::new(Inner {
            id,
            facts,
            outbox,
            registry,
            standing,
            user: OnceLock::new(),
            session: OnceLock::new(),
            layers: OnceLock::new(),
            ended: OnceLock::new(),
            inbound: AtomicUsize::new(0),
            good_until: AtomicU64::new(u64::MAX),
        }))
    }

    /// Returns its id.
    pub fn id(&self) -> ConnectionId {
        self.0.id
    }

    /// Returns the address of the other end of the socket: the client, or a proxy before it.
    pub fn peer(&self) -> SocketAddr {
        self.0.facts.peer
    }

    /// Returns what is known of the client from its handshake.
    pub fn facts(&self) -> &Facts {
        &self.0.facts
    }

    /// Gives a message to the client's queue and returns whether it was taken; never waits.
    ///
    /// A durable message that finds no room closes the connection as too slow.
    pub fn send(&self, frame: Frame, class: Class) -> bool {
        self.offer(frame, class, Priority::Normal).is_ok()
    }

    /// Gives a message to the client's queue at a priority; never waits.
    ///
    /// # Errors
    ///
    /// Why it was not taken. [`Unsent::TooSlow`] closes the connection.
    pub fn offer(&self, frame: Frame, class: Class, at: Priority) -> Result<(), Unsent> {
        self.offer_post(Post::new(frame, class, None), at, &mut Advance::none())
    }

    /// As [`offer`](Self::offer), for a message that may be shared and counted with others.
    pub(crate) fn offer_post(
        &self,
        post: Arc<Post>,
        at: Priority,
        advance: &mut Advance,
    ) -> Result<(), Unsent> {
        let post = match self.0.layers.get() {
            None => post,
            Some(layers) => {
                let Post { frame, class, account } = post.as_ref();
                let Some(frame) = layer::outbound(layers, self, frame.clone()) else {
                    return self.0.outbox.refuse(account.as_ref());
                };
                Post::new(frame, *class, account.as_ref())
            }
        };
        let taken = self.0.outbox.push(post, at, advance);
        self.keep_budget();
        taken
    }

    pub(crate) fn set_layers(&self, layers: Arc<[Arc<dyn Layer>]>) {
        self.0.layers.get_or_init(|| layers);
    }

    /// Gives a message to the client's queue once there is room for it.
    ///
    /// This is for streams to one client, whose sender may wait; a broadcast never should.
    ///
    /// # Errors
    ///
    /// [`Unsent::NoRoom`] if there was none within `patience`, [`Unsent::Ended`] if the connection
    /// ends.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the message unsent; one that was sent is never half sent.
    pub async fn send_when_room(
        &self,
        frame: Frame,
        at: Priority,
        patience: Duration,
    ) -> Result<(), Unsent> {
        let passed = match self.0.layers.get() {
            Some(layers) => layer::outbound(layers, self, frame),
            None => Some(frame),
        };
        let Some(frame) = passed else { return self.0.outbox.refuse(None) };
        let taken = self.0.outbox.push_when_room(frame, at, patience).await;
        self.keep_budget();
        taken
    }

    /// Says whose connection it is; saying it again is harmless.
    ///
    /// # Errors
    ///
    /// [`NotIdentified`]: it is another's, the user has too many, or it has ended.
    pub fn identify(&self, user: &str) -> Result<(), NotIdentified> {
        let Some(registry) = self.0.registry.upgrade() else {
            return Err(NotIdentified::Ended);
        };
        let user: Arc<str> = Arc::from(user);
        registry.identify(self.0.id, &user)?;
        self.0.user.get_or_init(|| user);
        self.0.standing.identified();
        Ok(())
    }

    /// Returns whose connection it is, once that is known.
    pub fn user(&self) -> Option<&str> {
        self.0.user.get().map(AsRef::as_ref)
    }

    /// Says which session of its user this connection continues, such as one login of one device;
    /// the first word counts.
    pub fn set_session(&self, session: &str) {
        self.0.session.get_or_init(|| Arc::from(session));
    }

    /// Returns which session of its user this connection continues, once that is known.
    pub fn session(&self) -> Option<&str> {
        self.0.session.get().map(AsRef::as_ref)
    }

    /// Sets until when the connection may live, such as the expiry of its token; a fresh token
    /// moves it. At that time it is closed with the code for it.
    pub fn good_until(&self, moment: Timestamp) {
        // Relaxed: the number stands for itself, and the wake that follows makes it seen.
        self.0.good_until.store(moment.as_millis(), Ordering::Relaxed);
        self.0.outbox.wake();
    }

    /// Ends the connection after what waits was delivered; the first close counts.
    pub fn close(&self, close: Close) {
        self.0.outbox.close(close);
    }

    /// Ends the connection without delivering what waits.
    pub fn shed(&self, close: Close) {
        self.0.outbox.shed(close);
    }

    /// Returns where the connection is in its life.
    pub fn state(&self) -> State {
        if self.0.ended.get().is_some() {
            State::Ended
        } else if self.0.outbox.closing().is_some() {
            State::Closing
        } else if self.0.user.get().is_some() {
            State::Identified
        } else {
            State::Open
        }
    }

    /// Returns how it ended, once it has.
    pub fn ended(&self) -> Option<&Ended> {
        self.0.ended.get()
    }

    /// Returns how many bytes wait for the client or are being written.
    pub fn queued_bytes(&self) -> usize {
        self.0.outbox.bytes()
    }

    /// Returns what became of the messages so far.
    pub fn ledger(&self) -> Ledger {
        self.0.outbox.ledger()
    }

    pub(crate) fn outbox(&self) -> &Outbox {
        &self.0.outbox
    }

    pub(crate) fn end(&self, how: Ended) {
        self.0.ended.get_or_init(|| how);
        self.hold_inbound(0);
        self.0.outbox.end();
    }

    /// Says how many bytes of an unfinished message are held.
    pub(crate) fn hold_inbound(&self, bytes: usize) {
        // Relaxed: only the connection's own task writes it, and the sum is kept beside it.
        let before = self.0.inbound.swap(bytes, Ordering::Relaxed);
        if before == bytes {
            return;
        }
        let Some(registry) = self.0.registry.upgrade() else { return };
        if bytes < before {
            registry.inbound.sub(before - bytes);
            return;
        }
        registry.inbound.add(bytes - before);
        if registry.inbound.is_over() {
            registry.shed_inbound();
        }
    }

    pub(crate) fn inbound_bytes(&self) -> usize {
        self.0.inbound.load(Ordering::Relaxed)
    }

    pub(crate) fn expiry(&self) -> Timestamp {
        Timestamp::from_millis(self.0.good_until.load(Ordering::Relaxed))
    }

    fn keep_budget(&self) {
        // The budget is looked at first, since each message asks and hardly one finds it exceeded.
        if self.0.outbox.is_over_budget()
            && let Some(registry) = self.0.registry.upgrade()
        {
            registry.shed_outbound();
        }
    }
}
