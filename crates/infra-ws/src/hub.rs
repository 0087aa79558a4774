//! The owner of all connections of a process.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use infra_core::{Clock, lifecycle::Shutdown, random::Random};
use parking_lot::Mutex;

use crate::{
    admission::Admission,
    close::Close,
    connection::{Connection, ConnectionId},
    options::Options,
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
    connections: Mutex<HashMap<ConnectionId, Connection>>,
    next: AtomicU64,
    is_draining: AtomicBool,
    random: Random,
}

/// Takes a connection out of its hub's list at its end, however that comes.
#[derive(Debug)]
pub(crate) struct Listed {
    hub: Arc<Hub>,
    id: ConnectionId,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.hub.connections.lock().remove(&self.id);
    }
}

impl Hub {
    /// Creates a hub; its tasks belong to `shutdown`.
    pub fn new(options: Options, clock: Arc<dyn Clock>, shutdown: Shutdown) -> Arc<Self> {
        Arc::new(Self {
            admission: Admission::new(options.connections, options.per_address),
            options: Arc::new(options),
            clock,
            shutdown,
            connections: Mutex::default(),
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
        self.connections.lock().get(&id).cloned()
    }

    /// Returns all open connections, as of now.
    pub fn connections(&self) -> Vec<Connection> {
        self.connections.lock().values().cloned().collect()
    }

    /// Returns whether new connections are refused because the end has begun.
    pub fn is_draining(&self) -> bool {
        // Acquire pairs with the release in `drain`.
        self.is_draining.load(Ordering::Acquire)
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
        self.is_draining.store(true, Ordering::Release);
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
        let ended = async {
            while !self.connections.lock().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let _in_time = tokio::time::timeout(grace, ended).await.is_ok();
        Drained { asked, left: self.connections.lock().len() }
    }

    /// Lists a new connection until the guard is dropped.
    pub(crate) fn list(self: &Arc<Self>, connection: &Connection) -> Listed {
        self.connections.lock().insert(connection.id(), connection.clone());
        Listed { hub: Arc::clone(self), id: connection.id() }
    }

    pub(crate) fn next_id(&self) -> ConnectionId {
        // Relaxed: only the numbers' difference matters.
        ConnectionId(self.next.fetch_add(1, Ordering::Relaxed))
    }
}
