//! The bytes that the allocator has given and not taken back.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicI64, Ordering},
};

static HELD: AtomicI64 = AtomicI64::new(0);

/// Counts the bytes; a program makes it its global allocator.
pub struct Counting;

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

/// Returns how many bytes something holds once it is made.
pub fn by<T>(make: impl FnOnce() -> T) -> f64 {
    let before = settled();
    let made = make();
    let held = settled() - before;
    drop(made);
    held as f64
}

/// Waits until threads that are about to end have let go of what they had.
fn settled() -> i64 {
    for _ in 0..100 {
        let before = HELD.load(Ordering::Relaxed);
        std::thread::sleep(std::time::Duration::from_millis(100));
        if HELD.load(Ordering::Relaxed) == before {
            return before;
        }
    }
    panic!("something goes on allocating");
}
