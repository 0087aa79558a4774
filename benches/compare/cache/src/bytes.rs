//! Bytes per entry: what an empty cache holds more once it is filled.

use std::sync::Arc;

use measure::held::{self, Counting};

use crate::subjects::Subject;

const ENTRIES: u64 = 200_000;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Fills a cache of twice the room, key and value eight bytes each.
pub fn of(make: impl Fn(u64) -> Arc<dyn Subject>) -> f64 {
    let mut found = 0;
    let bytes = held::by(|| {
        let cache = make(ENTRIES * 2);
        (0..ENTRIES).for_each(|key| cache.put(key));
        found = (0..ENTRIES).filter(|key| cache.get(*key)).count();
        assert!(ENTRIES * 98 / 100 < found as u64, "{found}");
        cache
    });
    bytes / found as f64
}
