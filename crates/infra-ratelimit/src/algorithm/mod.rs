//! How one key of one limit is counted: pure arithmetic over a cell that is lent to it.
//!
//! A limiter keeps a [`Cell`] for each key and asks in two steps, so that several limits can be
//! judged before any of them is paid: [`Arithmetic::judge`] says whether a cost fits, and
//! [`Arithmetic::pay`] changes the cell. A cell that has nothing to say is not kept.

mod bucket;
mod log;
mod window;

use std::{num::NonZeroU32, time::Duration};

use self::{bucket::Bucket, log::Log, window::Counter};
use crate::{
    limit::{Algorithm, Limit},
    time::nanos,
    window::Window,
};

/// The wait that a refused permit names: when one comes back is not known.
const PERMIT_WAIT: Duration = Duration::from_secs(1);

/// What is said of a cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer<C = ()> {
    /// It fits; this is what the cell becomes.
    Fits(C),
    /// It fits after this time of quiet.
    Wait(Duration),
    /// It is more than the limit can ever give.
    Never,
}

/// What is remembered of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cell {
    /// The theoretical arrival time of GCRA.
    Bucket(u64),
    Window(Counter),
    Log(Log),
    /// Permits that are out.
    Held(u32),
}

/// The arithmetic of one limit.
#[derive(Debug)]
pub(crate) enum Arithmetic {
    Bucket(Bucket),
    Fixed(Window),
    Sliding(Window),
    Log(Window),
    Concurrent(NonZeroU32),
}

impl Arithmetic {
    /// Returns the arithmetic; none for a bucket without a refill, which a quota cannot be.
    pub(crate) fn new(limit: &Limit) -> Option<Self> {
        Some(match limit.algorithm {
            Algorithm::Bucket(quota) => Self::Bucket(Bucket::new(quota)?),
            Algorithm::Fixed(window) => Self::Fixed(window),
            Algorithm::Sliding(window) => Self::Sliding(window),
            Algorithm::Log(window) => Self::Log(window),
            Algorithm::Concurrent(permits) => Self::Concurrent(permits),
        })
    }

    #[inline]
    pub(crate) const fn is_held(&self) -> bool {
        matches!(self, Self::Concurrent(_))
    }

    #[inline]
    pub(crate) const fn capacity(&self) -> u32 {
        match self {
            Self::Bucket(bucket) => bucket.quota().capacity(),
            Self::Fixed(window) | Self::Sliding(window) | Self::Log(window) => window.capacity(),
            Self::Concurrent(permits) => permits.get(),
        }
    }

    /// Returns the time in which the limit becomes full from empty, as [`Limit::window`] does.
    #[inline]
    pub(crate) const fn window(&self) -> Duration {
        match self {
            Self::Bucket(bucket) => bucket.window(),
            Self::Fixed(window) | Self::Sliding(window) | Self::Log(window) => window.length(),
            Self::Concurrent(_) => Duration::ZERO,
        }
    }

    /// Returns the most bytes that a cell takes beside itself.
    pub(crate) fn cell_bytes(&self) -> usize {
        match self {
            Self::Log(window) => Log::bytes(window.capacity()),
            Self::Bucket(_) | Self::Fixed(_) | Self::Sliding(_) | Self::Concurrent(_) => 0,
        }
    }

    /// Judges a cost against a cell.
    #[inline]
    pub(crate) fn judge(&self, cell: Option<&Cell>, cost: NonZeroU32, now: u64) -> Answer {
        if self.capacity() < cost.get() {
            return Answer::Never;
        }
        let wait = match (self, cell) {
            (Self::Bucket(bucket), cell) => return bucket.judge(tat(cell), cost, now).forget(),
            (Self::Fixed(window), Some(Cell::Window(counter))) => {
                counter.fixed_wait(window, cost.get(), now)
            }
            (Self::Sliding(window), Some(Cell::Window(counter))) => {
                counter.sliding_wait(window, cost.get(), now)
            }
            (Self::Log(window), Some(Cell::Log(log))) => log.wait(window, cost.get(), now),
            (Self::Concurrent(permits), Some(Cell::Held(held))) => {
                (permits.get().saturating_sub(*held) < cost.get()).then_some(PERMIT_WAIT)
            }
            // A cell is made by its limit's own arithmetic, and carried when that changes.
            _ => None,
        };
        wait.map_or(Answer::Fits(()), Answer::Wait)
    }

    /// Pays a cost, whether or not it fits, and returns the cell.
    #[inline]
    pub(crate) fn pay(&self, cell: Option<Cell>, cost: u32, now: u64) -> Cell {
        match (self, cell) {
            (Self::Bucket(bucket), cell) => {
                let from = tat(cell.as_ref()).unwrap_or(0).max(now);
                Cell::Bucket(bucket.having_spent(cost, from))
            }
            (Self::Fixed(window) | Self::Sliding(window), cell) => {
                let counter = match cell {
                    Some(Cell::Window(counter)) => counter,
                    _ => Counter::default(),
                };
                Cell::Window(counter.plus(window, cost, now))
            }
            (Self::Log(window), cell) => {
                let mut log = match cell {
                    Some(Cell::Log(log)) => log,
                    _ => Log::default(),
                };
                log.push(window, cost, now);
                Cell::Log(log)
            }
            (Self::Concurrent(_), cell) => Cell::Held(held(cell.as_ref()).saturating_add(cost)),
        }
    }

