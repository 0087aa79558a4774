//! What a queue tells whoever keeps it on a disk, and takes from there again.

use infra_core::{clock::Timestamp, queue::DeadLetter};

use super::{Moment, State};
use crate::queue::{
    entry::{Entry, Number, Whereabouts},
    journal::{Change, Kept, Progress},
};

impl State {
    /// Shows entries that were written, and gives keys their next turn.
    pub(crate) fn written(&mut self, shown: &[Number], closed: &[(String, Number)], at: Moment) {
        for number in shown {
            let entry = self.entries.get_mut(number);
            let Some(Whereabouts::Unwritten(from)) = entry.as_ref().map(|entry| entry.at) else {
                continue;
            };
            self.n_unwritten -= 1;
            self.change(*number, at, |entry| entry.at = Whereabouts::Waiting(from));
        }
        for (key, number) in closed {
            // A parked letter that was replayed meanwhile has its place again, and keeps it.
            if !self.entries.contains_key(number) {
                self.leave_lane(key, *number, at.now);
            }
        }
    }

    /// Takes messages that were kept in again, in their order.
    pub(crate) fn restore(&mut self, messages: Vec<(Number, Kept)>, at: Moment) {
        let mut all = Vec::new();
        for (number, kept) in messages {
            let was_leased = kept.progress.is_leased;
            let entry = restored(kept, at);
            if let Some(key) = &entry.message.key {
                self.lanes.entry(key.clone()).or_default().numbers.insert(number);
            }
            self.last = self.last.max(number);
            self.entries.insert(number, Box::new(entry));
            all.push((number, was_leased));
        }
        // Each key is whole now, so only its first message is offered.
        for (number, was_leased) in all {
            self.change(number, at, |_| {});
            if was_leased {
                self.note_progress(number, at);
            }
        }
    }

    /// Takes a dead letter that was kept in again.
    pub(crate) fn restore_dead(&mut self, number: Number, letter: DeadLetter) {
        self.last = self.last.max(number);
        for gone in self.dead.add(number, letter) {
            self.note(|| Change::Buried(gone));
        }
    }

    /// Takes dedup ids that were kept in again.
    pub(crate) fn restore_known(&mut self, mut ids: Vec<(String, Timestamp)>, at: Moment) {
        ids.sort_by_key(|(_, end)| *end);
        for (id, end) in ids {
            let end = at.instant_of(end);
            self.known.insert(id.clone(), end);
            self.forgotten.push_back((end, id));
        }
    }

    pub(super) fn note_progress(&mut self, number: Number, at: Moment) {
        let Some(journal) = &mut self.journal else { return };
        let Some(entry) = self.entries.get(&number) else { return };
        journal.changes.push(Change::Moved(number, progress(entry, at)));
    }
}

fn restored(kept: Kept, at: Moment) -> Entry {
    let Kept { message, published, end, progress } = kept;
    let mut entry = Entry::new(message, at.now, published);
    entry.end = end.map(|end| at.instant_of(end));
    entry.attempts = progress.attempts;
    entry.history = progress.history;
    entry.at = Whereabouts::Waiting(at.instant_of(progress.from));
    if progress.is_leased {
        entry.attempts.crashes += 1;
        entry.note(at.wall, "the process ended while it was in hand");
    }
    entry
}

pub(super) fn kept(entry: &Entry, at: Moment) -> Kept {
    Kept {
        message: entry.message.clone(),
        published: entry.published,
        end: entry.end.map(|end| at.wall_of(end)),
        progress: progress(entry, at),
    }
}

fn progress(entry: &Entry, at: Moment) -> Progress {
    let from = match entry.at {
        Whereabouts::Unwritten(from) | Whereabouts::Waiting(from) => at.wall_of(from),
        Whereabouts::Leased { .. } => at.wall,
    };
    Progress {
        attempts: entry.attempts,
        history: entry.history.clone(),
        from,
        is_leased: entry.is_leased(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use infra_core::{
        clock::Instant, codec::Payload, id::MessageId, queue::Message, queue::Settlement,
        random::Random,
    };

    use super::*;
    use crate::queue::{Options, journal::Journal};

    const AT: Moment = Moment {
        now: Instant::from_start(Duration::from_secs(1)),
        wall: Timestamp::from_millis(1_000),
    };

    const LEASE: Duration = Duration::from_secs(10);

    fn message(number: u64) -> Message {
        let id = MessageId::generate(AT.wall, &Random::seeded(number));
        Message::new(id, Payload::json(1, &number).unwrap()).key("a")
    }

    fn written(state: &mut State, journal: &Journal) {
        state.written(&journal.shown, &journal.closed, AT);
    }

    fn take(state: &mut State) -> Vec<u64> {
        let taken = state.take(9, LEASE, AT).into_iter();
        taken.map(|taken| taken.message.payload.decode().unwrap()).collect()
    }

    #[test]
    fn a_letter_that_is_replayed_before_its_death_is_written_keeps_its_place() {
        let mut state = State::new(Options::new(9).park_keys());
        state.keep_journal();
        state.publish(vec![message(1), message(2)], AT).unwrap();
        let published = state.take_journal().unwrap();
        written(&mut state, &published);
        let first = state.take(1, LEASE, AT).pop().unwrap();
        let refused = Settlement::DeadLetter { reason: "no".to_owned() };
        state.settle(first.number, first.lease, refused, AT).unwrap();
        let died = state.take_journal().unwrap();
        assert!(state.replay(message(1).id, AT));
        let replayed = state.take_journal().unwrap();
        written(&mut state, &died);
        assert!(take(&mut state).is_empty(), "the first is on its way to the disk");
        written(&mut state, &replayed);
        assert_eq!(take(&mut state), [1]);
        let (number, lease) = (first.number, state.last);
        state.settle(number, lease, Settlement::Ack, AT).unwrap();
        let done = state.take_journal().unwrap();
        written(&mut state, &done);
        assert_eq!(take(&mut state), [2]);
    }
}
