//! The cores of breaker and bulkhead under loom: every interleaving of a few threads.
//!
//! The files are those of the crate, with loom's atomics, locks and channels in the place of the real ones.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::allow_attributes,
    reason = "the crate's own files, of which a test uses a part"
)]

mod breaker;
mod bulkhead;

/// What the crate's files take from the rest of the crate.
mod refused {
    pub(crate) use infra_resilience::Reason;
}
