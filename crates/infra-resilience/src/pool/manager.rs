//! What deadpool asks: new connections, and whether old ones may be used again.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use deadpool::managed::{self, Metrics, RecycleError, RecycleResult};
use infra_core::{Clock, Error, ErrorKind, Result, clock::Instant};
use parking_lot::Mutex;

use super::{Connect, Options};
use crate::telemetry::{POOL, Pooled};

/// A connection with its ages.
#[derive(Debug)]
pub(super) struct Aged<T> {
    pub(super) connection: T,
    pub(super) born: Instant,
    pub(super) idle_since: Instant,
}

pub(super) struct Manager<C: Connect> {
    connect: C,
    options: Options,
    clock: Arc<dyn Clock>,
    /// Connections that the reaper has opened and not yet put into slots.
    ready: Mutex<Vec<Aged<C::Connection>>>,
    opened: AtomicU64,
    closed: AtomicU64,
}

impl<C: Connect> Manager<C> {
    pub(super) fn new(connect: C, options: Options, clock: Arc<dyn Clock>) -> Self {
        let (opened, closed) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { connect, options, clock, ready: Mutex::default(), opened, closed }
    }

    pub(super) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Opens a connection, in time.
    pub(super) async fn open(&self) -> Result<Aged<C::Connection>> {
        let limit = self.options.connect;
        let connecting = tokio::time::timeout(limit, self.connect.connect());
        let late = |_| Error::new(ErrorKind::Timeout, "open connection");
        let connection = connecting.await.map_err(late)??;
        self.opened.fetch_add(1, Relaxed);
        POOL.add_for(Pooled::Opened, 1);
        let now = self.now();
        Ok(Aged { connection, born: now, idle_since: now })
    }

    pub(super) fn put_ready(&self, connection: Aged<C::Connection>) {
        self.ready.lock().push(connection);
    }

    pub(super) fn n_ready(&self) -> usize {
        self.ready.lock().len()
    }

    /// Returns how many connections were opened and closed.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.opened.load(Relaxed), self.closed.load(Relaxed))
    }

    pub(super) fn is_aged(&self, connection: &Aged<C::Connection>, now: Instant) -> bool {
        self.options.lifetime <= now.since(connection.born)
    }

    pub(super) fn is_idle_too_long(&self, connection: &Aged<C::Connection>, now: Instant) -> bool {
        self.options.idle <= now.since(connection.idle_since)
    }

    /// Says why a connection may not be handed out again.
    async fn fault(&self, connection: &mut Aged<C::Connection>) -> Option<Pooled> {
        let now = self.now();
        if self.is_aged(connection, now) {
            return Some(Pooled::Aged);
        }
        if now.since(connection.idle_since) < self.options.check_after {
            return None;
        }
        let check = self.connect.check(&mut connection.connection);
        match tokio::time::timeout(self.options.connect, check).await {
            Ok(Ok(())) => None,
            Ok(Err(_)) | Err(_) => Some(Pooled::Invalid),
        }
    }
}

impl<C: Connect> managed::Manager for Manager<C> {
    type Type = Aged<C::Connection>;
    type Error = Error;

    async fn create(&self) -> Result<Aged<C::Connection>> {
        let ready = self.ready.lock().pop();
        match ready {
            Some(ready) => Ok(ready),
            None => self.open().await,
        }
    }

    async fn recycle(&self, obj: &mut Aged<C::Connection>, _: &Metrics) -> RecycleResult<Error> {
        match self.fault(obj).await {
            None => Ok(()),
            Some(why) => {
                POOL.add_for(why, 1);
                Err(RecycleError::message("not to be used again"))
            }
        }
    }

    /// Counts a connection that leaves its slot for good, whyever it does.
    fn detach(&self, _: &mut Aged<C::Connection>) {
        self.closed.fetch_add(1, Relaxed);
    }
}
