//! The atomics of the fence, so that loom can take their place in its test.

pub(crate) use std::sync::atomic::{AtomicU64, Ordering};
