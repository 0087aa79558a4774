//! How many malformed messages a connection may send, as a pure count.

use std::collections::VecDeque;

use infra_core::clock::Instant;

use crate::protocol::{BAD_MESSAGES, BAD_MESSAGES_WINDOW};

/// The times of the latest malformed messages.
#[derive(Debug, Default)]
pub(super) struct Malformed(VecDeque<Instant>);

impl Malformed {
    /// Counts one more; returns whether it is one too many within the window.
    pub(super) fn count(&mut self, now: Instant) -> bool {
        while self.0.front().is_some_and(|first| BAD_MESSAGES_WINDOW <= now.since(*first)) {
            self.0.pop_front();
        }
        self.0.push_back(now);
        BAD_MESSAGES as usize <= self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tenth_within_a_minute_is_one_too_many() {
        let mut malformed = Malformed::default();
        let count = |malformed: &mut Malformed, seconds| {
            malformed.count(Instant::START + std::time::Duration::from_secs(seconds))
        };
        assert!((0..9).all(|second| !count(&mut malformed, second)));
        assert!(count(&mut malformed, 59));
        let mut slow = Malformed::default();
        assert!((0..100).all(|number| !count(&mut slow, number * 7)));
    }
}
