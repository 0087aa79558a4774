//! What a queue holds and decides, as a pure structure: it takes the time as an argument and waits
//! for nothing.

#[cfg(feature = "nats")]
mod image;
mod kept;
mod moves;
mod parking;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    time::Duration,
};

use infra_core::{
    Error, ErrorKind, Result,
    clock::{Instant, Timestamp},
    id::MessageId,
    queue::{Attempts, Cause, DeadLetter, Message, Priority, Settlement, Stats},
};

use super::{
    dead::DeadLetters,
    entry::{Entry, Number, Whereabouts},
    journal::{Change, Journal},
    options::{Options, Overflow},
    order::Order,
};
use crate::telemetry::{QUEUED, Urgency};

#[cfg(feature = "nats")]
pub(crate) use self::image::Image;

const PUBLISH: &str = "publish message";

/// A moment, by both hands of the clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) now: Instant,
    pub(crate) wall: Timestamp,
}

impl Moment {
    fn wall_of(self, instant: Instant) -> Timestamp {
        self.wall.plus(instant.since(self.now))
    }

    fn instant_of(self, wall: Timestamp) -> Instant {
        self.now + wall.since(self.wall)
    }
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

/// The entries of a key, in order; only the first can be delivered.
#[derive(Debug, Default)]
struct Lane {
    numbers: BTreeSet<Number>,
    /// The turn of the last one that was ready.
    turn: u64,
    /// How many dead letters hold it up.
    n_held: usize,
}

/// A dead letter that holds up its key.
#[derive(Debug)]
struct Parked {
    key: String,
    /// The place of its message.
    place: Number,
}

/// A queue without its waiting.
#[derive(Debug)]
pub(crate) struct State {
    options: Options,
    /// Boxed, so that a node of the map is small and what is removed at its head moves little.
    entries: BTreeMap<Number, Box<Entry>>,
    /// What can be delivered now.
    ready: Order,
    lanes: HashMap<String, Lane>,
    /// When something happens to which entry by itself.
    timers: BTreeSet<(Instant, Number)>,
    known: HashMap<String, Instant>,
    /// The same ids, in the order in which they are forgotten.
    forgotten: VecDeque<(Instant, String)>,
    dead: DeadLetters,
    /// The dead letters that hold up their keys.
    parked: BTreeMap<Number, Parked>,
    n_leased: u64,
    n_delayed: u64,
    n_unwritten: u64,
    last: u64,
    /// The least room that a publish which was refused needs; none if nobody wants any.
    room_wanted: Option<usize>,
    /// What changed, if somebody keeps it.
    journal: Option<Journal>,
    /// How much a death counts: nothing where another process counts it.
    pub(crate) counted: u64,
    pub(crate) is_paused: bool,
    pub(crate) is_draining: bool,
    pub(crate) is_closed: bool,
}

impl State {
    pub(crate) fn new(options: Options) -> Self {
        Self {
            options,
            entries: BTreeMap::new(),
            ready: Order::new(options.weigh, options.ageing),
            lanes: HashMap::new(),
            timers: BTreeSet::new(),
            known: HashMap::new(),
            forgotten: VecDeque::new(),
            dead: DeadLetters::new(options.max_dead),
            parked: BTreeMap::new(),
            n_leased: 0,
            n_delayed: 0,
            n_unwritten: 0,
            last: 0,
            room_wanted: None,
            journal: None,
            counted: 1,
            is_paused: false,
            is_draining: false,
            is_closed: false,
        }
    }

    /// Begins to note what changes.
    pub(crate) fn keep_journal(&mut self) {
        self.journal = Some(Journal::default());
    }

    /// Returns what changed since it was last asked.
    pub(crate) fn take_journal(&mut self) -> Option<Journal> {
        self.journal.as_mut().map(std::mem::take)
    }

    fn note(&mut self, change: impl FnOnce() -> Change) {
        if let Some(journal) = &mut self.journal {
            journal.changes.push(change());
        }
    }

    /// Returns whether a message can be delivered at once.
    pub(crate) fn is_ready(&self) -> bool {
        !self.is_paused && !self.ready.is_empty()
    }

