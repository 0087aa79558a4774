//! Bytes per entry: what the allocator has given and not taken back, from an empty cache to a full one.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::Arc,
    sync::atomic::{AtomicI64, Ordering},
};

use crate::subjects::Subject;

const ENTRIES: u64 = 200_000;

static HELD: AtomicI64 = AtomicI64::new(0);

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: each call is passed on as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size() as i64, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size() as i64, Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Fills a cache of twice the room, key and value eight bytes each.
pub fn of(make: impl Fn(u64) -> Arc<dyn Subject>) -> f64 {
    let before = HELD.load(Ordering::Relaxed);
    let cache = make(ENTRIES * 2);
    (0..ENTRIES).for_each(|key| cache.put(key));
    let found = (0..ENTRIES).filter(|key| cache.get(*key)).count();
    assert!(ENTRIES * 98 / 100 < found as u64, "{found}");
    (HELD.load(Ordering::Relaxed) - before) as f64 / found as f64
}
