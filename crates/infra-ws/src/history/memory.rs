//! The history of rooms in memory: bounded by count, bytes and age, and in the number of rooms.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use infra_core::{Clock, Result, clock::Instant, random::Random};
use parking_lot::Mutex;

use super::{Entry, History, Place, Window};

/// How much of each room is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    count: usize,
    bytes: usize,
    age: Duration,
    rooms: usize,
}

impl Bounds {
    /// Creates the default bounds: 1,000 events, 1 MiB and 5 minutes per room, 10,000 rooms.
    pub const fn new() -> Self {
        let age = Duration::from_mins(5);
        Self { count: 1_000, bytes: 1024 * 1024, age, rooms: 10_000 }
    }

    /// Sets how many events of a room are kept.
    #[must_use]
    pub const fn count(mut self, count: usize) -> Self {
        self.count = count;
        self
    }

    /// Sets how many bytes of events of a room are kept.
    #[must_use]
    pub const fn bytes(mut self, bytes: usize) -> Self {
        self.bytes = bytes;
        self
    }

    /// Sets for how long events are kept.
    #[must_use]
    pub const fn age(mut self, age: Duration) -> Self {
        self.age = age;
        self
    }

    /// Sets how many rooms are kept; beyond it the one that was silent longest is forgotten, and
    /// its clients are told that the epoch changed.
    #[must_use]
    pub const fn rooms(mut self, rooms: usize) -> Self {
        self.rooms = rooms;
        self
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self::new()
    }
}

#[derive(Debug)]
struct Stream {
    epoch: String,
    last: u64,
    bytes: usize,
    entries: VecDeque<(Instant, Entry)>,
    touched: Instant,
}

/// Keeps streams in memory; they end with the process.
#[derive(Debug)]
pub struct MemoryHistory {
    bounds: Bounds,
    clock: Arc<dyn Clock>,
    random: Random,
    streams: Mutex<HashMap<Box<str>, Stream>>,
}

impl MemoryHistory {
    /// Creates an empty history; epochs come from the operating system's randomness.
    pub fn new(bounds: Bounds, clock: Arc<dyn Clock>) -> Self {
        Self { bounds, clock, random: Random::from_system(), streams: Mutex::default() }
    }

    /// Returns how many bytes of events are held.
    pub fn bytes(&self) -> usize {
        self.streams.lock().values().map(|stream| stream.bytes).sum()
    }

    /// Returns how many rooms have a stream.
    pub fn rooms(&self) -> usize {
        self.streams.lock().len()
    }

    /// Forgets the stream of a room; what is appended later begins another epoch.
    pub fn forget(&self, room: &str) {
        self.streams.lock().remove(room);
    }

    fn make_room(&self, streams: &mut HashMap<Box<str>, Stream>) {
        if streams.len() < self.bounds.rooms {
            return;
        }
        let oldest = streams.iter().min_by_key(|(_, stream)| stream.touched);
        if let Some(oldest) = oldest.map(|(name, _)| name.clone()) {
            streams.remove(&oldest);
        }
    }
}

#[async_trait]
impl History for MemoryHistory {
    async fn append(&self, room: &str, body: Bytes) -> Result<Place> {
        let now = self.clock.now();
        let mut streams = self.streams.lock();
        if !streams.contains_key(room) {
            self.make_room(&mut streams);
        }
        let stream = streams.entry(room.into()).or_insert_with(|| Stream {
            epoch: format!("{:016x}", self.random.next_u64()),
            last: 0,
            bytes: 0,
            entries: VecDeque::new(),
            touched: now,
        });
        stream.last += 1;
        stream.touched = now;
        stream.bytes += body.len();
        let offset = stream.last;
        stream.entries.push_back((now, Entry { offset, body }));
        stream.evict(&self.bounds, now);
        Ok(Place { epoch: stream.epoch.clone(), offset })
    }

    async fn read(&self, room: &str, after: u64, limit: usize) -> Result<Window> {
        let now = self.clock.now();
        let mut streams = self.streams.lock();
        let Some(stream) = streams.get_mut(room) else {
            return Ok(Window { epoch: String::new(), first: 1, last: 0, entries: Vec::new() });
        };
        stream.evict(&self.bounds, now);
        let first = stream.first();
        let skipped = (after + 1).checked_sub(first).and_then(|count| usize::try_from(count).ok());
        let entries = skipped.map(|skipped| stream.entries.iter().skip(skipped).take(limit));
        let entries = entries.into_iter().flatten().map(|(_, entry)| entry.clone()).collect();
        Ok(Window { epoch: stream.epoch.clone(), first, last: stream.last, entries })
    }
}

impl Stream {
    fn first(&self) -> u64 {
        self.entries.front().map_or(self.last + 1, |(_, entry)| entry.offset)
    }

    fn evict(&mut self, bounds: &Bounds, now: Instant) {
        while let Some((since, _)) = self.entries.front() {
            let is_within = self.entries.len() <= bounds.count
                && self.bytes <= bounds.bytes
                && now.since(*since) < bounds.age;
            if is_within {
                return;
            }
            let gone = self.entries.pop_front();
            self.bytes -= gone.map_or(0, |(_, entry)| entry.body.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use infra_testkit::clock::ManualClock;

    use super::*;

    async fn offsets(history: &MemoryHistory, after: u64) -> (u64, u64, Vec<u64>) {
        let window = history.read("a", after, 100).await.unwrap();
        let entries = window.entries.iter().map(|entry| entry.offset).collect();
        (window.first, window.last, entries)
    }

    #[tokio::test]
    async fn what_is_beyond_count_bytes_or_age_is_evicted_and_said_so() {
        let clock = ManualClock::new();
        let bounds = Bounds::new().count(3).bytes(10).age(Duration::from_mins(1));
        let history = MemoryHistory::new(bounds, Arc::new(clock.clone()));
        for _ in 0..5 {
            history.append("a", Bytes::from_static(b"x")).await.unwrap();
        }
        assert_eq!(offsets(&history, 2).await, (3, 5, vec![3, 4, 5]), "count");
        assert_eq!(offsets(&history, 1).await, (3, 5, vec![]), "never a part");
        history.append("a", Bytes::from_static(b"123456789")).await.unwrap();
        assert_eq!(offsets(&history, 4).await, (5, 6, vec![5, 6]), "bytes");
        assert_eq!(history.bytes(), 10);
        clock.advance(Duration::from_mins(1));
        assert_eq!(offsets(&history, 5).await, (7, 6, vec![]), "age");
        history.append("a", Bytes::from_static(b"x")).await.unwrap();
        assert_eq!(offsets(&history, 6).await, (7, 7, vec![7]), "offsets go on");
    }

    #[tokio::test]
    async fn a_room_too_many_costs_the_one_that_was_silent_longest_its_epoch() {
        let clock = ManualClock::new();
        let history = MemoryHistory::new(Bounds::new().rooms(2), Arc::new(clock.clone()));
        let append = async |room| {
            clock.advance(Duration::from_secs(1));
            history.append(room, Bytes::new()).await.unwrap()
        };
        let (first, second) = (append("a").await, append("b").await);
        append("c").await;
        assert_eq!(history.rooms(), 2);
        assert_eq!(append("b").await, Place { offset: 2, ..second });
        let anew = append("a").await;
        assert!(anew.offset == 1 && anew.epoch != first.epoch);
        history.forget("a");
        assert_eq!(history.read("a", 0, 9).await.unwrap().epoch, "");
    }
}