    /// Returns how many messages can be delivered at once.
    #[cfg(feature = "nats")]
    pub(crate) fn n_ready(&self) -> usize {
        if self.is_paused { 0 } else { self.ready.len() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns whether there is room for a publish that was refused, and forgets that it was: all
    /// who wait try again then.
    pub(crate) fn take_room_wanted(&mut self) -> bool {
        let free = self.options.capacity.saturating_sub(self.entries.len());
        self.room_wanted.take_if(|wanted| *wanted <= free).is_some()
    }

    /// Returns when something happens by itself.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// Lets everything happen that is due.
    pub(crate) fn pass(&mut self, at: Moment) {
        while let Some((_, number)) = self.timers.first().copied().filter(|(due, _)| *due <= at.now)
        {
            let was_leased = self.entries.get(&number).is_some_and(|entry| entry.is_leased());
            self.change(number, at, |entry| {
                if let Whereabouts::Leased { until, .. } = entry.at
                    && until <= at.now
                {
                    entry.attempts.crashes += 1;
                    entry.note(at.wall, "its lease ended without a verdict");
                    entry.at = Whereabouts::Waiting(until);
                }
            });
            if was_leased {
                self.note_progress(number, at);
            }
        }
        while let Some((_, id)) = self.forgotten.pop_front_if(|(end, _)| *end <= at.now) {
            self.known.remove(&id);
            self.note(|| Change::Forgot(id));
        }
    }

    /// Publishes messages, all or none; answers for each whether it was new.
    ///
    /// If a journal is kept, they are shown once it is written.
    #[cfg(any(test, feature = "nats"))]
    pub(crate) fn publish(&mut self, mut messages: Vec<Message>, at: Moment) -> Result<Vec<bool>> {
        self.publish_from(&mut messages, at)
    }

    /// The same of messages that stay with the caller if none is published.
    pub(crate) fn publish_from(
        &mut self,
        messages: &mut Vec<Message>,
        at: Moment,
    ) -> Result<Vec<bool>> {
        let mut ids = HashSet::new();
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
            self.note(|| Change::Learnt(id.clone(), at.wall_of(end)));
            self.forgotten.push_back((end, id));
        }
        let mut run: Option<(Priority, u64)> = None;
        for (message, is_new) in messages.drain(..).zip(&new) {
            if *is_new {
                run = Some(self.count_run(run, message.priority));
                self.insert(Entry::new(message, at.now, at.wall), at);
            }
        }
        if let Some((priority, count)) = run {
            QUEUED.add_for(Urgency(priority), count);
        }
        Ok(new)
    }

    /// Counts a message with those of its priority just before it, and tells of the others.
    fn count_run(&self, run: Option<(Priority, u64)>, priority: Priority) -> (Priority, u64) {
        match run {
            Some((before, count)) if before == priority => (priority, count + self.counted),
            Some((before, count)) => {
                QUEUED.add_for(Urgency(before), count);
                (priority, self.counted)
            }
            None => (priority, self.counted),
        }
    }

    /// Notes that a publish was refused which needs so much room. One with dedup ids may need less
    /// soon, as they become known, so each settlement lets it try again.
    fn want_room(&mut self, count: usize, ids: usize) {
        let needed = if ids == 0 { count } else { 0 };
        self.room_wanted = Some(self.room_wanted.map_or(needed, |wanted| wanted.min(needed)));
    }

    fn make_room(&mut self, count: usize, ids: usize, at: Moment) -> Result<()> {
        let full = |what: String| Err(Error::new(ErrorKind::Overloaded, PUBLISH).detail(what));
        let Options { capacity, max_dedup, overflow, .. } = self.options;
        if max_dedup < self.known.len() + ids {
            self.want_room(count, ids);
            return full(format!("{max_dedup} dedup ids are known"));
        }
        let excess = (self.entries.len() + count).saturating_sub(capacity);
        let free = self.entries.iter().filter(|(_, entry)| entry.is_free());
        let oldest: Vec<Number> = match overflow {
            Overflow::DeadLetterOldest if count <= capacity => {
                free.map(|(number, _)| *number).take(excess).collect()
            }
            Overflow::DeadLetterOldest | Overflow::Refuse | Overflow::Wait => Vec::new(),
        };
        if oldest.len() < excess {
            self.want_room(count, ids);
            return full(format!("{} of {capacity} messages are there", self.entries.len()));
        }
        for number in oldest {
            self.bury(number, Cause::Displaced, "newer messages needed its place", at);
        }
        Ok(())
    }

    /// Puts up to `limit` messages into somebody's hands.
    pub(crate) fn take(&mut self, limit: usize, lease: Duration, at: Moment) -> Vec<Taken> {
        let mut taken = Vec::new();
        while taken.len() < limit && !self.is_paused {
            let Some(number) = self.ready.next() else { break };
            self.last += 1;
            let own = self.last;
            self.change(number, at, |entry| {
                entry.attempts.deliveries += 1;
                entry.at = Whereabouts::Leased { lease: own, until: at.now + lease };
            });
            self.note_progress(number, at);
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
                self.remove(number, at);
            }
            Settlement::DeadLetter { reason } => self.bury(number, Cause::Refused, &reason, at),
            Settlement::Release => self.put_back(number, at, at.now, |entry| {
                entry.attempts.releases += 1;
            }),
            Settlement::Crash { reason } => self.put_back(number, at, at.now, |entry| {
                entry.attempts.crashes += 1;
                entry.note(at.wall, &reason);
            }),
            Settlement::Nack { delay, reason } => self.fail(number, at, delay, &reason),
        }
        Ok(())
    }

