//! How a client of rooms connects.

use std::{fmt, sync::Arc, time::Duration};

use infra_core::backoff::Backoff;

use super::pauses::Search;

type Token = Arc<dyn Fn() -> String + Send + Sync>;

/// How a client of rooms connects.
#[derive(Clone)]
pub struct RoomsOptions {
    pub(super) url: String,
    pub(super) token: Token,
    pub(super) backoff: Backoff,
    pub(super) search: Search,
    pub(super) seed: Option<u64>,
    pub(super) patience: Duration,
}

impl fmt::Debug for RoomsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoomsOptions").field("url", &self.url).finish_non_exhaustive()
    }
}

impl RoomsOptions {
    /// Creates the options of a client that connects to `url` (`ws://host:port/path`) and identifies
    /// itself by what `token` returns at each connection.
    pub fn new(url: impl Into<String>, token: impl Fn() -> String + Send + Sync + 'static) -> Self {
        let backoff = Backoff::exponential(Duration::from_millis(500));
        Self {
            url: url.into(),
            token: Arc::new(token),
            backoff: backoff.capped_at(Duration::from_secs(10)),
            search: Search { cap: Duration::from_secs(1), window: Duration::from_secs(30) },
            seed: None,
            patience: Duration::from_mins(1),
        }
    }

    /// Sets the pauses before it connects again; from 500 ms doubling to 10 s, with full jitter, by
    /// default.
    #[must_use]
    pub const fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets how long a server that restarts, or is away otherwise, is looked for with short pauses,
    /// and the longest of these: half a minute and a second by default. A window of zero lets all
    /// pauses grow.
    ///
    /// A shorter time finds the server sooner and costs it as many more attempts.
    #[must_use]
    pub const fn search(mut self, window: Duration, longest: Duration) -> Self {
        self.search = Search { cap: longest, window };
        self
    }

    /// Sets the seed of the jitter; drawn from the system by default.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Sets after how long without a word, also of a ping, the connection counts as lost; a minute
    /// by default. It should be more than two of the server's heartbeats.
    ///
    /// A caller waits as long for its turn, and then for the answer to a question, also while there
    /// is no connection or nobody takes what is heard.
    #[must_use]
    pub const fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }
}
