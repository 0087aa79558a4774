//! The contract of [`infra_core::cache::Cache`].
//!
//! Clauses take a cache on the system's clock with room for [`CAPACITY`] values.

#![expect(clippy::missing_errors_doc, reason = "a clause's only error is its breach")]

pub mod wrong;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use infra_core::cache::Cache;
use tokio::task::JoinSet;

use super::{Breach, Verdict};
use crate::{ensure, ensure_eq};

/// What a clause takes: an empty cache.
pub type Store = Arc<dyn Cache>;

/// How many values the cache of a clause has room for.
pub const CAPACITY: usize = 100;

/// Stamps out one test per clause for a cache; the expression makes an empty one.
///
/// `planted` before it stamps out the test of the suite itself; then the expression takes a bug.
#[macro_export]
macro_rules! cache_contract {
    (planted $make:expr) => {
        $crate::cache_contract!(@ planted $make);
    };
    (@ $then:ident $make:expr) => {
        $crate::$then!(
            $crate::contract::cache,
            [last_write, gone, zero, bounded, missed],
            timed [fresh],
            $make
        );
    };
    ($make:expr) => {
        $crate::cache_contract!(@ stamp $make);
    };
}

fn bytes(number: u64) -> Bytes {
    Bytes::copy_from_slice(&number.to_be_bytes())
}

/// A value is never served at or after its deadline.
pub async fn fresh(cache: Store) -> Verdict {
    const TTL: Duration = Duration::from_millis(200);
    const MOMENT: Duration = Duration::from_millis(1);
    cache.put("short", bytes(1), Some(TTL)).await?;
    cache.put("long", bytes(2), Some(TTL * 3)).await?;
    cache.put("ever", bytes(3), None).await?;
    tokio::time::sleep(TTL.saturating_sub(MOMENT)).await;
    ensure_eq!(cache.get("short").await?, Some(bytes(1)), "a value just before its deadline");
    tokio::time::sleep(MOMENT).await;
    ensure_eq!(cache.get("short").await?, None, "a value at its deadline");
    let many = cache.get_many(&["short", "long", "ever"]).await?;
    ensure_eq!(many, [None, Some(bytes(2)), Some(bytes(3))], "several at once");
    // A new value has a deadline of its own.
    cache.put("long", bytes(4), Some(TTL * 5)).await?;
    tokio::time::sleep(TTL * 3).await;
    ensure_eq!(cache.get("long").await?, Some(bytes(4)), "a value that was put again");
    ensure!(!cache.remove("short").await?, "a value beyond its deadline was there to be removed");
    Ok(())
}

/// What is found is the value put last, or nothing.
pub async fn last_write(cache: Store) -> Verdict {
    let mut writers = JoinSet::new();
    for writer in 0..4_u64 {
        let cache = Arc::clone(&cache);
        writers.spawn(async move {
            for number in 0..200 {
                let key = format!("k{writer}-{}", number % 3);
                cache.put(&key, bytes(number), None).await?;
                let found = cache.get(&key).await?;
                let is_last = found.is_none() || found == Some(bytes(number));
                ensure!(is_last, "{found:?} is found after {number} was put");
            }
            Ok(())
        });
    }
    while let Some(said) = writers.join_next().await {
        said.map_err(|error| Breach::new(error.to_string()))??;
    }
    Ok(())
}

/// What was removed or cleared is not found by a later read.
pub async fn gone(cache: Store) -> Verdict {
    for number in 0..50 {
        cache.put("a", bytes(number), None).await?;
        let was_there = cache.get("a").await?.is_some();
        ensure_eq!(cache.remove("a").await?, was_there, "whether a value was there");
        ensure_eq!(cache.get("a").await?, None, "a removed value");
        ensure!(!cache.remove("a").await?, "a value was removed twice");
        cache.put("a", bytes(number), None).await?;
        cache.clear().await?;
        ensure_eq!(cache.get("a").await?, None, "a value after the cache was cleared");
    }
    Ok(())
}

/// A time to live of zero stores nothing and removes what was there.
pub async fn zero(cache: Store) -> Verdict {
    cache.put("a", bytes(1), Some(Duration::ZERO)).await?;
    ensure_eq!(cache.get("a").await?, None, "a value that lives for no time");
    cache.put("a", bytes(1), None).await?;
    cache.put("a", bytes(2), Some(Duration::ZERO)).await?;
    ensure_eq!(cache.get("a").await?, None, "what was there before it");
    Ok(())
}

/// What is kept does not outgrow the capacity for good.
pub async fn bounded(cache: Store) -> Verdict {
    for number in 0..20 * CAPACITY as u64 {
        cache.put(&format!("k{number}"), bytes(number), None).await?;
    }
    let mut kept = 0;
    // Engines that evict in the background get some time for it, counted in steps.
    for _ in 0..1_000 {
        kept = 0;
        for number in 0..20 * CAPACITY as u64 {
            kept += usize::from(cache.get(&format!("k{number}")).await?.is_some());
        }
        if kept <= CAPACITY {
            return Ok(());
        }
        tokio::task::yield_now().await;
    }
    Err(Breach::new(format!("{kept} values are kept, there is room for {CAPACITY}")))
}

/// What was never put is a miss, not an error; a value may be empty.
pub async fn missed(cache: Store) -> Verdict {
    ensure_eq!(cache.get("never").await?, None, "a value that was never put");
    cache.put("empty", Bytes::new(), None).await?;
    let many = cache.get_many(&["never", "empty"]).await?;
    ensure_eq!(many, [None, Some(Bytes::new())], "a miss and an empty value");
    Ok(())
}
