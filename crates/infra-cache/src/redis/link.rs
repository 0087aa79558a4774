//! The link to a server: one multiplexed connection, a time limit for each call, and a circuit that
//! keeps time-outs from adding up.

use std::{
    fmt::{self, Debug},
    sync::Arc,
    time::Duration,
};

use infra_core::{Clock, Error, ErrorKind, Result, backoff::Backoff, clock::Instant};
use parking_lot::Mutex;
use redis::{AsyncConnectionConfig, Client, RedisError, aio::MultiplexedConnection};
use tokio::time::timeout;

use crate::telemetry::{CALLS, Call};

/// How a server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisOptions {
    pub(super) url: String,
    pub(super) prefix: String,
    pub(super) capacity: u64,
    timeout: Duration,
    pause: Backoff,
}

impl RedisOptions {
    /// Creates the options for a server and the prefix of all keys there.
    ///
    /// A call may take a quarter of a second, and after a failed one the server is left alone for a
    /// tenth of a second, doubled up to two seconds.
    pub fn new(url: impl Into<String>, prefix: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            prefix: prefix.into(),
            capacity: 0,
            timeout: Duration::from_millis(250),
            pause: Backoff::exponential(Duration::from_millis(100))
                .capped_at(Duration::from_secs(2)),
        }
    }

    /// Sets how many values are kept under the prefix, the oldest go first; by default as many as the server
    /// has room for.
    #[must_use]
    pub const fn capacity(mut self, values: u64) -> Self {
        self.capacity = values;
        self
    }

    /// Sets how long a call may take.
    #[must_use]
    pub const fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }

    /// Sets for how long the server is left alone after a failed call.
    #[must_use]
    pub const fn pause(mut self, pause: Backoff) -> Self {
        self.pause = pause;
        self
    }
}

/// Whether a call changes something: then its fate is unknown if it was sent and not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    Reads,
    /// It may be repeated.
    Writes,
    /// It may not be repeated.
    Counts,
}

/// What the server said of itself when it was connected to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Greeting {
    /// The number of the server's run; another one after each restart.
    pub(super) run: String,
    /// Whether keys may be evicted that have no time to live, or that have one.
    pub(super) evicts: bool,
}

/// A connection and the run of the server at its other end.
#[derive(Clone)]
pub(super) struct Line {
    pub(super) connection: MultiplexedConnection,
    pub(super) greeting: Arc<Greeting>,
}

/// The one connection, or the pause before the next one.
enum State {
    Open(Line),
    Broken { until: Instant, attempt: u32 },
}

pub(super) struct Link {
    client: Client,
    options: RedisOptions,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    connecting: tokio::sync::Mutex<()>,
}

impl Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("prefix", &self.options.prefix).finish_non_exhaustive()
    }
}

impl Link {
    /// Connects.
    pub(super) async fn open(options: RedisOptions, clock: Arc<dyn Clock>) -> Result<Self> {
        let client = Client::open(options.url.as_str())
            .map_err(|cause| Error::invalid("open Redis client", "the URL").because(cause))?;
        let state = Mutex::new(State::Broken { until: Instant::START, attempt: 0 });
        let link =
            Self { client, options, clock, state, connecting: tokio::sync::Mutex::default() };
        link.line().await?;
        Ok(link)
    }

    pub(super) const fn options(&self) -> &RedisOptions {
        &self.options
    }

    /// Makes a call with the time limit. One that is not answered breaks the connection, so that those
    /// behind it fail at once.
    pub(super) async fn call<T, F>(
        &self,
        what: &'static str,
        effect: Effect,
        call: impl FnOnce(Line) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T, RedisError>>,
    {
        let line = self.line().await?;
        let run = Arc::clone(&line.greeting);
        let answer = timeout(self.options.timeout, call(line)).await;
        let error = match answer {
            Ok(Ok(value)) => {
                CALLS.add_for(Call::Answered, 1);
                return Ok(value);
            }
            Ok(Err(cause)) => {
                let error = of_redis(what, effect, &cause);
                if cause.is_unrecoverable_error() || cause.is_io_error() {
                    self.broke(&run);
                }
                error.because(cause)
            }
            Err(_) => {
                self.broke(&run);
                let kind = if effect == Effect::Reads {
                    ErrorKind::Timeout
                } else {
                    ErrorKind::Indeterminate
                };
                let error = Error::new(kind, what).detail("no answer from Redis");
                if effect == Effect::Counts { error } else { error.idempotent() }
            }
        };
        CALLS.add_for(Call::Failed, 1);
        Err(error)
    }

    /// Returns the connection; makes one if there is none and the pause is over. Of many callers one does.
    async fn line(&self) -> Result<Line> {
        if let Some(line) = self.ready()? {
            return Ok(line);
        }
        let _one = self.connecting.lock().await;
        if let Some(line) = self.ready()? {
            return Ok(line);
        }
        let made = timeout(self.options.timeout * 2, self.connect()).await;
        let late =
            |_| Err(Error::new(ErrorKind::Unavailable, "connect to Redis").detail("no answer"));
        match made.unwrap_or_else(late) {
            Ok(line) => {
                *self.state.lock() = State::Open(line.clone());
                Ok(line)
            }
            Err(error) => {
                CALLS.add_for(Call::Failed, 1);
                self.pause();
                Err(error)
            }
        }
    }

    /// Returns the connection, nothing if one may be made, or the refusal while the circuit is open.
    fn ready(&self) -> Result<Option<Line>> {
        match &*self.state.lock() {
            State::Open(line) => Ok(Some(line.clone())),
            State::Broken { until, .. } if *until <= self.clock.now() => Ok(None),
            State::Broken { .. } => {
                CALLS.add_for(Call::Refused, 1);
                Err(Error::new(ErrorKind::Unavailable, "call Redis")
                    .detail("it failed a moment ago"))
            }
        }
    }

    /// Notes that a connection is of no use any more, unless there is a newer one already.
    fn broke(&self, of: &Arc<Greeting>) {
        let mut state = self.state.lock();
        if matches!(&*state, State::Open(line) if Arc::ptr_eq(&line.greeting, of)) {
            let until = self.clock.now() + self.options.pause.pause_before(1);
            *state = State::Broken { until, attempt: 1 };
        }
    }

    fn pause(&self) {
        let mut state = self.state.lock();
        let attempt = match &*state {
            State::Broken { attempt, .. } => attempt.saturating_add(1),
            State::Open(_) => 1,
        };
        let until = self.clock.now() + self.options.pause.pause_before(attempt);
        *state = State::Broken { until, attempt };
    }

    async fn connect(&self) -> Result<Line> {
        const WHAT: &str = "connect to Redis";
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.options.timeout * 2))
            .set_response_timeout(Some(self.options.timeout));
        let error = |cause: RedisError| of_redis(WHAT, Effect::Reads, &cause).because(cause);
        let connection = self.client.get_multiplexed_async_connection_with_config(&config);
        let mut connection = connection.await.map_err(error)?;
        let info: String = redis::cmd("INFO").query_async(&mut connection).await.map_err(error)?;
        let greeting = Arc::new(greeting(&info)?);
        Ok(Line { connection, greeting })
    }
}

