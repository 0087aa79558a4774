//! The decision: one step down while the budget is exceeded, one step up after a calm while.

use std::time::Duration;

use infra_core::clock::Instant;

use crate::thrift::Withheld;

/// The share of the budget below which it is calm.
const CALM: f64 = 0.5;

/// Decides what is withheld by how full the budget is.
#[derive(Debug)]
pub(super) struct Ladder {
    /// The place in the order; 0 withholds nothing.
    step: u8,
    calm: Duration,
    /// Since when it has been calm, or since the last step up.
    since: Option<Instant>,
}

impl Ladder {
    pub(super) const fn new(calm: Duration) -> Self {
        Self { step: 0, calm, since: None }
    }

    /// Takes what a look has found, how full the budget is, where 1 is full; returns the last of
    /// what is withheld from now on.
    pub(super) fn judge(&mut self, pressure: f64, now: Instant) -> Option<Withheld> {
        if 1.0 <= pressure {
            let last = Withheld::Exemplars.step();
            (self.step, self.since) = ((self.step + 1).min(last), None);
        } else if pressure < CALM {
            let since = *self.since.get_or_insert(now);
            if self.calm <= now.since(since) {
                (self.step, self.since) = (self.step.saturating_sub(1), Some(now));
            }
        } else {
            self.since = None;
        }
        Withheld::at(self.step)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn steps_go_down_in_the_declared_order_and_come_back_in_the_opposite_one() {
        let mut ladder = Ladder::new(SECOND * 3);
        let mut now = Instant::START;
        let mut look = |pressure| {
            now = now + SECOND;
            ladder.judge(pressure, now)
        };
        let [logs, traces, exemplars] = Withheld::ALL.map(Some);
        assert_eq!(
            [0.9, 1.0, 1.2, 7.0, 7.0].map(&mut look),
            [None, logs, traces, exemplars, exemplars]
        );
        // Between half and full nothing changes, however long it lasts.
        assert_eq!([0.5, 0.9, 0.6, 0.5, 0.7].map(&mut look), [exemplars; 5]);
        let back = [0.4; 10].map(&mut look);
        let wanted =
            [exemplars, exemplars, exemplars, traces, traces, traces, logs, logs, logs, None];
        assert_eq!(back, wanted);
        assert_eq!(look(1.0), logs);
        // What is not calm all the time begins anew.
        assert_eq!([0.4, 0.4, 0.8, 0.4, 0.4, 0.4].map(&mut look), [logs; 6]);
        assert_eq!(look(0.4), None);
    }

    proptest! {
        #[test]
        fn it_never_jumps_and_never_gives_again_what_was_just_withheld(
            pressures in proptest::collection::vec(0.0..2.0_f64, 0..200),
        ) {
            let mut ladder = Ladder::new(SECOND * 5);
            let mut before = 0;
            let mut last_full = None;
            for (second, pressure) in (1_u32..).zip(pressures) {
                let now = ladder.judge(pressure, Instant::START + SECOND * second);
                let now = now.map_or(0, Withheld::step);
                prop_assert!(now.abs_diff(before) <= 1);
                if 1.0 <= pressure {
                    last_full = Some(second);
                    prop_assert_eq!(now, (before + 1).min(3));
                } else {
                    prop_assert!(now <= before);
                }
                if now < before {
                    prop_assert!(last_full.is_some_and(|full| full + 5 < second));
                }
                before = now;
            }
        }
    }
}
