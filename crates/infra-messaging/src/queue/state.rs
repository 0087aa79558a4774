//! What a queue holds and decides, as a pure structure: it takes the time as an argument and waits
//! for nothing.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    time::Duration,
};

use infra_core::{
    Error, ErrorKind, Result,
    clock::{Instant, Timestamp},
    id::MessageId,
    queue::{Attempts, DeadLetter, Message, Settlement, Stats},
};

use super::{
    dead::DeadLetters,
    entry::{Entry, Number, Place, Whereabouts},
    options::{Options, Overflow},
};
use crate::telemetry::{DEAD, FORGOTTEN};

const PUBLISH: &str = "publish message";

/// A moment, by both hands of the clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) now: Instant,
    pub(crate) wall: Timestamp,
}

/// A message that was put into somebody's hands.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) number: Number,
    pub(crate) lease: u64,
    pub(crate) message: Message,
    pub(crate) attempts: Attempts,
    pub(crate) published: Timestamp,
}

/// A queue without its waiting.
#[derive(Debug)]
pub(crate) struct State {
    options: Options,
    entries: BTreeMap<Number, Entry>,
    /// What can be delivered now.
    ready: BTreeSet<Place>,
    /// The entries of each key, in order; only the first can be delivered.
    keys: HashMap<String, BTreeSet<Number>>,
    /// When something happens to which entry by itself.
    timers: BTreeSet<(Instant, Number)>,
    known: HashMap<String, Instant>,
    /// The same ids, in the order in which they are forgotten.
    forgotten: VecDeque<(Instant, String)>,
    dead: DeadLetters,
    n_leased: u64,
    last: u64,
    pub(crate) is_paused: bool,
    pub(crate) is_closed: bool,
}

impl State {
    pub(crate) fn new(options: Options) -> Self {
        Self {
            options,
            entries: BTreeMap::new(),
            ready: BTreeSet::new(),
            keys: HashMap::new(),
            timers: BTreeSet::new(),
            known: HashMap::new(),
            forgotten: VecDeque::new(),
            dead: DeadLetters::new(options.max_dead),
            n_leased: 0,
            last: 0,
            is_paused: false,
            is_closed: false,
        }
    }

    /// Returns whether a message can be delivered at once.
    pub(crate) fn is_ready(&self) -> bool {
        !self.is_paused && !self.ready.is_empty()
    }

    /// Returns when something happens by itself.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// Lets everything happen that is due.
    pub(crate) fn pass(&mut self, at: Moment) {
        while let Some((_, number)) = self.timers.first().copied().filter(|(due, _)| *due <= at.now)
        {
            self.change(number, at, |entry| {
                if let Whereabouts::Leased { until, .. } = entry.at
                    && until <= at.now
                {
                    entry.attempts.crashes += 1;
                    entry.at = Whereabouts::Waiting(until);
                }
            });
        }
        while let Some((_, id)) = self.forgotten.pop_front_if(|(end, _)| *end <= at.now) {
            self.known.remove(&id);
        }
    }

    /// Publishes messages, all or none; answers for each whether it was new.
    pub(crate) fn publish(&mut self, messages: &[Message], at: Moment) -> Result<Vec<bool>> {
        let mut ids = std::collections::HashSet::new();
        let is_new = |message: &Message| match &message.dedup {
            Some(id) => !self.known.contains_key(id) && ids.insert(id.clone()),
            None => true,
        };
        let new: Vec<bool> = messages.iter().map(is_new).collect();
        let count = new.iter().filter(|is_new| **is_new).count();
        self.make_room(count, ids.len(), at)?;
        for id in ids {
            let end = at.now + self.options.window;
            self.known.insert(id.clone(), end);
            self.forgotten.push_back((end, id));
        }
        for (message, _) in messages.iter().zip(&new).filter(|(_, is_new)| **is_new) {
            self.insert(Entry::new(message.clone(), at.now, at.wall), at);
        }
        Ok(new)
    }

