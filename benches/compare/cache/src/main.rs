//! The cache: hits, and a thousand callers of one slow load. The peer is moka itself, so the first
//! figure is the price of what is put on top of it.

use std::{process::ExitCode, sync::Arc, time::Duration};

use infra_cache::{LocalCache, Options};
use infra_core::SystemClock;
use measure::{Workload, run};

const HITS: u64 = 3_000_000;
const KEYS: u64 = 10_000;

fn main() -> ExitCode {
    measure::main(vec![Workload::rate("cache-hit", hit).against("moka", moka_hit)])
}

fn hit() -> u64 {
    let options = Options::new(KEYS * 2).ttl(Duration::from_secs(600));
    let cache = run(async { LocalCache::new(options, SystemClock::shared()) });
    (0..KEYS).for_each(|key| cache.put(key, Arc::new(key)));
    let found = (0..HITS).filter(|hit| cache.get(&(hit * 7_919 % KEYS)).is_some()).count();
    assert_eq!(found as u64, HITS);
    HITS
}

fn moka_hit() -> u64 {
    let cache = run(async {
        let cache = moka::future::Cache::builder();
        cache.max_capacity(KEYS * 2).time_to_live(Duration::from_secs(600)).build()
    });
    run(async {
        for key in 0..KEYS {
            cache.insert(key, Arc::new(key)).await;
        }
        let mut found = 0;
        for hit in 0..HITS {
            found += u64::from(cache.get(&(hit * 7_919 % KEYS)).await.is_some());
        }
        assert_eq!(found, HITS);
    });
    HITS
}