/// Reads what a server says of itself; refuses what does not work with it.
fn greeting(info: &str) -> Result<Greeting> {
    let field = |name: &str| {
        let mut lines = info.lines().filter_map(|line| line.trim_end().split_once(':'));
        lines.find(|(own, _)| *own == name).map_or("", |(_, value)| value)
    };
    let refuse =
        |why: String| Err(Error::new(ErrorKind::Unsupported, "connect to Redis").detail(why));
    let version = field("redis_version");
    let major: u32 = version.split('.').next().and_then(|text| text.parse().ok()).unwrap_or(0);
    if major < 7 {
        return refuse(format!("version {version:?}; scripts need 7 or later"));
    }
    if field("cluster_enabled") == "1" {
        return refuse(
            "a cluster; connect to a single server, with replicas if you like".to_owned(),
        );
    }
    if field("loading") == "1" {
        let loading = Error::new(ErrorKind::Unavailable, "connect to Redis");
        return Err(loading.detail("it is still loading its data"));
    }
    let has_limit = field("maxmemory") != "0";
    let evicts = has_limit && field("maxmemory_policy") != "noeviction";
    Ok(Greeting { run: field("run_id").to_owned(), evicts })
}

/// Translates an error; what was refused before it did anything is never indeterminate.
fn of_redis(what: &'static str, effect: Effect, cause: &RedisError) -> Error {
    let kind = match cause.code() {
        Some("OOM") => ErrorKind::Overloaded,
        Some("NOAUTH" | "NOPERM" | "WRONGPASS") => ErrorKind::Denied,
        Some("LOADING" | "BUSY" | "READONLY" | "MASTERDOWN" | "MISCONF" | "TRYAGAIN") => {
            ErrorKind::Unavailable
        }
        Some("MOVED" | "ASK" | "CROSSSLOT") => ErrorKind::Unsupported,
        Some("NOTINT") => ErrorKind::Invalid,
        Some(_) => ErrorKind::Internal,
        None if cause.is_connection_refusal() => ErrorKind::Unavailable,
        None if effect != Effect::Reads => ErrorKind::Indeterminate,
        None if cause.is_timeout() => ErrorKind::Timeout,
        None => ErrorKind::Unavailable,
    };
    let error = Error::new(kind, what);
    if effect == Effect::Writes { error.idempotent() } else { error }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = "# Server\r\nredis_version:7.0.15\r\nrun_id:abc\r\ncluster_enabled:0\r\n\
        loading:0\r\nmaxmemory:100\r\nmaxmemory_policy:allkeys-lru\r\n";

    #[test]
    fn a_server_that_does_not_do_is_refused_by_name() {
        let kind = |info: String| greeting(&info).map_err(|error| error.kind().clone());
        let fine = Greeting { run: "abc".to_owned(), evicts: true };
        assert_eq!(kind(INFO.to_owned()), Ok(fine.clone()));
        let unlimited = Greeting { evicts: false, ..fine.clone() };
        assert_eq!(kind(INFO.replace("maxmemory:100", "maxmemory:0")), Ok(unlimited.clone()));
        assert_eq!(kind(INFO.replace("allkeys-lru", "noeviction")), Ok(unlimited));
        let cluster = INFO.replace("cluster_enabled:0", "cluster_enabled:1");
        assert_eq!(kind(cluster), Err(ErrorKind::Unsupported));
        assert_eq!(kind(INFO.replace("7.0.15", "6.2.1")), Err(ErrorKind::Unsupported));
        assert_eq!(kind(String::new()), Err(ErrorKind::Unsupported));
        assert_eq!(kind(INFO.replace("loading:0", "loading:1")), Err(ErrorKind::Unavailable));
    }
}
