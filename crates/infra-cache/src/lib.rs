//! A local cache with single-flight loads, fenced fills and expiry on an injected clock.
//!
//! Many callers that miss the same key share one load, of a failing origin as well. What was
//! invalidated while it was loaded is never kept, so a cache cannot serve what a writer has already
//! replaced. Deadlines are judged by the [`Clock`](infra_core::clock::Clock) port.
//!
//! ```
//! use std::time::Duration;
//! use infra_core::SystemClock;
//! use infra_cache::{LocalCache, Options};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let options = Options::new(10_000).ttl(Duration::from_secs(60));
//! let names = LocalCache::new(options, SystemClock::shared());
//! let name = names.get_or_load(&7, || async { Ok("Ann".to_owned()) }).await?;
//! assert_eq!(name, "Ann");
//! assert_eq!(names.get(&7).as_deref(), Some("Ann"));
//! # Ok::<(), infra_core::Error>(()) }).unwrap();
//! ```

mod behind;
mod books;
mod bytes;
mod deadlines;
mod documents;
mod entry;
mod fence;
mod flight;
mod glob;
mod group;
mod key;
#[cfg(feature = "tower")]
mod layer;
mod local;
mod options;
mod read;
mod recent;
#[cfg(feature = "redis")]
pub mod redis;
mod rules;
mod sketch;
mod source;
mod stats;
mod store;
mod sync;
mod tags;
mod task;
mod telemetry;
mod through;
mod tiered;
mod turns;
mod warm;

pub use behind::{BehindOptions, Journal, WriteBehind, Writer};
pub use bytes::BytesCache;
pub use documents::CachedDocuments;
pub use glob::Glob;
pub use group::Group;
pub use key::CompositeKey;
#[cfg(feature = "tower")]
pub use layer::{CacheLayer, Cached};
pub use local::{Builder, Change, Computed, LocalCache, Sweeper};
pub use options::{Options, Policy};
pub use read::{Loaded, Origin, Read};
pub use rules::{Feed, FeedHandle, Handled, Invalidator, Purge, Rule, Rules, Scheduler, Signal};
pub use sketch::HeavyHitters;
pub use source::{DocumentSource, Edit, Source};
pub use stats::{Cause, Statistics};
pub use telemetry::METRICS;
pub use through::WriteThrough;
pub use tiered::{Backplane, Moment, Outage, Tiered, TieredBuilder};
pub use warm::{WarmOutcome, WarmReport, WarmTask, Warmer};
