//! The rising answers to one connection's messages, embedded in the connection: no map, no lock.
//!
//! Each class of messages has a bucket of its own (GCRA), so talk never takes from actions. Within
//! its bucket a message is allowed, with a warning near the end. Beyond it, a message is delayed if
//! the pause is short, which it pays for; else it is dropped. What is beyond the bucket is a strike;
//! strikes decay with time, and too many at once end the connection.

use std::{num::NonZeroU32, time::Duration};

use infra_core::{
    clock::Instant,
    limit::{Class, Ladder, Step},
};

use crate::{quota::Quota, time::nanos};

/// How a connection's messages are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rungs {
    input: Quota,
    chat: Quota,
    control: Quota,
    warn_at: u8,
    delay: Duration,
    strikes: NonZeroU32,
    decay: Duration,
}

impl Rungs {
    /// Creates the rungs of three classes: actions of the game, talk, and everything else.
    pub const fn new(input: Quota, chat: Quota, control: Quota) -> Self {
        const TEN: NonZeroU32 = NonZeroU32::MIN.saturating_add(9);
        Self {
            input,
            chat,
            control,
            warn_at: 80,
            delay: Duration::from_millis(250),
            strikes: TEN,
            decay: Duration::from_secs(5),
        }
    }

    /// Sets how much of a bucket must be spent, in percent, for a warning; 80 by default.
    #[must_use]
    pub const fn warn_at(mut self, percent: u8) -> Self {
        self.warn_at = percent;
        self
    }

    /// Sets the longest pause before a message is served; 250 ms by default, zero drops at once.
    #[must_use]
    pub const fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Sets how many strikes end the connection, and the time in which one of them decays; ten and
    /// five seconds by default.
    #[must_use]
    pub const fn strikes(mut self, strikes: NonZeroU32, decay: Duration) -> Self {
        self.strikes = strikes;
        self.decay = decay;
        self
    }

    /// Returns a ladder for one connection; it starts with nothing spent and no strike.
    pub fn ladder(&self) -> Rung {
        let lane = |quota: Quota| Lane::new(quota, self.warn_at, self.delay);
        Rung {
            input: lane(self.input),
            chat: lane(self.chat),
            control: lane(self.control),
            strikes: Strikes {
                most: u64::from(self.strikes.get()).saturating_mul(nanos(self.decay)),
                decay: nanos(self.decay),
                until: 0,
            },
        }
    }
}

/// One connection's place on its ladder.
///
/// ```
/// use std::{num::NonZeroU32, time::Duration};
/// use infra_core::{clock::Instant, limit::{Class, Ladder, Step}};
/// use infra_ratelimit::{Quota, Rungs};
///
/// let rungs = Rungs::new(Quota::per_second(20)?, Quota::per_second(2)?, Quota::per_second(5)?);
/// let mut ladder = rungs.delay(Duration::ZERO).ladder();
/// let mut say = |class| ladder.judge(class, NonZeroU32::MIN, Instant::START);
/// assert_eq!(say(Class::Chat), Step::Allow);
/// assert_eq!(say(Class::Chat), Step::Warn);
/// assert_eq!(say(Class::Chat), Step::Drop);
/// assert_eq!(say(Class::Input), Step::Allow);
/// # Ok::<(), infra_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Rung {
    input: Lane,
    chat: Lane,
    control: Lane,
    strikes: Strikes,
}

impl Ladder for Rung {
    fn judge(&mut self, class: Class, cost: NonZeroU32, now: Instant) -> Step {
        let now = nanos(now.since_start());
        let lane = match class {
            Class::Input => &mut self.input,
            Class::Chat => &mut self.chat,
            Class::Control => &mut self.control,
        };
        match lane.judge(cost, now) {
            step @ (Step::Allow | Step::Warn) => step,
            step @ (Step::Delay(_) | Step::Drop | Step::Kick) => {
                if self.strikes.add(now) {
                    Step::Kick
                } else {
                    step
                }
            }
        }
    }
}

/// The bucket of one class, in nanoseconds.
#[derive(Debug, Clone)]
struct Lane {
    /// The theoretical arrival time.
    tat: u64,
    refill: u64,
    full: u64,
    warn: u64,
    delay: u64,
}

