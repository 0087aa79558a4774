//! What waits to be written: pure, without a clock and without waiting.

use std::{
    collections::{BTreeMap, HashMap},
    mem,
};

use infra_core::{clock::Instant, version::Version};

use crate::source::Edit;

/// An edit that waits. `R` is the room that it takes; it is given back when the edit goes.
#[derive(Debug)]
struct Pending<V, R> {
    value: Option<V>,
    place: u64,
    /// The number of the edit; another one after each change of the key.
    number: u64,
    /// When the first edit came that is not written yet.
    since: Instant,
    latest: Instant,
    journalled: Option<Version>,
    room: R,
}

/// An edit that is being written, as it was then.
#[derive(Debug, Clone)]
pub(super) struct Taken<V> {
    pub(super) edit: Edit<V>,
    pub(super) journalled: Option<Version>,
    number: u64,
}

/// The edits that wait, the one that has waited longest first; of each key only the last one.
#[derive(Debug)]
pub(super) struct Buffer<V, R> {
    edits: HashMap<String, Pending<V, R>>,
    order: BTreeMap<u64, String>,
    next: u64,
}

impl<V: Clone, R> Buffer<V, R> {
    pub(super) fn new() -> Self {
        Self { edits: HashMap::new(), order: BTreeMap::new(), next: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.edits.len()
    }

    /// Returns what waits for a key.
    pub(super) fn get(&self, key: &str) -> Option<Edit<V>> {
        let value = self.edits.get(key)?.value.clone();
        Some(Edit { key: key.to_owned(), value })
    }

    /// Takes an edit in. A key that waits keeps its place, so that one that changes all the time is written
    /// nevertheless. Returns whether it replaced one that waited.
    pub(super) fn put(
        &mut self,
        edit: Edit<V>,
        journalled: Option<Version>,
        room: R,
        now: Instant,
    ) -> bool {
        self.next += 1;
        let (number, Edit { key, value }) = (self.next, edit);
        if let Some(pending) = self.edits.get_mut(&key) {
            (pending.value, pending.number, pending.latest) = (value, number, now);
            (pending.journalled, pending.room) = (journalled, room);
            return true;
        }
        self.order.insert(number, key.clone());
        let pending =
            Pending { value, place: number, number, since: now, latest: now, journalled, room };
        self.edits.insert(key, pending);
        false
    }

    /// Returns since when the first edit waits.
    pub(super) fn oldest(&self) -> Option<Instant> {
        let (_, key) = self.order.first_key_value()?;
        self.edits.get(key).map(|pending| pending.since)
    }

    /// Returns the first edits; they stay until they are [settled](Self::settle).
    pub(super) fn first(&self, count: usize) -> Vec<Taken<V>> {
        let keys = self.order.values().take(count);
        let taken = keys.filter_map(|key| {
            let Pending { value, number, journalled, .. } = self.edits.get(key)?;
            let edit = Edit { key: key.clone(), value: value.clone() };
            Some(Taken { edit, journalled: *journalled, number: *number })
        });
        taken.collect()
    }

    /// Ends an edit; if a newer one has come to its key, that one goes to the end.
    pub(super) fn settle(&mut self, taken: &Taken<V>) {
        let key = &taken.edit.key;
        let Some(pending) = self.edits.get_mut(key) else { return };
        self.order.remove(&pending.place);
        if pending.number == taken.number {
            self.edits.remove(key);
            return;
        }
        self.next += 1;
        (pending.place, pending.since) = (self.next, pending.latest);
        self.order.insert(self.next, key.clone());
    }
}

impl<V, R: Default> Buffer<V, R> {
    /// Takes the room of a key that waits, for an edit that is on its way to it: so the room stays taken when the key
    /// is settled before that edit is put. `None` if the key does not wait.
    pub(super) fn hold(&mut self, key: &str) -> Option<R> {
        self.edits.get_mut(key).map(|pending| mem::take(&mut pending.room))
    }

    /// Gives back the room of an edit that did not come; it is free if the key does not wait any more.
    pub(super) fn restore(&mut self, key: &str, room: R) {
        if let Some(pending) = self.edits.get_mut(key) {
            pending.room = room;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn keys(buffer: &Buffer<u32, ()>) -> Vec<(String, Option<u32>)> {
        buffer.first(9).into_iter().map(|it| (it.edit.key, it.edit.value)).collect()
    }

    #[test]
    fn the_last_edit_of_a_key_takes_the_place_of_the_first() {
        let mut buffer = Buffer::<u32, ()>::new();
        let start = Instant::START;
        assert!(!buffer.put(Edit::save("a", 1), None, (), start));
        assert!(!buffer.put(Edit::save("b", 1), None, (), start));
        assert!(buffer.put(Edit::delete("a"), None, (), start));
        assert_eq!(keys(&buffer), [("a".to_owned(), None), ("b".to_owned(), Some(1))]);
        assert_eq!((buffer.get("a"), buffer.get("c")), (Some(Edit::delete("a")), None));
    }

    #[test]
    fn an_edit_that_came_while_its_key_was_written_waits_anew_behind_the_others() {
        let mut buffer = Buffer::<u32, ()>::new();
        let later = Instant::START + std::time::Duration::from_secs(1);
        buffer.put(Edit::save("a", 1), None, (), Instant::START);
        buffer.put(Edit::save("b", 1), None, (), Instant::START);
        let taken = buffer.first(1);
        buffer.put(Edit::save("a", 2), None, (), later);
        for it in &taken {
            buffer.settle(it);
        }
        assert_eq!(keys(&buffer), [("b".to_owned(), Some(1)), ("a".to_owned(), Some(2))]);
        assert_eq!(buffer.oldest(), Some(Instant::START));
        for it in &buffer.first(2) {
            buffer.settle(it);
        }
        assert_eq!((buffer.len(), buffer.oldest()), (0, None));
    }

    #[test]
    fn the_room_of_a_key_stays_taken_though_it_is_settled_while_another_edit_is_on_its_way() {
        let mut buffer = Buffer::<u32, Option<Arc<()>>>::new();
        let permit = Arc::new(());
        let is_taken = || Arc::strong_count(&permit) == 2;
        buffer.put(Edit::save("a", 1), None, Some(Arc::clone(&permit)), Instant::START);
        let taken = buffer.first(1);
        let room = buffer.hold("a").unwrap();
        assert!(room.is_some() && buffer.hold("b").is_none());
        buffer.settle(&taken[0]);
        assert_eq!((buffer.len(), is_taken()), (0, true));
        assert!(!buffer.put(Edit::save("a", 2), None, room, Instant::START));
        assert_eq!((buffer.get("a"), is_taken()), (Some(Edit::save("a", 2)), true));
        // One that does not come gives the room back to what waits, or else to all.
        let room = buffer.hold("a").unwrap();
        buffer.restore("a", room);
        assert!(is_taken());
        let room = buffer.hold("a").unwrap();
        let taken = buffer.first(1);
        buffer.settle(&taken[0]);
        assert!(is_taken());
        buffer.restore("a", room);
        assert_eq!((buffer.len(), is_taken()), (0, false));
    }
}
