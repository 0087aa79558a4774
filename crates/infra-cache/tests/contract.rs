//! The contract of the cache port over the local cache, with each policy.

#![allow(clippy::panic, clippy::allow_attributes, reason = "a panic is how a test fails")]

use std::{
    future::{Ready, ready},
    sync::Arc,
};

use infra_cache::{BytesCache, Options, Policy};
use infra_core::{SystemClock, cache::Cache};
use infra_testkit::contract::cache::{CAPACITY, wrong::Wrong};

fn local(policy: Policy) -> Ready<Arc<dyn Cache>> {
    let options = Options::new(u64::try_from(CAPACITY).unwrap_or_default()).policy(policy);
    ready(Arc::new(BytesCache::new(options, SystemClock::shared())))
}

mod local_keeps {
    use super::{Policy, Wrong, local};

    infra_testkit::cache_contract!(local(Policy::TinyLfu));

    infra_testkit::cache_contract!(planted async |bug| Wrong::plant(local(Policy::ExactLru).await, bug));
}

mod local_lru_keeps {
    infra_testkit::cache_contract!(super::local(super::Policy::Lru));
}

mod exact_lru_keeps {
    infra_testkit::cache_contract!(super::local(super::Policy::ExactLru));
}

mod exact_lfu_keeps {
    infra_testkit::cache_contract!(super::local(super::Policy::ExactLfu));
}

mod exact_fifo_keeps {
    infra_testkit::cache_contract!(super::local(super::Policy::ExactFifo));
}
