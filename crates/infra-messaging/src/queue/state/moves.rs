//! How entries move: between ready, delayed and leased, and out of the queue.

use infra_core::{
    clock::Instant,
    queue::{Cause, DeadLetter},
};

use super::{Moment, State, kept::kept};
use crate::{
    queue::{
        entry::{Entry, Number, Whereabouts, shortened},
        journal::Change,
    },
    telemetry::{DEAD, Death, FORGOTTEN},
};

impl State {
    pub(super) fn insert(&mut self, entry: Entry, at: Moment) {
        self.last += 1;
        self.insert_at(self.last, entry, at);
    }

    /// Puts an entry at a place that is free.
    pub(super) fn insert_at(&mut self, number: Number, mut entry: Entry, at: Moment) {
        if let Some(key) = &entry.message.key {
            self.lanes.entry(key.clone()).or_default().numbers.insert(number);
        }
        let kept = self.journal.is_some().then(|| Box::new(kept(&entry, at)));
        if let (Some(journal), Some(kept)) = (&mut self.journal, kept) {
            journal.changes.push(Change::Added(number, kept));
            journal.shown.push(number);
            if let Whereabouts::Waiting(from) = entry.at {
                entry.at = Whereabouts::Unwritten(from);
                self.n_unwritten += 1;
            }
        }
        self.entries.insert(number, Box::new(entry));
        self.change(number, at, |_| {});
    }

    /// Changes an entry, and everything that is known of it beside it. An entry that may not live on
    /// becomes a dead letter.
    pub(super) fn change(&mut self, number: Number, at: Moment, change: impl FnOnce(&mut Entry)) {
        let Some(entry) = self.entries.get_mut(&number) else { return };
        let (was_leased, was_delayed) = (entry.is_leased(), entry.is_delayed);
        let (turn, timer) = (entry.turn.take(), entry.timer);
        change(entry);
        let is_leased = entry.is_leased();
        entry.is_delayed = matches!(entry.at, Whereabouts::Waiting(from) if at.now < from);
        entry.timer = entry.due(at.now);
        let (is_delayed, due, priority) = (entry.is_delayed, entry.timer, entry.message.priority);
        let end = self.options.end_of(entry, at.now);
        self.n_leased = self.n_leased + u64::from(is_leased) - u64::from(was_leased);
        self.n_delayed = self.n_delayed + u64::from(is_delayed) - u64::from(was_delayed);
        if let Some(turn) = turn {
            self.ready.remove(priority, turn, number);
        }
        self.move_timer(number, timer, due);
        match end {
            Some((cause, reason)) => self.bury(number, cause, &reason, at),
            None => self.offer(number, at.now),
        }
    }

    fn move_timer(&mut self, number: Number, from: Option<Instant>, to: Option<Instant>) {
        if from == to {
            return;
        }
        if let Some(due) = from {
            self.timers.remove(&(due, number));
        }
        self.timers.extend(to.map(|due| (due, number)));
    }

    /// Makes an entry ready if it may be delivered.
    pub(super) fn offer(&mut self, number: Number, now: Instant) {
        let Some(entry) = self.entries.get_mut(&number) else { return };
        let is_due = matches!(entry.at, Whereabouts::Waiting(from) if from <= now);
        if !is_due || entry.turn.is_some() {
            return;
        }
        let key = entry.message.key.as_deref();
        let mut lane = key.and_then(|key| self.lanes.get_mut(key).map(|lane| (key, lane)));
        let is_first = lane.as_ref().is_none_or(|(_, lane)| lane.is_turn_of(number));
        if is_first {
            let lane = lane.as_mut().map(|(key, lane)| (*key, &mut lane.turn));
            entry.turn = Some(self.ready.add(entry.message.priority, number, lane));
        }
    }

    /// Takes an entry out of the queue; the next of its key has its turn, at once or when that is
    /// written.
    pub(super) fn remove(&mut self, number: Number, at: Moment) -> Option<Entry> {
        let entry = self.entries.remove(&number)?;
        if let Some(turn) = entry.turn {
            self.ready.remove(entry.message.priority, turn, number);
        }
        self.move_timer(number, entry.timer, None);
        self.n_leased -= u64::from(entry.is_leased());
        self.n_delayed -= u64::from(entry.is_delayed);
        self.n_unwritten -= u64::from(matches!(entry.at, Whereabouts::Unwritten(_)));
        self.note(|| Change::Gone(number));
        if let Some(key) = &entry.message.key {
            match &mut self.journal {
                Some(journal) => journal.closed.push((key.clone(), number)),
                None => self.leave_lane(key, number, at.now),
            }
        }
        Some(*entry)
    }

    pub(super) fn leave_lane(&mut self, key: &str, number: Number, now: Instant) {
        let Some(lane) = self.lanes.get_mut(key) else { return };
        lane.numbers.remove(&number);
        self.go_on_with(key, now);
    }

    /// Offers the next entry of a key; one that has none, and waits for nothing, is forgotten.
    pub(super) fn go_on_with(&mut self, key: &str, now: Instant) {
        let Some(lane) = self.lanes.get(key) else { return };
        match lane.numbers.first().copied() {
            Some(next) => self.offer(next, now),
            None if lane.n_held == 0 => {
                self.lanes.remove(key);
            }
            None => {}
        }
    }

    pub(super) fn bury(&mut self, number: Number, cause: Cause, reason: &str, at: Moment) {
        let parked = self.hold_key(number, cause);
        let Some(entry) = self.remove(number, at) else { return };
        let Entry { message, attempts, history, .. } = entry;
        let reason = shortened(reason);
        let letter = DeadLetter { message, attempts, cause, reason, history, died: at.wall };
        DEAD.add_for(Death(cause), self.counted);
        self.last += 1;
        let own = self.last;
        self.note(|| Change::Died(own, Box::new(letter.clone())));
        if let Some(parked) = parked {
            self.note(|| Change::Parked(own, number));
            self.parked.insert(own, parked);
        }
        let dropped = self.dead.add(own, letter);
        FORGOTTEN.add(dropped.len() as u64 * self.counted);
        for gone in dropped {
            self.note(|| Change::Buried(gone));
            self.unpark(gone, at.now);
        }
    }
}
