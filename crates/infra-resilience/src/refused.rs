//! Why a call was not made.

use std::{fmt, time::Duration};

use infra_core::{
    Error, ErrorKind,
    metric::{Label, LabelSet},
};

use crate::telemetry::REFUSED;

/// Which bound a call met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The circuit is open.
    BreakerOpen,
    /// The circuit is half-open, and all its probes are running.
    BreakerProbing,
    /// An operator holds the circuit open.
    BreakerForced,
    /// All places are taken, and so is the queue.
    QueueFull,
    /// No place became free within the wait limit, or before the deadline.
    WaitedTooLong,
    /// Somebody of a higher priority, or with a smaller share, took its place in the queue.
    Displaced,
    /// The load is too high for its priority.
    Load,
    /// Memory has passed its soft limit, and the priority is not high enough.
    MemorySoft,
    /// Memory has passed its hard limit.
    MemoryHard,
    /// No more keys can be told apart.
    KeysFull,
    /// The pool has no connection left and nobody may wait any more.
    PoolExhausted,
    /// Its deadline had passed.
    DeadlinePassed,
}

impl Label for Reason {
    const SET: LabelSet = LabelSet {
        name: "reason",
        values: &[
            "breaker_open",
            "breaker_probing",
            "breaker_forced",
            "queue_full",
            "waited_too_long",
            "displaced",
            "load",
            "memory_soft",
            "memory_hard",
            "keys_full",
            "pool_exhausted",
            "deadline_passed",
        ],
    };

    fn value(self) -> &'static str {
        match self {
            Self::BreakerOpen => "breaker_open",
            Self::BreakerProbing => "breaker_probing",
            Self::BreakerForced => "breaker_forced",
            Self::QueueFull => "queue_full",
            Self::WaitedTooLong => "waited_too_long",
            Self::Displaced => "displaced",
            Self::Load => "load",
            Self::MemorySoft => "memory_soft",
            Self::MemoryHard => "memory_hard",
            Self::KeysFull => "keys_full",
            Self::PoolExhausted => "pool_exhausted",
            Self::DeadlinePassed => "deadline_passed",
        }
    }
}

/// The source of an error that says that a call was not even begun.
///
/// ```
/// use infra_core::SystemClock;
/// use infra_resilience::{Breaker, Reason, Refused};
///
/// let breaker = Breaker::new(Default::default(), SystemClock::shared());
/// breaker.force(infra_resilience::Mode::ForcedOpen);
/// let error = breaker.admit("ask").unwrap_err();
/// assert_eq!(Refused::of(&error).map(Refused::reason), Some(Reason::BreakerForced));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    reason: Reason,
    retry_after: Option<Duration>,
}

impl Refused {
    /// Returns the refusal that an error tells of, if it tells of one.
    pub fn of(error: &Error) -> Option<&Self> {
        std::error::Error::source(error)?.downcast_ref()
    }

    /// Returns which bound was met.
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// Returns when it is worth asking again, if that is known.
    pub const fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Counts a refusal and returns it as the error of `operation`.
    pub(crate) fn error(
        reason: Reason,
        retry_after: Option<Duration>,
        operation: &'static str,
    ) -> Error {
        REFUSED.add_for(reason, 1);
        let kind = match reason {
            Reason::BreakerOpen | Reason::BreakerProbing | Reason::BreakerForced => {
                ErrorKind::Unavailable
            }
            Reason::QueueFull
            | Reason::WaitedTooLong
            | Reason::Displaced
            | Reason::Load
            | Reason::MemorySoft
            | Reason::MemoryHard
            | Reason::KeysFull
            | Reason::PoolExhausted => ErrorKind::Overloaded,
            Reason::DeadlinePassed => ErrorKind::Timeout,
        };
        let text = match reason {
            Reason::BreakerOpen => "the circuit is open",
            Reason::BreakerProbing => "the circuit is half-open and all its probes are running",
            Reason::BreakerForced => "the circuit is held open",
            Reason::QueueFull => "all places and the queue are taken",
            Reason::WaitedTooLong => "no place became free in time",
            Reason::Displaced => "the place in the queue went to somebody else",
            Reason::Load => "the load is too high for this priority",
            Reason::MemorySoft => "memory has passed its soft limit",
            Reason::MemoryHard => "memory has passed its hard limit",
            Reason::KeysFull => "no more keys can be told apart",
            Reason::PoolExhausted => "all connections are taken",
            Reason::DeadlinePassed => "not begun: the deadline had passed",
        };
        Error::new(kind, operation).detail(text).because(Self { reason, retry_after })
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused: {}", self.reason.value())?;
        match self.retry_after {
            Some(wait) => write!(f, ", again after {} ms", wait.as_millis()),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Refused {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_label_of_its_own_and_an_error_that_may_pass() {
        let reasons = [
            Reason::BreakerOpen,
            Reason::BreakerProbing,
            Reason::BreakerForced,
            Reason::QueueFull,
            Reason::WaitedTooLong,
            Reason::Displaced,
            Reason::Load,
            Reason::MemorySoft,
            Reason::MemoryHard,
            Reason::KeysFull,
            Reason::PoolExhausted,
            Reason::DeadlinePassed,
        ];
        assert_eq!(reasons.map(Label::value), Reason::SET.values);
        for reason in reasons {
            let error = Refused::error(reason, Some(Duration::from_secs(1)), "ask");
            assert!(error.is_transient(), "{error}");
            let refused = Refused::of(&error).unwrap();
            assert_eq!(refused.reason(), reason);
            assert!(refused.to_string().ends_with(", again after 1000 ms"));
        }
        assert_eq!(Refused::of(&Error::invalid("ask", "no")), None);
    }
}
