//! Writing behind the cache: acknowledged at once, written soon, in order, and never lost silently.

mod buffer;
mod journal;
mod writer;

use std::{
    collections::HashMap,
    fmt::{self, Debug},
    sync::Arc,
    time::Duration,
};

use infra_core::{
    Clock, Error, ErrorKind, Result,
    backoff::Backoff,
    codec::{Codec, Json},
};
use parking_lot::Mutex;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    sync::{MutexGuard, Notify, OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

pub use journal::Journal;
pub use writer::Writer;

use crate::{
    behind::buffer::Buffer,
    read::Loaded,
    source::{Edit, Source},
    task,
    telemetry::{BEHIND, Behind},
    tiered::Tiered,
    turns::Turns,
};

const SAVE: &str = "write behind cache";

/// How edits are written behind a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BehindOptions {
    batch: usize,
    interval: Duration,
    capacity: usize,
    patience: Duration,
    pause: Backoff,
}

impl Default for BehindOptions {
    fn default() -> Self {
        Self {
            batch: 100,
            interval: Duration::from_secs(1),
            capacity: 10_000,
            patience: Duration::from_secs(5),
            pause: Backoff::exponential(Duration::from_millis(100))
                .capped_at(Duration::from_secs(10)),
        }
    }
}

impl BehindOptions {
    /// Sets how many edits are written together, and at how many the writing begins at once; 100 by default.
    #[must_use]
    pub fn batch(mut self, edits: usize) -> Self {
        self.batch = edits.max(1);
        self
    }

    /// Sets how long an edit waits for others at most; a second by default.
    #[must_use]
    pub const fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Sets how many keys may wait to be written; 10,000 by default. Who comes then waits for room.
    #[must_use]
    pub fn capacity(mut self, keys: usize) -> Self {
        self.capacity = keys.clamp(1, Semaphore::MAX_PERMITS);
        self
    }

    /// Sets how long is waited for room, and for earlier saves of the key, before a save is refused as
    /// [`Overloaded`](infra_core::ErrorKind::Overloaded); five seconds by default.
    #[must_use]
    pub const fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Sets the pauses after failed writes; a tenth of a second by default, doubled up to ten.
    #[must_use]
    pub const fn pause(mut self, pause: Backoff) -> Self {
        self.pause = pause;
        self
    }
}

/// A source behind a cache whose writes are acknowledged before the source has them.
///
/// What waits is read before the cache and the source, so whoever saved sees it. Of several edits of one key the last
/// is written; a failed write is repeated with what is newest by then, never with something older. An edit that the
/// source refuses for good is given up, counted, and told to whoever [listens](WriteBehind::refused).
/// Without a [`Journal`] a crash loses what waits (at most [`capacity`](BehindOptions::capacity) keys); with one
/// an edit is durable before it is acknowledged.
///
/// One process writes a key; the source is behind by as much as waits.
pub struct WriteBehind<V, C = Json> {
    cache: Tiered<V, C>,
    shared: Arc<Shared<V>>,
}

/// What the handles and the writer share.
struct Shared<V> {
    source: Arc<dyn Source<V>>,
    options: BehindOptions,
    clock: Arc<dyn Clock>,
    journal: Option<Journal>,
    state: Mutex<State<V>>,
    /// An edit came, or a save ended.
    stirred: Notify,
    room: Arc<Semaphore>,
    turns: Turns,
    refused: Mutex<Option<Refused<V>>>,
}

type Refused<V> = Arc<dyn Fn(&Edit<V>, &Error) + Send + Sync>;

struct State<V> {
    buffer: Buffer<V, Option<OwnedSemaphorePermit>>,
    /// How many saves are on their way into the buffer.
    entering: usize,
    is_closed: bool,
}

impl<V, C> Clone for WriteBehind<V, C> {
    fn clone(&self) -> Self {
        Self { cache: self.cache.clone(), shared: Arc::clone(&self.shared) }
    }
}

impl<V, C> Debug for WriteBehind<V, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteBehind").field("options", &self.shared.options).finish_non_exhaustive()
    }
}

/// A save on its way; the writer does not end before it.
struct Entering<V>(Arc<Shared<V>>);

impl<V> Drop for Entering<V> {
    fn drop(&mut self) {
        self.0.state.lock().entering -= 1;
        self.0.stirred.notify_one();
    }
}