    fn make_room(&mut self, count: usize, ids: usize, at: Moment) -> Result<()> {
        let full = |what: String| Err(Error::new(ErrorKind::Overloaded, PUBLISH).detail(what));
        let Options { capacity, max_dedup, overflow, .. } = self.options;
        if max_dedup < self.known.len() + ids {
            return full(format!("{max_dedup} dedup ids are known"));
        }
        let excess = (self.entries.len() + count).saturating_sub(capacity);
        let free = self.entries.iter().filter(|(_, entry)| !entry.is_leased());
        let oldest: Vec<Number> = match overflow {
            Overflow::DeadLetterOldest if count <= capacity => {
                free.map(|(number, _)| *number).take(excess).collect()
            }
            Overflow::DeadLetterOldest | Overflow::Refuse | Overflow::Wait => Vec::new(),
        };
        if oldest.len() < excess {
            return full(format!("{} of {capacity} messages are there", self.entries.len()));
        }
        for number in oldest {
            self.bury(number, "newer messages needed its place".to_owned(), at);
        }
        Ok(())
    }

    /// Puts up to `limit` messages into somebody's hands.
    pub(crate) fn take(&mut self, limit: usize, lease: Duration, at: Moment) -> Vec<Taken> {
        let mut taken = Vec::new();
        while taken.len() < limit && self.is_ready() {
            let Some((_, number)) = self.ready.first().copied() else { break };
            self.last += 1;
            let own = self.last;
            self.change(number, at, |entry| {
                entry.attempts.deliveries += 1;
                entry.at = Whereabouts::Leased { lease: own, until: at.now + lease };
            });
            let Some(entry) = self.entries.get(&number) else { break };
            taken.push(Taken {
                number,
                lease: own,
                message: entry.message.clone(),
                attempts: entry.attempts,
                published: entry.published,
            });
        }
        taken
    }

    fn check_lease(&self, operation: &'static str, number: Number, own: u64) -> Result<()> {
        let entry = self.entries.get(&number);
        match entry.map(|entry| entry.at) {
            Some(Whereabouts::Leased { lease, .. }) if lease == own => Ok(()),
            _ => Err(Error::new(ErrorKind::LeaseLost, operation)),
        }
    }

    /// Carries out the verdict of whoever holds a lease.
    pub(crate) fn settle(
        &mut self,
        number: Number,
        own: u64,
        settlement: Settlement,
        at: Moment,
    ) -> Result<()> {
        self.check_lease("settle delivery", number, own)?;
        match settlement {
            Settlement::Ack => {
                self.remove(number, at.now);
            }
            Settlement::DeadLetter { reason } => self.bury(number, reason, at),
            Settlement::Release => self.change(number, at, |entry| {
                entry.attempts.releases += 1;
                entry.at = Whereabouts::Waiting(at.now);
            }),
            Settlement::Nack { delay, reason } => {
                let Some(entry) = self.entries.get_mut(&number) else { return Ok(()) };
                entry.attempts.failures += 1;
                if self.options.max_failures <= entry.attempts.failures {
                    self.bury(number, reason, at);
                    return Ok(());
                }
                self.change(number, at, |entry| entry.at = Whereabouts::Waiting(at.now + delay));
            }
        }
        Ok(())
    }

    /// Moves the end of a lease.
    pub(crate) fn extend(
        &mut self,
        number: Number,
        own: u64,
        lease: Duration,
        at: Moment,
    ) -> Result<()> {
        self.check_lease("extend lease", number, own)?;
        self.change(number, at, |entry| {
            entry.at = Whereabouts::Leased { lease: own, until: at.now + lease };
        });
        Ok(())
    }

    /// Puts a dead letter back as a fresh message; the newest of its key.
    pub(crate) fn replay(&mut self, id: MessageId, at: Moment) -> bool {
        let Some(letter) = self.dead.take(id) else { return false };
        let mut entry = Entry::new(letter.message, at.now, at.wall);
        entry.at = Whereabouts::Waiting(at.now);
        self.insert(entry, at);
        true
    }

