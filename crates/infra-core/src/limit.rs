//! Rate limits: one atomic decision over several limits, and the ladder of a connection.

use std::{fmt::Debug, num::NonZeroU32, time::Duration};

use async_trait::async_trait;

use crate::{clock::Instant, error::Result};

/// A cost against one key of one limit.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Charge {
    /// The limit's name, as it was declared to the limiter.
    pub limit: &'static str,
    /// Who pays: a player, a room, an address.
    pub key: String,
    /// How much; the server decides, never the client.
    pub cost: NonZeroU32,
}

impl Charge {
    /// Creates a charge of one.
    pub fn one(limit: &'static str, key: impl Into<String>) -> Self {
        Self { limit, key: key.into(), cost: NonZeroU32::MIN }
    }

    /// Sets the cost.
    #[must_use]
    pub const fn cost(mut self, cost: NonZeroU32) -> Self {
        self.cost = cost;
        self
    }
}

/// Whether a request may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It may; everything was paid.
    Admitted,
    /// Not now; nothing was paid. The same request can pass after this time, rounded up.
    RetryAfter(Duration),
    /// Never: it costs more than the limit can ever hold. Nothing was paid.
    Never,
}

/// The answer of a limiter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Whether the request may pass.
    pub verdict: Verdict,
    /// The limit that refused, or the one with the least left.
    pub limit: &'static str,
    /// What that limit holds when it is full.
    pub capacity: u32,
    /// What is left of it now.
    pub remaining: u32,
    /// The time until it is full again.
    pub reset: Duration,
    /// The time in which an empty limit becomes full; zero for one that time does not refill.
    pub window: Duration,
}

impl Decision {
    /// Returns whether the request may pass.
    pub const fn is_admitted(&self) -> bool {
        matches!(self.verdict, Verdict::Admitted)
    }

    /// Returns the time to wait, if waiting helps.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self.verdict {
            Verdict::RetryAfter(pause) => Some(pause),
            Verdict::Admitted | Verdict::Never => None,
        }
    }
}

/// How an estimate that was paid in advance is settled. Engines implement it; callers hold a
/// [`Reservation`].
pub trait Settle: Send + Debug {
    /// Gives back all but `actual` of each charge (all of it for zero). Called once.
    fn settle(&mut self, actual: u32);

    /// Keeps what was paid, and ends what is only held: permits of a limit on concurrency. Called
    /// once, instead of `settle`.
    fn keep(&mut self) {}
}

/// An estimate that was paid; dropping it gives everything back.
#[derive(Debug)]
pub struct Reservation {
    settlement: Option<Box<dyn Settle>>,
}

impl Reservation {
    /// Wraps an engine's settlement.
    pub fn new(settlement: Box<dyn Settle>) -> Self {
        Self { settlement: Some(settlement) }
    }

    /// Keeps what was paid; a permit of a limit on concurrency is given back all the same.
    pub fn keep(mut self) {
        if let Some(mut settlement) = self.settlement.take() {
            settlement.keep();
        }
    }

    /// Gives back all but `actual` of each charge; more than the estimate is the estimate.
    pub fn settle(mut self, actual: u32) {
        if let Some(mut settlement) = self.settlement.take() {
            settlement.settle(actual);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(mut settlement) = self.settlement.take() {
            settlement.settle(0);
        }
    }
}

/// Decides how often things may happen.
///
/// # Contract
///
/// 1. **All or nothing:** several charges pass together or not at all; a refusal costs nothing.
/// 2. **Exact under contention:** concurrent callers together get the limit, never more.
/// 3. **Refusal is a value:** only an outage, an undeclared limit or a bad key is an error.
/// 4. **Honest wait:** after `RetryAfter(d)` and `d` of quiet, the same request passes; of several
///    limits that refuse, the one with the longest wait answers.
/// 5. **Never:** a cost above the limit's capacity is `Never`, not a wait.
/// 6. **Peeking is free:** `peek` changes nothing and answers as `acquire` would.
/// 7. **Refunded:** a dropped reservation gives back exactly what it took, less what time has given
///    back already.
/// 8. **Apart:** keys of one limit, and equal keys of two limits, never share a budget.
/// 9. **Exact window:** what a limit with a log admitted counts until just before it is as old as the
///    window is long.
/// 10. **Bounded windows:** in no stretch as long as its window a log admits more than its capacity,
///     nor any other window more than twice of it; all clauses hold for windows too.
#[async_trait]
pub trait RateLimiter: Send + Sync + Debug {
    /// Pays all charges, or none.
    ///
    /// # Errors
    ///
    /// [`Invalid`](crate::error::ErrorKind::Invalid) for a limit that was not declared, the same
    /// limit and key twice, or no charge at all; what the engine's declared outage policy says.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the charges paid or not, all or none.
    async fn acquire(&self, charges: &[Charge]) -> Result<Decision>;

    /// Pays an estimate that can be settled later; the reservation is there if it was admitted.
    ///
    /// # Errors
    ///
    /// As for [`RateLimiter::acquire`].
    ///
    /// # Cancel safety
    ///
    /// As for [`RateLimiter::acquire`]; what was paid by a dropped future is not given back.
    async fn reserve(&self, charges: &[Charge]) -> Result<(Decision, Option<Reservation>)>;

    /// Answers as `acquire` would, without paying.
    ///
    /// # Errors
    ///
    /// As for [`RateLimiter::acquire`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    async fn peek(&self, charges: &[Charge]) -> Result<Decision>;
}

/// What kind of message a connection received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// An action of the game.
    Input,
    /// Talk.
    Chat,
    /// Everything else: lists, pings, malformed messages.
    Control,
}

/// What a connection's ladder says of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Serve it.
    Allow,
    /// Serve it and tell the client that it is near its limit.
    Warn,
    /// Serve it after a pause.
    Delay(Duration),
    /// Do not serve it.
    Drop,
    /// Close the connection.
    Kick,
}

/// The rising answers to one connection's messages; owned by the connection, so without locks.
pub trait Ladder: Send + Debug {
    /// Judges one message.
    fn judge(&mut self, class: Class, cost: NonZeroU32, now: Instant) -> Step;
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use super::*;

    #[derive(Debug)]
    struct Settled(Arc<AtomicU32>);

    impl Settle for Settled {
        fn settle(&mut self, actual: u32) {
            self.0.store(actual, Ordering::SeqCst);
        }
    }

    fn after(end: impl FnOnce(Reservation)) -> u32 {
        let settled = Arc::new(AtomicU32::new(99));
        end(Reservation::new(Box::new(Settled(Arc::clone(&settled)))));
        settled.load(Ordering::SeqCst)
    }

    #[test]
    fn a_reservation_is_kept_settled_or_given_back_once() {
        assert_eq!(after(Reservation::keep), 99);
        assert_eq!(after(|reservation| reservation.settle(4)), 4);
        assert_eq!(after(drop), 0);
    }

    #[test]
    fn only_a_temporary_refusal_has_a_time_to_retry() {
        let decision = |verdict| Decision {
            verdict,
            limit: "player",
            capacity: 10,
            remaining: 0,
            reset: Duration::ZERO,
            window: Duration::from_secs(10),
        };
        let pause = Duration::from_secs(1);
        assert!(decision(Verdict::Admitted).is_admitted());
        assert_eq!(decision(Verdict::RetryAfter(pause)).retry_after(), Some(pause));
        assert_eq!(decision(Verdict::Never).retry_after(), None);
        assert_eq!(Charge::one("player", "ann").cost.get(), 1);
    }
}
