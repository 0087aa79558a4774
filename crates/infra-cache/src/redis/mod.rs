//! Redis as the second tier and as the keeper of leases.
//!
//! Each operation is one script and one round trip. All that decides whether a value is current (the
//! cache's life, its count of changes, the last change of each slot, tag and of everything) is in one key,
//! the *root*. If Redis loses it, by a flush, by eviction or by a restart, the cache begins another life
//! and everything from before is a miss: data can be lost, but nothing removed comes back.

mod counter;
mod leases;
mod link;
mod purge;
mod script;
mod tier;

pub use leases::{Guard, RedisLeases};
pub use link::RedisOptions;
pub use tier::RedisCache;