/// The room of a save on its way; if the save fails, it goes back to what waits under the key.
struct Room<'a, V> {
    shared: &'a Shared<V>,
    key: &'a str,
    permit: Option<OwnedSemaphorePermit>,
}

impl<V> Drop for Room<'_, V> {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            self.shared.state.lock().buffer.restore(self.key, Some(permit));
        }
    }
}

impl<V, C> WriteBehind<V, C>
where
    V: Clone + Send + Sync + Serialize + DeserializeOwned + 'static,
    C: Codec + 'static,
{
    /// Creates the repository without a journal, and the writer that must [run](Writer::run) for it.
    pub fn new(
        cache: Tiered<V, C>,
        source: Arc<dyn Source<V>>,
        options: BehindOptions,
        clock: Arc<dyn Clock>,
    ) -> (Self, Writer<V, C>) {
        Self::with(cache, source, options, clock, None)
    }

    /// Creates the repository on a journal, with what an earlier process left there waiting to be written first.
    ///
    /// # Errors
    ///
    /// What the journal's store fails with; [`Corrupt`](infra_core::ErrorKind::Corrupt) if there is something else in it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn open(
        cache: Tiered<V, C>,
        source: Arc<dyn Source<V>>,
        options: BehindOptions,
        clock: Arc<dyn Clock>,
        journal: Journal,
    ) -> Result<(Self, Writer<V, C>)> {
        let left = journal.left::<V>().await?;
        let (behind, writer) = Self::with(cache, source, options, clock, Some(journal));
        for (edit, version) in left {
            behind.cache.invalidate(&edit.key).await?;
            // More may be left than there is room for now: it is bounded by what there was room for then.
            let room = Arc::clone(&behind.shared.room).try_acquire_owned().ok();
            let now = behind.shared.clock.now();
            behind.shared.state.lock().buffer.put(edit, Some(version), room, now);
        }
        Ok((behind, writer))
    }

    fn with(
        cache: Tiered<V, C>,
        source: Arc<dyn Source<V>>,
        options: BehindOptions,
        clock: Arc<dyn Clock>,
        journal: Option<Journal>,
    ) -> (Self, Writer<V, C>) {
        let shared = Arc::new(Shared {
            source,
            options,
            clock,
            journal,
            state: Mutex::new(State { buffer: Buffer::new(), entering: 0, is_closed: false }),
            stirred: Notify::new(),
            room: Arc::new(Semaphore::new(options.capacity)),
            turns: Turns::new(),
            refused: Mutex::new(None),
        });
        let writer = Writer { cache: cache.clone(), shared: Arc::clone(&shared) };
        (Self { cache, shared }, writer)
    }

    /// Sets who is told of edits that the source refused for good; only counted by default.
    pub fn refused(&self, listener: impl Fn(&Edit<V>, &Error) + Send + Sync + 'static) {
        *self.shared.refused.lock() = Some(Arc::new(listener));
    }

    /// Returns how many keys wait to be written.
    pub fn waiting(&self) -> usize {
        self.shared.state.lock().buffer.len()
    }

    /// Returns the value under a key: what waits to be written, else from the cache, else from the source.
    ///
    /// # Errors
    ///
    /// As for [`Tiered::get_or_load`]; that there is no value is `None`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the waiting only.
    pub async fn get(&self, key: &str) -> Result<Option<V>> {
        if let Some(pending) = self.shared.pending(key) {
            return Ok(pending.value);
        }
        let (shared, name) = (Arc::clone(&self.shared), key.to_owned());
        let load = || async move {
            let mut found = shared.load(vec![name.clone()]).await?;
            Ok(found.remove(&name).unwrap_or_else(Loaded::absent))
        };
        Ok(self.cache.read_or_load(key, load).await?.value)
    }

    /// Returns the values under several keys.
    ///
    /// # Errors
    ///
    /// As for [`Self::get`].
    ///
    /// # Cancel safety
    ///
    /// As for [`Self::get`].
    pub async fn get_many(&self, keys: &[String]) -> Result<HashMap<String, V>> {
        let (mut values, mut asked) = (HashMap::new(), Vec::new());
        for key in keys {
            match self.shared.pending(key) {
                Some(Edit { key, value }) => values.extend(value.map(|value| (key, value))),
                None => asked.push(key.clone()),
            }
        }
        let shared = Arc::clone(&self.shared);
        let load = move |keys| {
            let shared = Arc::clone(&shared);
            async move { shared.load(keys).await }
        };
        values.extend(self.cache.get_many_or_load(&asked, load).await?);
        Ok(values)
    }

    /// Saves a value, which may have a time and tags of its own in the cache; the source has it later.
    ///
    /// # Errors
    ///
    /// [`Overloaded`](ErrorKind::Overloaded) if there was no room for too long, or earlier saves of the key took too long,
    /// [`Closed`](ErrorKind::Closed) if the writer has ended; the journal's own, and then it may be written after a
    /// restart if that is [`Indeterminate`](ErrorKind::Indeterminate).
    ///
    /// # Cancel safety
    ///
    /// The save goes on if the future is dropped.
    pub async fn save(&self, key: &str, value: impl Into<Loaded<V>>) -> Result<()> {
        self.write(key.to_owned(), Some(value.into())).await
    }

    /// Deletes the value under a key.
    ///
    /// # Errors
    ///
    /// As for [`Self::save`].
    ///
    /// # Cancel safety
    ///
    /// As for [`Self::save`].
    pub async fn delete(&self, key: &str) -> Result<()> {
        self.write(key.to_owned(), None).await
    }

    async fn write(&self, key: String, loaded: Option<Loaded<V>>) -> Result<()> {
        let (cache, shared) = (self.cache.clone(), Arc::clone(&self.shared));
        task::detached(SAVE, async move {
            let _entering = shared.enter()?;
            let (_turn, mut room) = shared.admit(&key).await?;
            let value = loaded.as_ref().and_then(|loaded| loaded.value.clone());
            let edit = Edit { key: key.clone(), value };
            let journalled = match &shared.journal {
                Some(journal) => Some(journal.note::<C, V>(&edit).await?),
                None => None,
            };
            let now = shared.clock.now();
            let permit = room.permit.take();
            if shared.state.lock().buffer.put(edit, journalled, permit, now) {
                BEHIND.add_for(Behind::Coalesced, 1);
            }
            drop(room);
            shared.stirred.notify_one();
            // It is acknowledged whatever the second tier says: what waits is read before it.
            let _settled = cache.settle(key, loaded).await.is_ok();
            Ok(())
        })
        .await
    }
}

