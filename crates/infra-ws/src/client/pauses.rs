//! How long a client waits before it connects again.
//!
//! A server that restarts is back within seconds, and a thousand clients that knock once a second cost it
//! nothing: while one is looked for, pauses stay short. Where the server is there and refuses, and where
//! nobody came back in time, they grow.

use std::time::Duration;

use infra_core::{backoff::Backoff, clock::Instant, random::Random};

/// What stood in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// Nobody was there: the server restarts, the connection was cut, or there was none.
    Away,
    /// The server was there, or somebody who said nothing of use.
    Busy,
}

/// How long a server that is away is looked for with short pauses, and how short they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Search {
    pub(super) cap: Duration,
    pub(super) window: Duration,
}

/// The pauses of a client.
#[derive(Debug)]
pub(super) struct Pauses {
    backoff: Backoff,
    search: Search,
    /// When the client was last connected, or began.
    since: Instant,
    n_knocks: u32,
    n_failures: u32,
    last: Duration,
}

impl Pauses {
    pub(super) const fn new(backoff: Backoff, search: Search, now: Instant) -> Self {
        Self { backoff, search, since: now, n_knocks: 0, n_failures: 0, last: Duration::ZERO }
    }

    /// Begins anew: a connection that was good is over.
    pub(super) const fn begin(&mut self, now: Instant) {
        *self = Self::new(self.backoff, self.search, now);
    }

    /// Returns the next pause.
    pub(super) fn next(&mut self, obstacle: Obstacle, now: Instant, random: &Random) -> Duration {
        let is_soon = now.since(self.since) < self.search.window;
        self.last = if obstacle == Obstacle::Away && is_soon {
            self.n_knocks = self.n_knocks.saturating_add(1);
            let capped = self.backoff.capped_at(self.search.cap);
            let shorter = |one: Backoff, other: Backoff| {
                one.pause_before(self.n_knocks) <= other.pause_before(self.n_knocks)
            };
            let schedule = if shorter(self.backoff, capped) { self.backoff } else { capped };
            schedule.pause(self.n_knocks, self.last, random)
        } else {
            self.n_failures = self.n_failures.saturating_add(1);
            self.backoff.pause(self.n_failures, self.last, random)
        };
        self.last
    }

    /// Returns a moment after a time before which the server said it takes nobody: not all at once.
    pub(super) fn after(&self, named: Duration, random: &Random) -> Duration {
        named.saturating_add(self.search.cap.mul_f64(random.unit()))
    }
}

#[cfg(test)]
mod tests {
    use infra_core::{Clock as _, backoff::Jitter};
    use infra_testkit::clock::ManualClock;

    use super::*;

    const SEARCH: Search = Search { cap: Duration::from_secs(1), window: Duration::from_secs(30) };

    fn backoff() -> Backoff {
        Backoff::exponential(Duration::from_millis(500)).capped_at(Duration::from_secs(10))
    }

    #[test]
    fn a_server_that_is_away_is_looked_for_with_short_pauses_for_half_a_minute_and_then_with_growing_ones()
     {
        let (clock, random) = (ManualClock::new(), Random::seeded(1));
        let mut pauses = Pauses::new(backoff().jitter(Jitter::None), SEARCH, clock.now());
        let mut drawn = Vec::new();
        for _ in 0..38 {
            let pause = pauses.next(Obstacle::Away, clock.now(), &random);
            clock.advance(pause);
            drawn.push(pause.as_millis());
        }
        assert_eq!(drawn[0], 500);
        assert!(drawn[1..31].iter().all(|pause| *pause == 1_000), "{drawn:?}");
        assert_eq!(drawn[31..], [500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000]);
        pauses.begin(clock.now());
        assert_eq!(pauses.next(Obstacle::Away, clock.now(), &random).as_millis(), 500);
    }

    #[test]
    fn the_short_pauses_are_scattered_over_the_whole_second() {
        let (clock, random) = (ManualClock::new(), Random::seeded(2));
        let mut pauses = Pauses::new(backoff(), SEARCH, clock.now());
        let drawn: Vec<Duration> =
            (0..400).map(|_| pauses.next(Obstacle::Away, clock.now(), &random)).collect();
        assert!(drawn.iter().all(|pause| *pause < SEARCH.cap));
        let within = |from: u64| {
            let (from, to) = (Duration::from_millis(from), Duration::from_millis(from + 250));
            drawn.iter().filter(|pause| from <= **pause && **pause < to).count()
        };
        assert!([0, 250, 500, 750].map(within).iter().all(|count| 60 < *count), "{drawn:?}");
        let named = Duration::from_secs(2);
        let after = pauses.after(named, &random);
        assert!(named <= after && after < named + SEARCH.cap, "{after:?}");
    }

    #[test]
    fn pauses_grow_from_the_first_on_while_the_server_is_there_and_refuses() {
        let (clock, random) = (ManualClock::new(), Random::seeded(3));
        let mut pauses = Pauses::new(backoff().jitter(Jitter::None), SEARCH, clock.now());
        let mut next = |obstacle| pauses.next(obstacle, clock.now(), &random).as_millis();
        assert_eq!([(); 4].map(|()| next(Obstacle::Busy)), [500, 1_000, 2_000, 4_000]);
        assert_eq!(next(Obstacle::Away), 500, "what is told apart is counted apart");
        assert_eq!(next(Obstacle::Busy), 8_000);
    }

    #[test]
    fn a_shorter_cap_of_the_callers_own_stays() {
        let (clock, random) = (ManualClock::new(), Random::seeded(4));
        let short = Backoff::fixed(Duration::from_millis(50)).capped_at(Duration::from_millis(20));
        let mut pauses = Pauses::new(short.jitter(Jitter::None), SEARCH, clock.now());
        let pause = pauses.next(Obstacle::Away, clock.now(), &random);
        assert_eq!(pause, Duration::from_millis(20));
    }
}
