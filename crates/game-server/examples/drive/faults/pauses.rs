//! How long a client waits before it connects again, as the protocol says.

use std::time::{Duration, Instant};

use infra_core::random::Random;

/// How long a server that is away is looked for with short pauses.
const SEARCH: Duration = Duration::from_secs(30);

/// The pauses of a client.
#[derive(Debug)]
pub(super) struct Pauses {
    /// When it was last in its room.
    since: Instant,
    n_knocks: u32,
    n_failures: u32,
}

impl Pauses {
    /// Begins anew.
    pub(super) fn new() -> Self {
        Self { since: Instant::now(), n_knocks: 0, n_failures: 0 }
    }

    /// Returns the next one, which is for a server that is away or for one that does not want it now.
    pub(super) fn next(&mut self, is_away: bool, random: &Random) -> Duration {
        let is_short = is_away && self.since.elapsed() < SEARCH;
        let (count, cap) =
            if is_short { (&mut self.n_knocks, 1_000) } else { (&mut self.n_failures, 10_000) };
        let bound = (500_u64 << (*count).min(5)).min(cap);
        *count += 1;
        Duration::from_millis(random.below(bound))
    }
}