impl<V> Shared<V>
where
    V: Clone + Send + Sync + 'static,
{
    fn pending(&self, key: &str) -> Option<Edit<V>> {
        self.state.lock().buffer.get(key)
    }

    /// Loads from the source what does not wait. What waits is looked at after the load has its ticket: a save that
    /// is not seen here supersedes the load.
    async fn load(&self, mut keys: Vec<String>) -> Result<HashMap<String, Loaded<V>>> {
        let mut loaded = HashMap::new();
        keys.retain(|key| match self.pending(key) {
            Some(Edit { key, value }) => {
                loaded.extend(value.map(|value| (key, Loaded::new(value))));
                false
            }
            None => true,
        });
        if !keys.is_empty() {
            loaded.extend(self.source.load(keys).await?);
        }
        Ok(loaded)
    }

    fn enter(self: &Arc<Self>) -> Result<Entering<V>> {
        let mut state = self.state.lock();
        if state.is_closed {
            return Err(Error::new(ErrorKind::Closed, SAVE));
        }
        state.entering += 1;
        drop(state);
        Ok(Entering(Arc::clone(self)))
    }

    /// Waits for the turn of a key and then for room, unless the key has a place already; for both no longer than the
    /// patience, since those who wait for the turn wait for the room of those before them too.
    async fn admit<'a, 's: 'a>(
        &'s self,
        key: &'a str,
    ) -> Result<(MutexGuard<'s, ()>, Room<'a, V>)> {
        let admitted = async {
            let turn = self.turns.take(key).await;
            let held = self.state.lock().buffer.hold(key);
            let permit = match held {
                Some(permit) => permit,
                None => Some(self.make_room().await?),
            };
            Ok((turn, Room { shared: self, key, permit }))
        };
        let late = |_| Error::new(ErrorKind::Overloaded, SAVE).detail("no room or turn in time");
        timeout(self.options.patience, admitted).await.map_err(late)?
    }

    async fn make_room(&self) -> Result<OwnedSemaphorePermit> {
        let room = Arc::clone(&self.room).acquire_owned().await;
        room.map_err(|_| Error::new(ErrorKind::Closed, SAVE))
    }
}
