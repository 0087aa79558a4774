//! The entities that are in memory: found without a global lock, within limits, and coherent with
//! the store.
//!
//! A key is in one of 64 shards, a unique value in one of 64 parts of its index; each has a slot with the
//! entity and its last use. A reader takes the lock of that part alone, for reading, and notes the use in
//! the slot. Who needs room takes the order's lock, and under it the shards', and under one of those an
//! index's (never the other way round): a heap names the next to leave, lazily. A use does not touch the
//! heap; what comes to its top and was used since is put back under its new number. So exactly the longest
//! unused one leaves, as [`Uses`] numbers uses.

use std::{
    cmp::Reverse,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use infra_core::{Clock as _, Error, ErrorKind, Result, clock::Timestamp};
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use super::{
    entity::{Standing, Stored},
    limits::{Limits, Overflow, Usage},
    names::Names,
    order::{Order, Room, Tally},
    resident::{Facts, Held, Load, Resident, Shard},
    shards::{Shards, put, take},
    slot_key::SlotKey,
    uses::{LastUse, Uses},
};
use crate::telemetry::{EVICTED, REFUSED};

/// The most keys of a shard that are remembered as absent.
const ABSENT: usize = 1_024;

#[derive(Debug)]
pub(crate) struct Residents<E> {
    limits: Limits,
    shards: Shards<Shard<E>>,
    names: Names<Held<E>>,
    uses: Uses,
    order: Mutex<Order>,
    room: Notify,
    pub(crate) tally: Tally,
}

/// What a reader finds.
pub(crate) enum Found<E> {
    Here(Stored<E>),
    Absent,
    /// It has to be loaded, by who comes first.
    Unknown(Load<E>),
}

impl<E> Residents<E> {
    pub(crate) fn new(limits: Limits) -> Self {
        let (shards, names, uses) = (Shards::new(), Names::new(), Uses::default());
        let (order, room, tally) = (Mutex::default(), Notify::new(), Tally::default());
        Self { limits, shards, names, uses, order, room, tally }
    }

    fn shard(&self, key: &[u8]) -> (u64, &RwLock<Shard<E>>) {
        let hash = self.shards.hash(key);
        (hash, self.shards.of(hash))
    }

    /// Notes a use, and returns what was used.
    fn used(&self, held: &Held<E>) -> Stored<E> {
        held.last.note(self.uses.hit());
        if self.limits.ages {
            held.last.note_time(self.limits.clock.wall().as_millis());
        }
        held.stored.clone()
    }

    /// Returns an entity that is in memory, which counts as a use.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Stored<E>> {
        let (hash, shard) = self.shard(key);
        shard.read().get(hash, key).map(|resident| self.used(&resident.held))
    }

    /// Returns the entity in memory that has a unique value, which counts as a use.
    pub(crate) fn get_unique(&self, index: &str, value: &[u8]) -> Option<Stored<E>> {
        self.names.find(index, value, |held| self.used(held))
    }

    /// Returns an entity that is in memory without a use, and when it was used last, if ages are kept.
    pub(crate) fn peek(&self, key: &[u8]) -> Option<(Stored<E>, Timestamp)> {
        let (hash, shard) = self.shard(key);
        let shard = shard.read();
        let resident = shard.get(hash, key)?;
        let touched = Timestamp::from_millis(resident.touched(&self.names));
        Some((resident.held.stored.clone(), touched))
    }

    /// Returns an entity, or the load to wait for.
    pub(crate) fn find(&self, key: &Bytes) -> Found<E> {
        if let Some(stored) = self.get(key) {
            return Found::Here(stored);
        }
        let now = self.limits.clock.now();
        let (hash, shard) = self.shard(key);
        let mut shard = shard.write();
        if let Some(resident) = shard.get(hash, key) {
            return Found::Here(resident.held.stored.clone());
        }
        if shard.absent.get(key).is_some_and(|until| now < *until) {
            self.tally.known_absent.fetch_add(1, Ordering::Relaxed);
            return Found::Absent;
        }
        self.tally.misses.fetch_add(1, Ordering::Relaxed);
        Found::Unknown(Arc::clone(shard.loading.entry(key.clone()).or_default()))
    }

    /// Forgets a load that nobody else waits for, or that has come.
    pub(crate) fn loaded(&self, key: &Bytes, load: &Load<E>) {
        let mut shard = self.shard(key).1.write();
        let is_it = shard.loading.get(key).is_some_and(|own| Arc::ptr_eq(own, load));
        if is_it && (load.initialized() || Arc::strong_count(load) <= 2) {
            shard.loading.remove(key);
        }
    }

    /// Returns how many writes of the key's shard have ended.
    pub(crate) fn changes(&self, key: &Bytes) -> u64 {
        self.shard(key).1.read().changes
    }

    /// Keeps what was read when `changes` writes had ended, unless it may be older than what is
    /// stored now, or there is no room. Returns what is in memory then: a reader that saw a write in
    /// the store before its end must not show it before memory does.
    pub(crate) fn keep(
        &self,
        key: &Bytes,
        read: Option<(Stored<E>, Facts)>,
        changes: u64,
    ) -> Option<Stored<E>> {
        let room = read.as_ref().and_then(|(_, facts)| self.take(1, facts.bytes));
        let until = self.limits.clock.now() + self.limits.absence;
        let (hash, shard) = self.shard(key);
        let mut shard = shard.write();
        let resident = shard.get(hash, key).map(|own| own.held.stored.clone());
        let is_newest = changes == shard.changes && !shard.writing.contains_key(key);
        let may_stay = is_newest && resident.is_none();
        match (read, room) {
            (Some(read), Some(_)) if may_stay => {
                self.insert(&mut shard, key, read);
                drop(shard);
                self.queue(key);
            }
            (None, _) if may_stay => {
                if ABSENT <= shard.absent.len() {
                    shard.absent.clear();
                }
                shard.absent.insert(key.clone(), until);
            }
            (_, room) => {
                drop(shard);
                if let Some(room) = &room {
                    self.give(room);
                }
            }
        }
        resident
    }

    /// Puts an entity into its shard; the room for it is taken already.
    fn insert(&self, shard: &mut Shard<E>, key: &Bytes, (stored, facts): (Stored<E>, Facts)) {
        let last = LastUse::new(self.uses.arrival(), self.limits.clock.wall().as_millis());
        let held = Held { stored, last };
        let resident = Resident { key: SlotKey::new(key), held, facts: Box::new(facts) };
        resident.name(&self.names);
        shard.absent.remove(key);
        let is_it = |own: &Resident<E>| own.key.as_slice() == key;
        let hash_of = |own: &Resident<E>| self.shards.hash(own.key.as_slice());
        put(&mut shard.entities, self.shards.hash(key), resident, is_it, hash_of);
    }

    /// Takes an entity out of its shard and returns the room that it had.
    fn remove(&self, shard: &mut Shard<E>, key: &[u8]) -> Option<Room> {
        let hash = self.shards.hash(key);
        let resident = take(&mut shard.entities, hash, |own| own.key.as_slice() == key)?;
        resident.unname(&self.names);
        Some(Room { entries: 1, bytes: resident.facts.bytes })
    }

    /// Names an entity as one that may leave, unless it is active.
    fn queue(&self, key: &Bytes) {
        let mut order = self.order.lock();
        let (hash, shard) = self.shard(key);
        let shard = shard.read();
        let Some(resident) = shard.get(hash, key) else { return };
        if resident.facts.standing == Standing::Active {
            return;
        }
        let used = resident.used(&self.names);
        order.leaving.push(Reverse((resident.facts.standing, used, resident.key.clone())));
        drop(shard);
        // Names of what has left or changed are swept out before they are the larger part.
        if 2 * order.entries + 64 < order.leaving.len() {
            order.leaving = self.evictable().collect();
        }
        self.room.notify_waiters();
    }

    fn evictable(&self) -> impl Iterator<Item = Reverse<(Standing, u64, SlotKey)>> {
        self.shards.iter().flat_map(|shard| {
            let shard = shard.read();
            let leave = |resident: &Resident<E>| {
                let standing = resident.facts.standing;
                let used = resident.used(&self.names);
                let may_leave = standing != Standing::Active;
                may_leave.then(|| Reverse((standing, used, resident.key.clone())))
            };
            shard.entities.iter().filter_map(leave).collect::<Vec<_>>()
        })
    }

    /// Takes room, by letting others leave; `None` if even so there is none.
    pub(crate) fn take(&self, entries: usize, bytes: usize) -> Option<Room> {
        let mut order = self.order.lock();
        if self.limits.entries < entries || self.limits.bytes < bytes {
            return None;
        }
        while !order.fits(&self.limits, entries, bytes) {
            let Reverse((standing, used, key)) = order.leaving.pop()?;
            let (hash, shard) = self.shard(key.as_slice());
            let mut shard = shard.write();
            let Some(resident) = shard.get(hash, key.as_slice()) else { continue };
            let (now_standing, now_used) = (resident.facts.standing, resident.used(&self.names));
            if now_standing == Standing::Active {
                continue;
            }
            if (standing, used) != (now_standing, now_used) {
                drop(shard);
                order.leaving.push(Reverse((now_standing, now_used, key)));
                continue;
            }
            if let Some(room) = self.remove(&mut shard, key.as_slice()) {
                order.give(&room);
                order.evicted += 1;
                EVICTED.add(1);
            }
        }
        Some(order.take(entries, bytes))
    }

    /// Gives room back.
    pub(crate) fn give(&self, room: &Room) {
        self.order.lock().give(room);
        self.room.notify_waiters();
    }

    /// Takes room for an active entity, or says that there is none, as the policy has it.
    pub(crate) async fn admit(&self, key: &Bytes, bytes: usize) -> Result<Room> {
        let has = || {
            let (hash, shard) = self.shard(key);
            shard.read().get(hash, key).map(|own| own.facts.bytes)
        };
        let wanted = || match has() {
            // What is there already needs room for its growth alone.
            Some(own) => (0, bytes.saturating_sub(own)),
            None => (1, bytes),
        };
        let take = || {
            let (entries, bytes) = wanted();
            self.take(entries, bytes)
        };
        let wait = match self.limits.overflow {
            Overflow::Refuse => Duration::ZERO,
            Overflow::Wait(wait) => wait,
        };
        let waiting = async {
            loop {
                let given = self.room.notified();
                if let Some(room) = take() {
                    return room;
                }
                given.await;
            }
        };
        if let Some(room) = take() {
            return Ok(room);
        }
        if !wait.is_zero()
            && let Ok(room) = tokio::time::timeout(wait, waiting).await
        {
            return Ok(room);
        }
        self.order.lock().refused += 1;
        REFUSED.add(1);
        let usage = self.usage();
        let (entries, limit, active) = (usage.entries, self.limits.entries, usage.active);
        tracing::warn!(entries, limit, active, "memory is full of active entities");
        let detail = format!("{entries} entities of at most {limit} in memory, {active} active");
        Err(Error::new(ErrorKind::Overloaded, "save entity").detail(detail))
    }

    /// Notes that keys are written: what is in memory stays until that has ended.
    pub(crate) fn begin(&self, keys: &[Bytes]) {
        for key in keys {
            let mut shard = self.shard(key).1.write();
            let (now, all) = shard.writing.entry(key.clone()).or_default();
            (*now, *all) = (*now + 1, *all + 1);
            shard.loading.remove(key);
        }
    }

    /// Notes that a write of a key has ended, and what memory is to have of it: an entity if the
    /// write was alone, else nothing, for another one may have come later and ended sooner.
    pub(crate) fn end(&self, key: &Bytes, written: Option<(Stored<E>, Facts)>, room: Option<Room>) {
        let mut shard = self.shard(key).1.write();
        shard.changes += 1;
        shard.loading.remove(key);
        shard.absent.remove(key);
        let mut was_alone = true;
        if let Some((now, all)) = shard.writing.get_mut(key) {
            *now -= 1;
            was_alone = *all == 1;
            if *now == 0 {
                shard.writing.remove(key);
            }
        }
        let mut free = Vec::from_iter(self.remove(&mut shard, key));
        free.extend(room);
        let (entries, bytes) = free
            .iter()
            .fold((0, 0), |(entries, bytes), room| (entries + room.entries, bytes + room.bytes));
        let written = written.filter(|_| was_alone);
        let fits = written.as_ref().is_some_and(|(_, facts)| 1 <= entries && facts.bytes <= bytes);
        match written {
            Some((stored, facts)) if fits => {
                let left = Room { entries: entries - 1, bytes: bytes - facts.bytes };
                self.insert(&mut shard, key, (stored, facts));
                drop(shard);
                self.give(&left);
                self.queue(key);
            }
            written => {
                let changes = shard.changes;
                drop(shard);
                self.give(&Room { entries, bytes });
                if written.is_some() {
                    self.keep(key, written, changes);
                }
            }
        }
    }

    /// Returns what is in memory and not over, the most recently used first.
    pub(crate) fn recent(&self, limit: usize) -> Vec<Stored<E>> {
        let mut all: Vec<(u64, Stored<E>)> = Vec::new();
        for shard in self.shards.iter() {
            let shard = shard.read();
            let live = shard.entities.iter();
            let live = live.filter(|own| own.facts.standing != Standing::Completed);
            all.extend(live.map(|own| (own.used(&self.names), own.held.stored.clone())));
        }
        all.sort_by_key(|(used, _)| Reverse(*used));
        all.into_iter().take(limit).map(|(_, stored)| stored).collect()
    }

    pub(crate) fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        {
            let order = self.order.lock();
            (usage.entries, usage.bytes) = (order.entries, order.bytes);
            (usage.evicted, usage.refused) = (order.evicted, order.refused);
        }
        usage.hits = self.uses.hits();
        for shard in self.shards.iter() {
            let shard = shard.read();
            let active = shard.entities.iter();
            usage.active += active.filter(|own| own.facts.standing == Standing::Active).count();
        }
        usage.known_absent = self.tally.known_absent.load(Ordering::Relaxed);
        usage.misses = self.tally.misses.load(Ordering::Relaxed);
        usage.loads = self.tally.loads.load(Ordering::Relaxed);
        usage
    }
}
