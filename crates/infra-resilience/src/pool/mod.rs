//! A bounded pool of connections, on deadpool.
//!
//! deadpool has the slots and the fair queue. Ours are the minimum, the overflow, the bound on who
//! waits, ages by the injected clock, and the reaper.

mod manager;
mod reaper;

use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use deadpool::{
    Runtime,
    managed::{Object, Pool as Slots, PoolConfig, PoolError, QueueMode, TimeoutType, Timeouts},
};
use infra_core::{Clock, Error, ErrorKind, Result, budget::Deadline, context::Context};

use self::manager::{Aged, Manager};
use crate::{
    refused::{Reason, Refused},
    telemetry::{POOL, Pooled},
};

/// Makes connections, and looks whether they still work.
pub trait Connect: Send + Sync + 'static {
    /// What is pooled.
    type Connection: Send + 'static;

    /// Opens a connection.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing open.
    fn connect(&self) -> impl Future<Output = Result<Self::Connection>> + Send;

    /// Looks whether a connection that was idle still works; one that does not is closed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    fn check(&self, connection: &mut Self::Connection) -> impl Future<Output = Result<()>> + Send;
}

/// How many connections, for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    min: usize,
    max: usize,
    overflow: usize,
    queue: usize,
    wait: Duration,
    connect: Duration,
    idle: Duration,
    lifetime: Duration,
    check_after: Duration,
}

impl Options {
    /// Keeps up to `max` connections, at least one.
    pub fn new(max: usize) -> Self {
        Self {
            min: 0,
            max: max.max(1),
            overflow: 0,
            queue: 100,
            wait: Duration::from_secs(30),
            connect: Duration::from_secs(5),
            idle: Duration::from_mins(10),
            lifetime: Duration::from_hours(1),
            check_after: Duration::from_mins(5),
        }
    }

    /// Sets how many connections the reaper keeps open, up to the maximum; none by default.
    #[must_use]
    pub fn min(mut self, connections: usize) -> Self {
        self.min = connections.min(self.max);
        self
    }

    /// Sets how many more there may be in a rush, which are closed when they are given back; none by
    /// default.
    #[must_use]
    pub const fn overflow(mut self, connections: usize) -> Self {
        self.overflow = connections;
        self
    }

    /// Sets how many may wait for a connection, and how long; 100 and 30 s by default, never beyond
    /// the context's deadline.
    #[must_use]
    pub const fn queue(mut self, waiters: usize, wait: Duration) -> Self {
        (self.queue, self.wait) = (waiters, wait);
        self
    }

    /// Sets how long opening a connection may take; 5 s by default.
    #[must_use]
    pub const fn connect_within(mut self, limit: Duration) -> Self {
        self.connect = limit;
        self
    }

    /// Sets after what idle time the reaper closes a connection; 10 min by default.
    #[must_use]
    pub const fn idle(mut self, limit: Duration) -> Self {
        self.idle = limit;
        self
    }

    /// Sets from what age on a connection is used no more; 1 h by default.
    #[must_use]
    pub const fn lifetime(mut self, limit: Duration) -> Self {
        self.lifetime = limit;
        self
    }

    /// Sets after what idle time a connection is checked before it is handed out; 5 min by default.
    #[must_use]
    pub const fn check_after(mut self, idle: Duration) -> Self {
        self.check_after = idle;
        self
    }
}

/// A pool of connections. Clones share it; run its reaper ([`Pool::run`]).
///
/// ```
/// use infra_core::{Result, SystemClock};
/// use infra_resilience::pool::{Connect, Options, Pool};
///
/// #[derive(Debug)]
/// struct Numbers;
///
/// impl Connect for Numbers {
///     type Connection = u32;
///     async fn connect(&self) -> Result<u32> { Ok(7) }
///     async fn check(&self, _: &mut u32) -> Result<()> { Ok(()) }
/// }
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let pool = Pool::new(Numbers, Options::new(10).min(2), SystemClock::shared())?;
/// let connection = pool.get().await?;
/// assert_eq!((*connection, pool.stats().taken), (7, 1));
/// # Ok::<(), infra_core::Error>(()) }).unwrap();
/// ```
pub struct Pool<C: Connect> {
    slots: Slots<Manager<C>>,
    options: Options,
    waiting: Arc<AtomicUsize>,
}

/// What a pool counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Connections that are open or being opened.
    pub size: usize,
    /// Connections that are handed out.
    pub taken: usize,
    /// Callers that wait for a connection.
    pub waiting: usize,
    /// Connections that were opened.
    pub opened: u64,
    /// Connections that were closed, for whatever reason.
    pub closed: u64,
}

