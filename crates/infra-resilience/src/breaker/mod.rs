//! A circuit breaker around calls.

mod circuit;
mod gate;
mod handle;
mod options;
mod window;
#[cfg(test)]
mod window_tests;

pub use self::{
    circuit::{Change, Mode, State},
    handle::{Breaker, Permit, Stats},
    options::{Listener, Options, Outcome},
    window::{Tally, Window},
};

/// What the files of the lock-free core take their atomics and their lock from; the loom test puts
/// its own in this place.
mod sync {
    pub(super) use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU32, AtomicU64, Ordering};

    pub(super) use parking_lot::Mutex;
}