impl Lane {
    fn new(quota: Quota, warn_at: u8, delay: Duration) -> Self {
        let refill = nanos(quota.refill());
        let full = refill.saturating_mul(u64::from(quota.capacity()));
        Self { tat: 0, refill, full, warn: full / 100 * u64::from(warn_at), delay: nanos(delay) }
    }

    fn judge(&mut self, cost: NonZeroU32, now: u64) -> Step {
        let cost = self.refill.saturating_mul(u64::from(cost.get()));
        let after = self.tat.max(now).saturating_add(cost);
        let owed = after - now;
        let over = owed.saturating_sub(self.full);
        if self.delay < over || self.full < cost {
            return Step::Drop;
        }
        self.tat = after;
        match over {
            0 if owed <= self.warn => Step::Allow,
            0 => Step::Warn,
            over => Step::Delay(Duration::from_nanos(over)),
        }
    }
}

/// Strikes, as the time until the last of them has decayed.
#[derive(Debug, Clone)]
struct Strikes {
    most: u64,
    decay: u64,
    until: u64,
}

impl Strikes {
    /// Adds a strike and returns whether there are too many.
    fn add(&mut self, now: u64) -> bool {
        self.until = self.until.max(now).saturating_add(self.decay);
        self.most <= self.until - now
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn rungs() -> Rungs {
        let quota = |count| Quota::new(count, SECOND / 10).unwrap();
        Rungs::new(quota(10), quota(5), quota(5)).delay(SECOND / 5)
    }

    fn at(time: Duration) -> Instant {
        Instant::from_start(time)
    }

    fn one() -> NonZeroU32 {
        NonZeroU32::MIN
    }

    #[test]
    fn a_flood_climbs_from_allowed_to_kicked() {
        let mut ladder = rungs().ladder();
        let mut step = || ladder.judge(Class::Input, one(), Instant::START);
        assert!((0..8).all(|_| step() == Step::Allow));
        assert!((8..10).all(|_| step() == Step::Warn));
        assert_eq!(step(), Step::Delay(SECOND / 10));
        assert_eq!(step(), Step::Delay(SECOND / 5));
        assert!((2..9).all(|_| step() == Step::Drop));
        assert_eq!(step(), Step::Kick);
    }

    #[test]
    fn classes_do_not_pay_for_each_other() {
        let mut ladder = rungs().ladder();
        while ladder.judge(Class::Chat, one(), Instant::START) != Step::Drop {}
        assert_eq!(ladder.judge(Class::Input, one(), Instant::START), Step::Allow);
        assert_eq!(ladder.judge(Class::Control, one(), Instant::START), Step::Allow);
    }

    #[test]
    fn strikes_decay_so_a_slip_now_and_then_ends_nothing() {
        let mut ladder = rungs().strikes(NonZeroU32::new(3).unwrap(), SECOND).ladder();
        let too_much = NonZeroU32::new(11).unwrap();
        for second in 0..100 {
            let step = ladder.judge(Class::Input, too_much, at(SECOND * second));
            assert_eq!(step, Step::Drop, "more than the bucket holds never passes");
        }
        let mut last = |millis| {
            ladder.judge(Class::Input, too_much, at(SECOND * 200 + Duration::from_millis(millis)))
        };
        assert_eq!((last(0), last(400), last(800)), (Step::Drop, Step::Drop, Step::Drop));
        assert_eq!(last(900), Step::Kick);
    }

    proptest! {
        #[test]
        fn no_flood_is_served_more_than_the_bucket_its_delay_and_what_drips(
            steps in proptest::collection::vec((0..200_u64, 1..4_u32), 1..100),
        ) {
            let quota = Quota::new(6, Duration::from_millis(50)).unwrap();
            let rungs = Rungs::new(quota, quota, quota)
                .delay(Duration::from_millis(100))
                .strikes(NonZeroU32::new(1_000).unwrap(), SECOND);
            let mut ladder = rungs.ladder();
            let (mut now, mut served) = (0, 0);
            for (pause, cost) in steps {
                now += pause;
                let cost = NonZeroU32::new(cost).unwrap();
                match ladder.judge(Class::Input, cost, at(Duration::from_millis(now))) {
                    Step::Allow | Step::Warn | Step::Delay(_) => served += u64::from(cost.get()),
                    Step::Drop | Step::Kick => {}
                }
                prop_assert!(served * 50 <= 6 * 50 + 100 + now);
            }
        }
    }
}
