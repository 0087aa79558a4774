//! A table of keys that never takes more than its bytes and never stops to clean up.
//!
//! Slots lie side by side, found through an index of their places by hash. A hand walks over them,
//! a few at each decision, and removes those that say no more than a new one would (the clock
//! algorithm, Corbató 1968). Room for slots is set aside once for all that the budget can hold, so
//! that no decision waits for a move.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use crate::{
    algorithm::{Arithmetic, Cell},
    index::Index,
    key::Key,
};

/// What is remembered of a key, and until when it is blocked, in nanoseconds.
#[derive(Debug, Clone)]
pub(crate) struct State {
    pub(crate) cell: Cell,
    pub(crate) blocked_until: u64,
}

impl State {
    pub(crate) const fn of(cell: Cell) -> Self {
        Self { cell, blocked_until: 0 }
    }

    #[inline]
    pub(crate) fn pay(&mut self, arithmetic: &Arithmetic, cost: u32, now: u64) {
        let cell = std::mem::replace(&mut self.cell, Cell::Held(0));
        self.cell = arithmetic.pay(Some(cell), cost, now);
    }

    #[inline]
    pub(crate) fn is_idle(&self, arithmetic: &Arithmetic, now: u64) -> bool {
        self.blocked_until <= now && arithmetic.is_idle(&self.cell, now)
    }
}

/// One line of the processor's caches, so that a look-up waits for memory once.
#[derive(Debug)]
#[repr(align(64))]
struct Slot {
    hash: u64,
    key: Key,
    state: State,
}

/// What a slot and its place in the index take, without a long key and its log.
const SLOT_BYTES: usize = size_of::<Slot>() + 2 * (size_of::<u32>() + 1);

/// Keys and their states.
#[derive(Debug)]
pub(crate) struct Table {
    hasher: RandomState,
    index: Index,
    slots: Vec<Slot>,
    hand: usize,
    bytes: usize,
    budget: usize,
    /// What each cell takes beside itself, at most.
    cell_bytes: usize,
}

