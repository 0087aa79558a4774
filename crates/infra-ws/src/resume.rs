//! Whether a client that comes back can be given exactly what it missed, as a pure decision.
//!
//! A stream has an epoch (its incarnation) and offsets (1, 2, 3, ...). A client names the epoch and
//! the last offset it saw. It gets everything after that, in order and without a hole, or it is
//! told why not and gets the whole state: never a part. The rule is that of Centrifugo's recovery.

/// What the server has of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History<'a> {
    /// The stream's incarnation.
    pub epoch: &'a str,
    /// The first offset that can still be read.
    pub first: u64,
    /// The last offset; zero for none.
    pub last: u64,
    /// The most offsets that are sent again; beyond it the whole state is cheaper.
    pub limit: u64,
}

/// Why a client cannot be given what it missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The stream of that name began anew.
    EpochChanged,
    /// What it missed is no longer kept, or is more than is sent again.
    TooOld,
    /// It claims to have seen what does not exist.
    Ahead,
}

/// What a client that comes back is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Recovery {
    /// The offsets from `from` to `to`, both included; none if `to < from`.
    Recovered {
        /// The first.
        from: u64,
        /// The last.
        to: u64,
    },
    /// The whole state.
    NotRecovered(Reason),
}

/// Decides what a client that saw `offset` of `epoch` is given.
///
/// ```
/// use infra_ws::resume::{History, Recovery, decide};
///
/// let history = History { epoch: "a", first: 1, last: 9, limit: 100 };
/// assert_eq!(decide("a", 7, &history), Recovery::Recovered { from: 8, to: 9 });
/// ```
pub fn decide(epoch: &str, offset: u64, history: &History<'_>) -> Recovery {
    if epoch != history.epoch {
        return Recovery::NotRecovered(Reason::EpochChanged);
    }
    if history.last < offset {
        return Recovery::NotRecovered(Reason::Ahead);
    }
    let from = offset + 1;
    if from < history.first || history.limit < history.last - offset {
        return Recovery::NotRecovered(Reason::TooOld);
    }
    Recovery::Recovered { from, to: history.last }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_client_gets_all_it_missed_or_the_reason(
            offset in 0..40_u64,
            first in 1..20_u64,
            length in 0..20_u64,
            limit in 0..30_u64,
            is_same: bool,
        ) {
            let last = first + length - 1;
            let history = History { epoch: "a", first, last, limit };
            let missed: Vec<u64> = (offset + 1..=last).collect();
            match decide(if is_same { "a" } else { "b" }, offset, &history) {
                Recovery::Recovered { from, to } => {
                    prop_assert_eq!((from..=to).collect::<Vec<_>>(), missed.clone());
                    prop_assert!(missed.iter().all(|offset| first <= *offset));
                    prop_assert!(missed.len() as u64 <= limit && is_same);
                }
                Recovery::NotRecovered(Reason::EpochChanged) => prop_assert!(!is_same),
                Recovery::NotRecovered(Reason::Ahead) => prop_assert!(last < offset),
                Recovery::NotRecovered(Reason::TooOld) => {
                    let is_gone = missed.iter().any(|offset| *offset < first) || offset + 1 < first;
                    prop_assert!(is_gone || limit < missed.len() as u64);
                }
            }
        }
    }
}
