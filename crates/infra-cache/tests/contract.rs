//! The contract of the cache port over the local cache.

#![allow(clippy::panic, clippy::allow_attributes, reason = "a panic is how a test fails")]

use std::{
    future::{Ready, ready},
    sync::Arc,
};

use infra_cache::{BytesCache, Options};
use infra_core::{SystemClock, cache::Cache};
use infra_testkit::contract::cache::CAPACITY;

fn local() -> Ready<Arc<dyn Cache>> {
    let options = Options::new(u64::try_from(CAPACITY).unwrap_or_default());
    ready(Arc::new(BytesCache::new(options, SystemClock::shared())))
}

mod local_keeps {
    infra_testkit::cache_contract!(super::local());
}