    /// Gives back `unused` of what was paid at `paid_at`, less what time has given back since.
    pub(crate) fn refund(&self, cell: &mut Cell, unused: u32, paid_at: u64, now: u64) {
        match (self, cell) {
            (Self::Bucket(bucket), Cell::Bucket(tat)) => {
                *tat = bucket.refund(*tat, unused, now.saturating_sub(paid_at));
            }
            (Self::Fixed(window) | Self::Sliding(window), Cell::Window(counter)) => {
                *counter = counter.minus(window, unused, paid_at);
            }
            (Self::Log(_), Cell::Log(log)) => log.remove(unused, paid_at),
            (Self::Concurrent(_), Cell::Held(held)) => *held = held.saturating_sub(unused),
            // The limit was changed to another algorithm since: time gives it back.
            _ => {}
        }
    }

    /// Returns how much of the capacity is gone.
    #[inline]
    pub(crate) fn spent(&self, cell: Option<&Cell>, now: u64) -> u32 {
        let spent = match (self, cell) {
            (Self::Bucket(bucket), Some(Cell::Bucket(tat))) => bucket.spent(*tat, now),
            (Self::Fixed(window), Some(Cell::Window(counter))) => counter.fixed(window, now),
            (Self::Sliding(window), Some(Cell::Window(counter))) => counter.sliding(window, now),
            (Self::Log(window), Some(Cell::Log(log))) => log.count(window, now),
            (Self::Concurrent(_), cell) => held(cell),
            _ => 0,
        };
        spent.min(self.capacity())
    }

    /// Returns the time until nothing is gone any more, in nanoseconds.
    pub(crate) fn reset(&self, cell: Option<&Cell>, now: u64) -> u64 {
        match (self, cell) {
            (Self::Bucket(_), Some(Cell::Bucket(tat))) => tat.saturating_sub(now),
            (Self::Fixed(window), Some(Cell::Window(counter))) => counter.fixed_reset(window, now),
            (Self::Sliding(window), Some(Cell::Window(counter))) => {
                counter.sliding_reset(window, now)
            }
            (Self::Log(window), Some(Cell::Log(log))) => log.reset(window, now),
            _ => 0,
        }
    }

    /// Returns the time until nothing is gone any more once a cost is paid, in nanoseconds.
    #[inline]
    pub(crate) fn reset_after(&self, cell: Option<&Cell>, cost: u32, now: u64) -> u64 {
        match self {
            Self::Bucket(bucket) => {
                let from = tat(cell).unwrap_or(0).max(now);
                bucket.having_spent(cost, from).saturating_sub(now)
            }
            Self::Fixed(window) => length(window) - now % length(window),
            Self::Sliding(window) => 2 * length(window) - now % length(window),
            Self::Log(window) => length(window),
            Self::Concurrent(_) => 0,
        }
    }

    /// Returns whether a cell says no more than no cell at all.
    #[inline]
    pub(crate) fn is_idle(&self, cell: &Cell, now: u64) -> bool {
        match cell {
            Cell::Bucket(tat) => *tat <= now,
            Cell::Window(_) | Cell::Log(_) => self.reset(Some(cell), now) == 0,
            Cell::Held(held) => *held == 0,
        }
    }

    /// Takes a cell over from the arithmetic that a limit had before: what is gone stays gone.
    pub(crate) fn carry(&self, old: &Self, cell: Cell, now: u64) -> Cell {
        match (self, old, cell) {
            (Self::Bucket(new), Self::Bucket(old), Cell::Bucket(tat)) => {
                Cell::Bucket(new.carry(old, tat, now))
            }
            (
                Self::Fixed(new) | Self::Sliding(new),
                Self::Fixed(old) | Self::Sliding(old),
                Cell::Window(counter),
            ) if new.length() == old.length() => Cell::Window(counter),
            (Self::Log(_), Self::Log(old), Cell::Log(mut log)) => {
                log.forget(old, now);
                Cell::Log(log)
            }
            (Self::Concurrent(_), Self::Concurrent(_), cell @ Cell::Held(_)) => cell,
            (new, old, cell) => {
                let spent = old.spent(Some(&cell), now).min(new.capacity());
                new.pay(None, spent, now)
            }
        }
    }
}

impl<C> Answer<C> {
    fn forget(self) -> Answer {
        match self {
            Self::Fits(_) => Answer::Fits(()),
            Self::Wait(pause) => Answer::Wait(pause),
            Self::Never => Answer::Never,
        }
    }
}

const fn tat(cell: Option<&Cell>) -> Option<u64> {
    match cell {
        Some(Cell::Bucket(tat)) => Some(*tat),
        _ => None,
    }
}

const fn held(cell: Option<&Cell>) -> u32 {
    match cell {
        Some(Cell::Held(held)) => *held,
        _ => 0,
    }
}

fn length(window: &Window) -> u64 {
    nanos(window.length()).max(1)
}