    pub(crate) fn dead_letters(&self, limit: usize) -> Vec<DeadLetter> {
        self.dead.oldest(limit)
    }

    pub(crate) fn purge_dead(&mut self, before: Timestamp) -> u64 {
        self.dead.purge(before)
    }

    pub(crate) fn stats(&self, at: Moment) -> Stats {
        let free = self.entries.values().filter(|entry| !entry.is_leased());
        let is_due =
            |entry: &&Entry| matches!(entry.at, Whereabouts::Waiting(from) if from <= at.now);
        let ready: Vec<&Entry> = free.filter(is_due).collect();
        let oldest = ready.iter().map(|entry| entry.published).min();
        let n_ready = ready.len() as u64;
        Stats {
            ready: n_ready,
            delayed: self.entries.len() as u64 - n_ready - self.n_leased,
            leased: self.n_leased,
            dead: self.dead.len(),
            oldest: oldest.map_or(Duration::ZERO, |oldest| at.wall.since(oldest)),
        }
    }

    fn insert(&mut self, entry: Entry, at: Moment) {
        self.last += 1;
        let number = self.last;
        if let Some(key) = &entry.message.key {
            self.keys.entry(key.clone()).or_default().insert(number);
        }
        self.entries.insert(number, entry);
        self.change(number, at, |_| {});
    }

    /// Changes an entry, and everything that is known of it beside it. An entry that may not live on
    /// becomes a dead letter.
    fn change(&mut self, number: Number, at: Moment, change: impl FnOnce(&mut Entry)) {
        let Some(mut entry) = self.remove_from_order(number) else { return };
        change(&mut entry);
        let is_free = !entry.is_leased();
        let reason = if is_free && self.options.max_crashes <= entry.attempts.crashes {
            Some(format!("{} consumers were lost with it", entry.attempts.crashes))
        } else if is_free && entry.end.is_some_and(|end| end <= at.now) {
            Some("its time to live is over".to_owned())
        } else {
            None
        };
        self.n_leased += u64::from(!is_free);
        entry.timer = entry.due(at.now);
        self.timers.extend(entry.timer.map(|due| (due, number)));
        self.entries.insert(number, entry);
        match reason {
            Some(reason) => self.bury(number, reason, at),
            None => self.offer(number, at.now),
        }
    }

    /// Makes an entry ready if it may be delivered.
    fn offer(&mut self, number: Number, now: Instant) {
        let Some(entry) = self.entries.get(&number) else { return };
        let queue = entry.message.key.as_ref().and_then(|key| self.keys.get(key));
        let is_first = queue.is_none_or(|numbers| numbers.first() == Some(&number));
        if is_first && matches!(entry.at, Whereabouts::Waiting(from) if from <= now) {
            self.ready.insert(entry.place(number));
        }
    }

    /// Takes an entry out of everything but its key.
    fn remove_from_order(&mut self, number: Number) -> Option<Entry> {
        let entry = self.entries.remove(&number)?;
        self.ready.remove(&entry.place(number));
        if let Some(due) = entry.timer {
            self.timers.remove(&(due, number));
        }
        self.n_leased -= u64::from(entry.is_leased());
        Some(entry)
    }

    /// Takes an entry out of the queue; the next of its key has its turn.
    fn remove(&mut self, number: Number, now: Instant) -> Option<Entry> {
        let entry = self.remove_from_order(number)?;
        if let Some(key) = &entry.message.key
            && let Some(numbers) = self.keys.get_mut(key)
        {
            numbers.remove(&number);
            match numbers.first().copied() {
                Some(next) => self.offer(next, now),
                None => {
                    self.keys.remove(key);
                }
            }
        }
        Some(entry)
    }

    fn bury(&mut self, number: Number, reason: String, at: Moment) {
        let Some(entry) = self.remove(number, at.now) else { return };
        let Entry { message, attempts, .. } = entry;
        DEAD.add(1);
        FORGOTTEN.add(self.dead.add(DeadLetter { message, attempts, reason, died: at.wall }));
    }
}