impl<C: Connect> Pool<C> {
    /// Creates a pool without connections; the reaper opens the minimum.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Internal`] if deadpool refuses what it is built from.
    pub fn new(connect: C, options: Options, clock: Arc<dyn Clock>) -> Result<Self> {
        let mut config = PoolConfig::new(options.max.saturating_add(options.overflow));
        // The youngest first, so that the others grow idle and can be closed.
        config.queue_mode = QueueMode::Lifo;
        let slots = Slots::builder(Manager::new(connect, options, clock))
            .config(config)
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|cause| Error::new(ErrorKind::Internal, "build pool").because(cause))?;
        Ok(Self { slots, options, waiting: Arc::default() })
    }

    /// Takes a connection: one that is idle, a new one, or the next that is given back.
    ///
    /// # Errors
    ///
    /// That of [`Connect::connect`]; [`ErrorKind::Overloaded`] with [`Refused`] as its source if too
    /// many wait already or none became free in time; [`ErrorKind::Timeout`] if none was opened, or found to
    /// work, before the context's deadline or within the wait limit and the time of one opening, however many
    /// idle ones are dead; [`ErrorKind::Closed`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future takes nothing; a connection that was being opened or checked is closed.
    pub async fn get(&self) -> Result<Taken<C>> {
        let longest = self.options.wait.saturating_add(self.options.connect);
        let late = |_| {
            let detail = "none was opened or found to work in time";
            Err(Error::new(ErrorKind::Timeout, "get connection").detail(detail))
        };
        tokio::time::timeout(self.within(longest), self.take()).await.unwrap_or_else(late)
    }

    /// Returns what is left of a time until the context's deadline.
    fn within(&self, time: Duration) -> Duration {
        let left = |deadline: Deadline| deadline.left(self.slots.manager().now());
        Context::current().deadline_of().map_or(time, |deadline| left(deadline).min(time))
    }

    async fn take(&self) -> Result<Taken<C>> {
        let none = Timeouts { wait: Some(Duration::ZERO), create: None, recycle: None };
        let taken = match self.slots.timeout_get(&none).await {
            Err(PoolError::Timeout(TimeoutType::Wait)) => self.wait().await?,
            taken => taken.map_err(failure)?,
        };
        Ok(Taken { object: Some(taken), max: self.options.max })
    }

    async fn wait(&self) -> Result<Object<Manager<C>>> {
        let Some(_waiter) = Waiter::join(&self.waiting, self.options.queue) else {
            return Err(Refused::error(Reason::PoolExhausted, None, "get connection"));
        };
        let wait = self.within(self.options.wait);
        // Zero would mean not to wait at all, which says the same.
        let timeouts = Timeouts { wait: Some(wait), create: None, recycle: None };
        self.slots.timeout_get(&timeouts).await.map_err(failure)
    }

    /// Returns what is counted.
    pub fn stats(&self) -> Stats {
        let status = self.slots.status();
        let (opened, closed) = self.slots.manager().counts();
        let taken = status.size.saturating_sub(status.available);
        Stats { size: status.size, taken, waiting: self.waiting.load(SeqCst), opened, closed }
    }

    /// Closes the idle connections and refuses further callers; taken ones are closed when they are
    /// given back.
    pub fn close(&self) {
        // deadpool would close the idle ones without a word to the manager.
        let _closed = self.slots.retain(|_, _| false);
        self.slots.close();
    }
}

/// Says why no connection was got.
fn failure(error: PoolError<Error>) -> Error {
    match error {
        PoolError::Backend(error) => error,
        PoolError::Timeout(TimeoutType::Wait) => {
            Refused::error(Reason::WaitedTooLong, None, "get connection")
        }
        PoolError::Closed => Error::new(ErrorKind::Closed, "get connection"),
        error @ (PoolError::Timeout(TimeoutType::Create | TimeoutType::Recycle)
        | PoolError::NoRuntimeSpecified
        | PoolError::PostCreateHook(_)) => {
            Error::new(ErrorKind::Internal, "get connection").because(error)
        }
    }
}

/// Somebody who waits; counted until it is dropped.
struct Waiter<'a>(&'a AtomicUsize);

impl<'a> Waiter<'a> {
    fn join(waiting: &'a AtomicUsize, most: usize) -> Option<Self> {
        let join = |waiting: usize| (waiting < most).then_some(waiting + 1);
        waiting.fetch_update(SeqCst, SeqCst, join).is_ok().then(|| Self(waiting))
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// A connection that is taken; dropped, it goes back.
pub struct Taken<C: Connect> {
    object: Option<Object<Manager<C>>>,
    max: usize,
}

impl<C: Connect> Taken<C> {
    fn aged(&self) -> &Aged<C::Connection> {
        #[expect(clippy::expect_used, reason = "only discard and drop take it out, by value")]
        self.object.as_ref().expect("a connection that is taken")
    }

    /// Closes the connection, since it does not work any more.
    pub fn discard(mut self) {
        if let Some(object) = self.object.take() {
            close(object, Pooled::Invalid);
        }
    }
}

impl<C: Connect> Deref for Taken<C> {
    type Target = C::Connection;

    fn deref(&self) -> &C::Connection {
        &self.aged().connection
    }
}

impl<C: Connect> DerefMut for Taken<C> {
    fn deref_mut(&mut self) -> &mut C::Connection {
        #[expect(clippy::expect_used, reason = "only discard and drop take it out, by value")]
        let object = self.object.as_mut().expect("a connection that is taken");
        &mut object.connection
    }
}

impl<C: Connect> Drop for Taken<C> {
    fn drop(&mut self) {
        let Some(mut object) = self.object.take() else { return };
        let is_above = Object::pool(&object).is_none_or(|pool| self.max < pool.status().size);
        if is_above {
            return close(object, Pooled::Overflow);
        }
        if let Some(pool) = Object::pool(&object) {
            object.idle_since = pool.manager().now();
        }
    }
}

/// Takes a connection out of its pool for good.
fn close<C: Connect>(object: Object<Manager<C>>, why: Pooled) {
    drop(Object::take(object));
    POOL.add_for(why, 1);
}

impl<C: Connect> Clone for Pool<C> {
    fn clone(&self) -> Self {
        let (slots, waiting) = (self.slots.clone(), Arc::clone(&self.waiting));
        Self { slots, options: self.options, waiting }
    }
}

impl<C: Connect> fmt::Debug for Pool<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl<C: Connect> fmt::Debug for Taken<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Taken").finish_non_exhaustive()
    }
}
