//! Windows as everybody pictures them: a list of all that was admitted, counted anew each time.

use std::time::Duration;

use crate::contract::limit::Counting;

/// A window.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub(super) counting: Counting,
    pub(super) length: Duration,
}

/// When something was admitted, from the clock's start, and how much.
pub(super) type Admitted = Vec<(Duration, u32)>;

impl Window {
    pub(super) fn count(self, admitted: &Admitted, now: Duration) -> u32 {
        let sum = |counts: &dyn Fn(Duration) -> bool| {
            admitted.iter().filter(|(at, _)| counts(*at)).map(|(_, cost)| cost).sum::<u32>()
        };
        let index = |at: Duration| at.as_nanos() / self.length.as_nanos();
        let current = || sum(&|at| index(at) == index(now));
        match self.counting {
            Counting::Log => sum(&|at| now < at + self.length),
            Counting::Fixed => current(),
            Counting::Sliding => {
                let gone = now.as_nanos() % self.length.as_nanos();
                let before = u128::from(sum(&|at| index(at) + 1 == index(now)));
                let weighted =
                    (before * (self.length.as_nanos() - gone)).div_ceil(self.length.as_nanos());
                current() + u32::try_from(weighted).unwrap_or(u32::MAX)
            }
        }
    }

    /// Returns the time until no more than `most` counts, which never grows by itself.
    pub(super) fn until(self, admitted: &Admitted, most: u32, now: Duration) -> Duration {
        if self.count(admitted, now) <= most {
            return Duration::ZERO;
        }
        let (mut early, mut late) = (0, nanos(self.length) * 2);
        while early + 1 < late {
            let middle = u64::midpoint(early, late);
            let is_room = self.count(admitted, now + Duration::from_nanos(middle)) <= most;
            *(if is_room { &mut late } else { &mut early }) = middle;
        }
        Duration::from_nanos(late)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 2)
}
