//! The contract of [`infra_core::cache::Cache`].
//!
//! Clauses take a cache on the system's clock with room for [`CAPACITY`] values. The clauses that
//! wait do so on paused time, or on real time if `real` stands before the expression: for an engine
//! whose clock is a server's.

#![expect(clippy::missing_errors_doc, reason = "a clause's only error is its breach")]

pub mod wrong;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use infra_core::{
    SystemClock,
    cache::{Cache, CacheExt as _, Put},
    clock::{Clock as _, Instant},
};
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
    (real $make:expr) => {
        $crate::stamp!(
            $crate::contract::cache,
            [last_write, gone, zero, bounded, missed, fenced, tagged, scanned, batched, fresh],
            timed [],
            $make
        );
    };
    (@ $then:ident $make:expr) => {
        $crate::$then!(
            $crate::contract::cache,
            [last_write, gone, zero, bounded, missed, fenced, tagged, scanned, batched],
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

/// A value that was put for some time, and when that was.
struct Lives {
    ttl: Duration,
    asked: Instant,
    answered: Instant,
}

impl Lives {
    async fn put(cache: &Store, key: &str, number: u64, ttl: Duration) -> Result<Self, Breach> {
        let clock = clock();
        let asked = clock.now();
        cache.put(key, bytes(number), Some(ttl)).await?;
        Ok(Self { ttl, asked, answered: clock.now() })
    }

    /// Answers with a breach if the value is served after its time, or gone before it.
    fn judge(&self, found: Option<&Bytes>, from: Instant, to: Instant) -> Verdict {
        let is_over = self.answered + self.ttl <= from;
        let is_due = to < self.asked + self.ttl;
        ensure!(found.is_none() || !is_over, "a value at its deadline is served");
        ensure!(found.is_some() || !is_due, "a value before its deadline is not served");
        Ok(())
    }
}

/// Returns the one clock of a clause.
fn clock() -> SystemClock {
    static CLOCK: std::sync::OnceLock<SystemClock> = std::sync::OnceLock::new();
    *CLOCK.get_or_init(SystemClock::new)
}

/// A value is never served at or after its deadline.
pub async fn fresh(cache: Store) -> Verdict {
    const TTL: Duration = Duration::from_millis(200);
    const MOMENT: Duration = Duration::from_millis(1);
    let clock = clock();
    let short = Lives::put(&cache, "short", 1, TTL).await?;
    let long = Lives::put(&cache, "long", 2, TTL * 3).await?;
    cache.put("ever", bytes(3), None).await?;
    for pause in [TTL.saturating_sub(MOMENT), MOMENT, MOMENT * 20, TTL * 2] {
        tokio::time::sleep(pause).await;
        let from = clock.now();
        let looked = cache.look(&["short", "long", "ever"]).await?.found;
        let values: Vec<_> =
            looked.iter().map(|found| found.as_ref().map(|it| &it.value)).collect();
        short.judge(values.first().copied().flatten(), from, clock.now())?;
        long.judge(values.get(1).copied().flatten(), from, clock.now())?;
        ensure_eq!(values.get(2).copied().flatten(), Some(&bytes(3)), "a value without end");
        for found in looked.iter().flatten().filter(|found| found.value == bytes(1)) {
            ensure!(found.left.is_some_and(|left| left <= TTL), "{:?} are left", found.left);
        }
    }
    // A new value has a deadline of its own.
    let again = Lives::put(&cache, "long", 4, TTL * 5).await?;
    let never = Lives::put(&cache, "short", 5, TTL).await?;
    cache.put("short", bytes(6), None).await?;
    tokio::time::sleep(TTL * 3).await;
    let from = clock.now();
    let found = cache.get("long").await?;
    again.judge(found.as_ref(), from, clock.now())?;
    ensure!(never.answered < from, "time stands still");
    ensure_eq!(cache.get("short").await?, Some(bytes(6)), "a value put again without end");
    cache.put("brief", bytes(7), Some(MOMENT)).await?;
    tokio::time::sleep(MOMENT * 5).await;
    ensure!(!cache.remove("brief").await?, "a value beyond its deadline was there to be removed");
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
    let keys: Vec<String> = (0..20 * CAPACITY).map(|number| format!("k{number}")).collect();
    for key in &keys {
        cache.put(key, bytes(1), None).await?;
    }
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let mut kept = 0;
    // Engines that evict in the background get some time for it, counted in steps.
    for _ in 0..100 {
        kept = cache.get_many(&keys).await?.iter().flatten().count();
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

/// What was loaded before a change is not filled after it.
pub async fn fenced(cache: Store) -> Verdict {
    let put = |number| Put::new("a", bytes(number)).tagged("red");
    for way in ["nothing", "put", "remove", "tag", "clear"] {
        cache.clear().await?;
        let ticket = cache.look(&["a", "b"]).await?.ticket;
        match way {
            "put" => cache.put("a", bytes(9), None).await?,
            "remove" => ensure!(!cache.remove("a").await?, "a value in an empty cache"),
            "tag" => ensure_eq!(cache.remove_tag("red").await?, 0, "values in an empty cache"),
            "clear" => cache.clear().await?,
            _ => {}
        }
        let stored = cache.fill(ticket, vec![put(1), Put::new("b", bytes(2))]).await?;
        let (a, b) = (cache.get("a").await?, cache.get("b").await?);
        let (kept, count) = match way {
            "nothing" => (Some(bytes(1)), 2),
            "put" => (Some(bytes(9)), 1),
            "clear" => (None, 0),
            _ => (None, 1),
        };
        ensure_eq!(a, kept, "after a fill that was overtaken by: {way}");
        ensure_eq!(b, (way != "clear").then_some(bytes(2)), "the key that was not: {way}");
        ensure_eq!(stored, count, "how many were filled: {way}");
    }
    let ticket = cache.look(&["a"]).await?.ticket;
    ensure_eq!(cache.fill(ticket, vec![put(3)]).await?, 1, "fills with a new ticket");
    ensure_eq!(cache.get("a").await?, Some(bytes(3)), "what was filled");
    Ok(())
}

async fn keys_of(cache: &Store, tag: &str) -> Result<Vec<String>, Breach> {
    let mut keys = cache.tagged(tag).await?;
    keys.sort_unstable();
    Ok(keys)
}

/// The keys of a tag are those of the values that carry it.
pub async fn tagged(cache: Store) -> Verdict {
    let user = |key: &str, state: &str| Put::new(key, key.to_owned()).tagged("users").tagged(state);
    cache.put_many(vec![user("1", "on"), user("2", "on"), user("3", "off")]).await?;
    cache.put("4", bytes(4), None).await?;
    ensure_eq!(keys_of(&cache, "on").await?, ["1", "2"], "the keys of a tag");
    let looked = cache.look(&["1"]).await?;
    let mut tags =
        looked.found.into_iter().flatten().flat_map(|found| found.tags).collect::<Vec<_>>();
    tags.sort_unstable();
    ensure_eq!(tags, ["on", "users"], "the tags of a value");
    // Putting again takes the tags away that are not named again.
    cache.put_many(vec![user("2", "off")]).await?;
    ensure_eq!(keys_of(&cache, "on").await?, ["1"], "a tag after one was tagged anew");
    ensure_eq!(cache.remove_tag("off").await?, 2, "values that were removed");
    ensure_eq!(keys_of(&cache, "users").await?, ["1"], "what shares another tag");
    ensure_eq!(cache.get("3").await?, None, "a value whose tag was removed");
    ensure_eq!(cache.get("4").await?, Some(bytes(4)), "a value without tags");
    ensure_eq!(cache.remove_tag("off").await?, 0, "a tag that nothing carries");
    cache.put_many(vec![user("3", "off")]).await?;
    ensure_eq!(keys_of(&cache, "off").await?, ["3"], "a tag that is used again");
    cache.remove("3").await?;
    ensure_eq!(keys_of(&cache, "off").await?, Vec::<String>::new(), "a tag after a removal");
    Ok(())
}

async fn scan(cache: &Store, prefix: &str) -> Result<Vec<String>, Breach> {
    let (mut all, mut cursor) = (std::collections::BTreeSet::new(), 0);
    for _ in 0..1_000 {
        let (keys, next) = cache.scan(prefix, cursor).await?;
        all.extend(keys);
        if next == 0 {
            return Ok(all.into_iter().collect());
        }
        cursor = next;
    }
    Err(Breach::new("a scan of a few keys does not end"))
}

/// A scan yields the keys that have a value and begin with the prefix.
pub async fn scanned(cache: Store) -> Verdict {
    let keys: Vec<String> = (0..40).map(|number| format!("u*:{number:02}")).collect();
    for key in keys.iter().map(String::as_str).chain(["u", "ux:1", "u?:1", "w"]) {
        cache.put(key, bytes(1), None).await?;
    }
    ensure_eq!(scan(&cache, "u*:").await?, keys, "the keys with a prefix");
    ensure_eq!(scan(&cache, "").await?.len(), 44, "all keys");
    cache.remove("u*:00").await?;
    ensure_eq!(scan(&cache, "u*:").await?.len(), 39, "the keys after a removal");
    cache.clear().await?;
    ensure_eq!(scan(&cache, "").await?, Vec::<String>::new(), "the keys after clearing");
    Ok(())
}

/// Several at once are as one after the other.
pub async fn batched(cache: Store) -> Verdict {
    let puts = [("a", 1), ("b", 2), ("a", 3), ("c", 4)];
    cache.put_many(puts.map(|(key, number)| Put::new(key, bytes(number))).to_vec()).await?;
    let many = cache.get_many(&["a", "x", "c", "a"]).await?;
    let expected = [Some(bytes(3)), None, Some(bytes(4)), Some(bytes(3))];
    ensure_eq!(many, expected, "values in the order of the keys");
    ensure_eq!(cache.remove_many(&["a", "b", "x", "a"]).await?, 2, "values that were removed");
    ensure_eq!(cache.get_many(&["a", "b", "c"]).await?, [None, None, Some(bytes(4))], "the rest");
    cache.put_many(Vec::new()).await?;
    ensure_eq!(cache.remove_many(&[]).await?, 0, "nothing to be removed");
    ensure_eq!(cache.look(&[]).await?.found.len(), 0, "nothing looked for");
    Ok(())
}