    fn fail(&mut self, number: Number, at: Moment, delay: Duration, reason: &str) {
        let Some(entry) = self.entries.get_mut(&number) else { return };
        entry.attempts.failures += 1;
        entry.note(at.wall, reason);
        if self.options.max_failures <= entry.attempts.failures {
            self.bury(number, Cause::Failed, reason, at);
        } else {
            self.put_back(number, at, at.now + delay, |_| {});
        }
    }

    fn put_back(
        &mut self,
        number: Number,
        at: Moment,
        from: Instant,
        change: impl FnOnce(&mut Entry),
    ) {
        self.change(number, at, |entry| {
            entry.at = Whereabouts::Waiting(from);
            change(entry);
        });
        self.note_progress(number, at);
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
        let Some((number, letter)) = self.dead.take(id) else { return false };
        self.note(|| Change::Buried(number));
        let mut entry = Entry::new(letter.message, at.now, at.wall);
        entry.attempts.replays = letter.attempts.replays.saturating_add(1);
        entry.history = letter.history;
        entry.at = Whereabouts::Waiting(at.now);
        let place = self.parked.get(&number).map(|parked| parked.place);
        match place {
            Some(place) => self.insert_at(place, entry, at),
            None => self.insert(entry, at),
        }
        self.unpark(number, at.now);
        true
    }

    /// Removes everything that nobody has in hand, and returns how much it was.
    pub(crate) fn clear(&mut self, at: Moment) -> u64 {
        let free = self.entries.iter().filter(|(_, entry)| entry.is_free());
        let numbers: Vec<Number> = free.map(|(number, _)| *number).collect();
        let count = numbers.len() as u64;
        for number in numbers {
            self.remove(number, at);
        }
        count
    }

    pub(crate) fn pause(&mut self, paused: bool) {
        self.is_paused = paused;
        self.note(|| Change::Paused(paused));
    }

    pub(crate) fn dead_letters(&self, limit: usize) -> Vec<DeadLetter> {
        self.dead.oldest(limit)
    }

    pub(crate) fn peek(&self, limit: usize) -> Vec<Message> {
        let is_shown = |entry: &&Entry| !matches!(entry.at, Whereabouts::Unwritten(_));
        let shown = self.entries.values().map(Box::as_ref).filter(is_shown);
        shown.take(limit).map(|entry| entry.message.clone()).collect()
    }

    pub(crate) fn purge_dead(
        &mut self,
        before: Timestamp,
        cause: Option<Cause>,
        at: Moment,
    ) -> u64 {
        let gone = self.dead.purge(before, cause);
        let count = gone.len() as u64;
        for number in gone {
            self.note(|| Change::Buried(number));
            self.unpark(number, at.now);
        }
        count
    }

    pub(crate) fn stats(&self, at: Moment) -> Stats {
        let is_ready =
            |entry: &&Entry| matches!(entry.at, Whereabouts::Waiting(from) if from <= at.now);
        // Entries are numbered in the order of publishing, so the first ready one is the oldest.
        let oldest =
            self.entries.values().map(Box::as_ref).find(is_ready).map(|entry| entry.published);
        let others = self.n_leased + self.n_delayed + self.n_unwritten;
        Stats {
            ready: (self.entries.len() as u64).saturating_sub(others),
            delayed: self.n_delayed,
            leased: self.n_leased,
            dead: self.dead.len(),
            oldest: oldest.map_or(Duration::ZERO, |oldest| at.wall.since(oldest)),
        }
    }
}