impl Table {
    pub(crate) fn new(budget: usize, cell_bytes: usize) -> Self {
        let slots = budget / SLOT_BYTES.saturating_add(cell_bytes);
        Self {
            hasher: RandomState::new(),
            index: Index::default(),
            slots: Vec::with_capacity(slots),
            hand: 0,
            bytes: 0,
            budget,
            cell_bytes,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    #[inline]
    fn slot_bytes(&self, key: &str) -> usize {
        SLOT_BYTES + Key::bytes_beside(key) + self.cell_bytes
    }

    fn kept_bytes(&self, key: &Key) -> usize {
        let beside = match key {
            Key::Short { .. } => 0,
            Key::Long(key) => key.len(),
        };
        SLOT_BYTES + beside + self.cell_bytes
    }

    /// Returns whether a key could be added.
    #[inline]
    pub(crate) fn has_room(&self, key: &str) -> bool {
        self.bytes.saturating_add(self.slot_bytes(key)) <= self.budget
    }

    /// Returns what a key is found by, which is good for as long as the table.
    #[inline]
    pub(crate) fn hash(&self, key: &str) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(key.as_bytes());
        hasher.finish()
    }

    #[inline]
    fn place(&self, hash: u64, key: &str) -> Option<usize> {
        let is_key = |place: usize| {
            self.slots.get(place).is_some_and(|slot| slot.key.as_bytes() == key.as_bytes())
        };
        self.index.find(hash, is_key)
    }

    /// Returns a key's state and its slot, which is good until something is removed.
    #[inline]
    pub(crate) fn find(&self, hash: u64, key: &str) -> Option<(usize, &State)> {
        let place = self.place(hash, key)?;
        self.slots.get(place).map(|slot| (place, &slot.state))
    }

    pub(crate) fn get(&self, key: &str) -> Option<&State> {
        if self.slots.is_empty() {
            return None;
        }
        self.find(self.hash(key), key).map(|(_, state)| state)
    }

    #[inline]
    pub(crate) fn slot_mut(&mut self, slot: usize) -> Option<&mut State> {
        self.slots.get_mut(slot).map(|slot| &mut slot.state)
    }

    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut State> {
        let place = self.place(self.hash(key), key)?;
        self.slots.get_mut(place).map(|slot| &mut slot.state)
    }

    /// Adds a key that is not there.
    pub(crate) fn insert(&mut self, hash: u64, key: &str, state: State) {
        let Ok(place) = u32::try_from(self.slots.len()) else { return };
        self.bytes = self.bytes.saturating_add(self.slot_bytes(key));
        self.slots.push(Slot { hash, key: key.into(), state });
        let slots = &self.slots;
        self.index.insert(hash, place, |place| slots.get(place).map_or(0, |slot| slot.hash));
    }

    pub(crate) fn remove(&mut self, key: &str) {
        if let Some(place) = self.place(self.hash(key), key) {
            self.remove_at(place);
        }
    }

    /// Removes a slot; the last one takes its place.
    fn remove_at(&mut self, place: usize) {
        let Some(slot) = self.slots.get(place) else { return };
        self.bytes = self.bytes.saturating_sub(self.kept_bytes(&slot.key));
        self.index.remove(slot.hash, place);
        self.slots.swap_remove(place);
        if let Some(moved) = self.slots.get(place) {
            self.index.renumber(moved.hash, self.slots.len(), place);
        }
    }

    /// Moves the hand over a few slots and removes those that are idle.
    #[inline]
    pub(crate) fn tidy(&mut self, n_slots: usize, is_idle: impl Fn(&State) -> bool) {
        for _ in 0..n_slots.min(self.slots.len()) {
            if self.slots.len() <= self.hand {
                self.hand = 0;
            }
            match self.slots.get(self.hand) {
                Some(slot) if is_idle(&slot.state) => self.remove_at(self.hand),
                _ => self.hand += 1,
            }
        }
    }

    /// Replaces each state, as a limit that is changed asks for.
    pub(crate) fn change(&mut self, cell_bytes: usize, change: impl Fn(&mut State)) {
        self.slots.iter_mut().for_each(|slot| change(&mut slot.state));
        let old = self.cell_bytes.saturating_mul(self.slots.len());
        let new = cell_bytes.saturating_mul(self.slots.len());
        self.bytes = self.bytes.saturating_sub(old).saturating_add(new);
        self.cell_bytes = cell_bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(count: u32) -> State {
        State { cell: Cell::Held(count), blocked_until: 0 }
    }

    fn is_idle(state: &State) -> bool {
        state.cell == Cell::Held(0)
    }

    #[test]
    fn a_slot_that_moves_is_found_where_it_is() {
        let mut table = Table::new(1 << 16, 0);
        for key in 0..100_u32 {
            let key_of = key.to_string();
            table.insert(table.hash(&key_of), &key_of, held(key % 3));
        }
        table.remove("98");
        table.remove("absent");
        table.tidy(1_000, is_idle);
        for key in 0..100_u32 {
            let found = table.get(&key.to_string()).map(|state| state.cell.clone());
            let wanted = (key % 3 != 0 && key != 98).then_some(Cell::Held(key % 3));
            assert_eq!(found, wanted, "{key}");
        }
        let bytes: usize = table.slots.iter().map(|slot| table.kept_bytes(&slot.key)).sum();
        assert_eq!(size_of::<Slot>(), 64);
        assert_eq!((table.len(), table.bytes()), (65, bytes));
    }

    #[test]
    fn there_is_room_for_what_the_budget_holds_and_nothing_moves_before() {
        let mut table = Table::new(100 * (SLOT_BYTES + 8), 8);
        let room = table.slots.capacity();
        let mut n_keys = 0;
        loop {
            let key = format!("{n_keys:016}");
            if !table.has_room(&key) {
                break;
            }
            table.insert(table.hash(&key), &key, held(1));
            n_keys += 1;
        }
        assert_eq!((n_keys, table.slots.capacity()), (100, room));
        table.change(0, |state| state.cell = Cell::Held(0));
        assert!(table.has_room("another") && table.get("0000000000000007").is_some_and(is_idle));
    }
}
