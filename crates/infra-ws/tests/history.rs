//! The contract of the history port: every backend keeps it, and every planted bug breaks it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::allow_attributes,
    reason = "a panic is how a test fails"
)]

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use infra_core::{Result, SystemClock, event::EventStore};
use infra_testkit::model::ModelEvents;
use infra_ws::history::{Bounds, EventHistory, History, MemoryHistory, Place, Window};

type Breach = String;

const ALL: [&str; 6] =
    ["gapless", "contiguous", "limited", "read_your_writes", "apart", "one_epoch"];

async fn append(history: &Arc<dyn History>, room: &str, count: u64) -> Vec<Place> {
    let mut places = Vec::new();
    for number in 1..=count {
        places.push(history.append(room, Bytes::from(number.to_string())).await.unwrap());
    }
    places
}

fn ensure(holds: bool, what: &str) -> Result<(), Breach> {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

fn offsets(window: &Window) -> Vec<u64> {
    window.entries.iter().map(|entry| entry.offset).collect()
}

async fn gapless(history: Arc<dyn History>) -> Result<(), Breach> {
    let tasks: Vec<_> = (0..4)
        .map(|_| {
            let history = Arc::clone(&history);
            tokio::spawn(async move { append(&history, "a", 25).await })
        })
        .collect();
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await.unwrap().into_iter().map(|place| place.offset));
    }
    all.sort_unstable();
    ensure(all == (1..=100).collect::<Vec<_>>(), "offsets have holes or repeats")
}

async fn clause(name: &str, history: Arc<dyn History>) -> Result<(), Breach> {
    match name {
        "gapless" => gapless(history).await,
        "contiguous" => {
            append(&history, "a", 9).await;
            for after in 0..12 {
                let window = history.read("a", after, 100).await.unwrap();
                let wanted: Vec<u64> = (after + 1..=9).collect();
                ensure(offsets(&window) == wanted, "entries behind an offset are others")?;
            }
            Ok(())
        }
        "limited" => {
            append(&history, "a", 9).await;
            for limit in [0, 1, 5] {
                let window = history.read("a", 2, limit).await.unwrap();
                ensure(window.entries.len() == limit, "more than the limit, or less")?;
                ensure((window.first, window.last) == (1, 9), "the ends are others")?;
            }
            Ok(())
        }
        "read_your_writes" => {
            for number in 1..=20_u64 {
                let body = Bytes::from(number.to_string());
                let place = history.append("a", body.clone()).await.unwrap();
                let window = history.read("a", place.offset - 1, 1).await.unwrap();
                let found = window.entries.first().map(|entry| entry.body.clone());
                ensure(found == Some(body), "what was appended is not read")?;
            }
            Ok(())
        }
        "apart" => {
            append(&history, "a", 3).await;
            let other = append(&history, "b", 1).await;
            ensure(other.iter().all(|place| place.offset == 1), "rooms share offsets")?;
            let window = history.read("b", 0, 9).await.unwrap();
            ensure(offsets(&window) == [1], "rooms share entries")
        }
        _ => {
            let empty = history.read("a", 0, 9).await.unwrap();
            ensure(empty.epoch.is_empty() && empty.last == 0, "there is an epoch before all")?;
            let places = append(&history, "a", 5).await;
            let window = history.read("a", 0, 0).await.unwrap();
            let is_one = places.iter().all(|place| place.epoch == window.epoch);
            ensure(is_one && !window.epoch.is_empty(), "the epoch changed on the way")
        }
    }
}

fn memory() -> Arc<dyn History> {
    Arc::new(MemoryHistory::new(Bounds::new(), SystemClock::shared()))
}

fn events() -> Arc<dyn History> {
    let store: Arc<dyn EventStore> = Arc::new(ModelEvents::new(SystemClock::shared()));
    Arc::new(EventHistory::new(store, "room.", SystemClock::shared()).unwrap())
}

/// A history with a bug.
#[derive(Debug)]
struct Wrong(Arc<dyn History>, &'static str);

#[async_trait]
impl History for Wrong {
    async fn append(&self, room: &str, body: Bytes) -> Result<Place> {
        let room = if self.1 == "apart" { "all" } else { room };
        let body = if self.1 == "read_your_writes" { Bytes::new() } else { body };
        let mut place = self.0.append(room, body).await?;
        if self.1 == "gapless" {
            place.offset += place.offset / 50;
        }
        if self.1 == "one_epoch" {
            place.epoch.push_str(&place.offset.to_string());
        }
        Ok(place)
    }

    async fn read(&self, room: &str, after: u64, limit: usize) -> Result<Window> {
        let room = if self.1 == "apart" { "all" } else { room };
        let mut window = self.0.read(room, after, limit).await?;
        if self.1 == "contiguous" && 1 < window.entries.len() {
            window.entries.remove(1);
        }
        if self.1 == "limited" {
            window.last = after + u64::try_from(window.entries.len()).unwrap();
        }
        Ok(window)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_backend_keeps_every_clause() {
    for name in ALL {
        assert_eq!(clause(name, memory()).await, Ok(()), "{name} in memory");
        assert_eq!(clause(name, events()).await, Ok(()), "{name} over an event store");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_planted_bug_is_caught_by_its_clause() {
    for name in ALL {
        let wrong = Arc::new(Wrong(memory(), name));
        assert!(clause(name, wrong).await.is_err(), "{name} did not catch its bug");
    }
}
