//! What a queue holds and decides, as a pure structure: it takes the time as an argument and waits
//! for nothing.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    time::Duration,
};

use infra_core::{
    Error, ErrorKind, Result,
    clock::{Instant, Timestamp},
    id::MessageId,
    queue::{Attempts, Cause, DeadLetter, Message, Settlement, Stats},
};

use super::{
    dead::DeadLetters,
    entry::{Entry, Number, Whereabouts, shortened},
    journal::{Change, Journal, Kept, Progress},
    options::{Options, Overflow},
    order::Order,
};
use crate::telemetry::{DEAD, Death, FORGOTTEN};

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
}

/// A queue without its waiting.
#[derive(Debug)]
pub(crate) struct State {
    options: Options,
    entries: BTreeMap<Number, Entry>,
    /// What can be delivered now.
    ready: Order,
    lanes: HashMap<String, Lane>,
    /// When something happens to which entry by itself.
    timers: BTreeSet<(Instant, Number)>,
    known: HashMap<String, Instant>,
    /// The same ids, in the order in which they are forgotten.
    forgotten: VecDeque<(Instant, String)>,
    dead: DeadLetters,
    n_leased: u64,
    n_delayed: u64,
    n_unwritten: u64,
    last: u64,
    /// What changed, if somebody keeps it.
    journal: Option<Journal>,
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
            n_leased: 0,
            n_delayed: 0,
            n_unwritten: 0,
            last: 0,
            journal: None,
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

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns when something happens by itself.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// Lets everything happen that is due.
    pub(crate) fn pass(&mut self, at: Moment) {
        while let Some((_, number)) = self.timers.first().copied().filter(|(due, _)| *due <= at.now)
        {
            let was_leased = self.entries.get(&number).is_some_and(Entry::is_leased);
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
    pub(crate) fn publish(&mut self, messages: Vec<Message>, at: Moment) -> Result<Vec<bool>> {
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
        for (message, is_new) in messages.into_iter().zip(&new) {
            if *is_new {
                self.insert(Entry::new(message, at.now, at.wall), at);
            }
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
        let free = self.entries.iter().filter(|(_, entry)| entry.is_free());
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
        self.insert(entry, at);
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
        let shown = self.entries.values().filter(is_shown);
        shown.take(limit).map(|entry| entry.message.clone()).collect()
    }

    pub(crate) fn purge_dead(&mut self, before: Timestamp, cause: Option<Cause>) -> u64 {
        let gone = self.dead.purge(before, cause);
        let count = gone.len() as u64;
        for number in gone {
            self.note(|| Change::Buried(number));
        }
        count
    }

    pub(crate) fn stats(&self, at: Moment) -> Stats {
        let is_ready =
            |entry: &&Entry| matches!(entry.at, Whereabouts::Waiting(from) if from <= at.now);
        // Entries are numbered in the order of publishing, so the first ready one is the oldest.
        let oldest = self.entries.values().find(is_ready).map(|entry| entry.published);
        let others = self.n_leased + self.n_delayed + self.n_unwritten;
        Stats {
            ready: (self.entries.len() as u64).saturating_sub(others),
            delayed: self.n_delayed,
            leased: self.n_leased,
            dead: self.dead.len(),
            oldest: oldest.map_or(Duration::ZERO, |oldest| at.wall.since(oldest)),
        }
    }

    fn insert(&mut self, mut entry: Entry, at: Moment) {
        self.last += 1;
        let number = self.last;
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
        self.entries.insert(number, entry);
        self.change(number, at, |_| {});
    }

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
            self.leave_lane(key, *number, at.now);
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
            self.entries.insert(number, entry);
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

    fn note_progress(&mut self, number: Number, at: Moment) {
        let Some(journal) = &mut self.journal else { return };
        let Some(entry) = self.entries.get(&number) else { return };
        journal.changes.push(Change::Moved(number, progress(entry, at)));
    }

    /// Changes an entry, and everything that is known of it beside it. An entry that may not live on
    /// becomes a dead letter.
    fn change(&mut self, number: Number, at: Moment, change: impl FnOnce(&mut Entry)) {
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
    fn offer(&mut self, number: Number, now: Instant) {
        let Some(entry) = self.entries.get_mut(&number) else { return };
        let is_due = matches!(entry.at, Whereabouts::Waiting(from) if from <= now);
        if !is_due || entry.turn.is_some() {
            return;
        }
        let key = entry.message.key.as_deref();
        let mut lane = key.and_then(|key| self.lanes.get_mut(key).map(|lane| (key, lane)));
        let is_first = lane.as_ref().is_none_or(|(_, lane)| lane.numbers.first() == Some(&number));
        if is_first {
            let lane = lane.as_mut().map(|(key, lane)| (*key, &mut lane.turn));
            entry.turn = Some(self.ready.add(entry.message.priority, number, lane));
        }
    }

    /// Takes an entry out of the queue; the next of its key has its turn, at once or when that is
    /// written.
    fn remove(&mut self, number: Number, at: Moment) -> Option<Entry> {
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
        Some(entry)
    }

    fn leave_lane(&mut self, key: &str, number: Number, now: Instant) {
        let Some(lane) = self.lanes.get_mut(key) else { return };
        lane.numbers.remove(&number);
        match lane.numbers.first().copied() {
            Some(next) => self.offer(next, now),
            None => {
                self.lanes.remove(key);
            }
        }
    }

    fn bury(&mut self, number: Number, cause: Cause, reason: &str, at: Moment) {
        let Some(entry) = self.remove(number, at) else { return };
        let Entry { message, attempts, history, .. } = entry;
        let reason = shortened(reason);
        let letter = DeadLetter { message, attempts, cause, reason, history, died: at.wall };
        DEAD.add_for(Death(cause), 1);
        self.last += 1;
        let own = self.last;
        self.note(|| Change::Died(own, Box::new(letter.clone())));
        let dropped = self.dead.add(own, letter);
        FORGOTTEN.add(dropped.len() as u64);
        for gone in dropped {
            self.note(|| Change::Buried(gone));
        }
    }
}

impl Options {
    /// Returns why an entry that nobody has in hand may not live on, if so.
    fn end_of(&self, entry: &Entry, now: Instant) -> Option<(Cause, String)> {
        if !entry.is_free() {
            return None;
        }
        let last = entry.history.last().map_or("", |last| last.reason.as_str());
        let over = || (Cause::Expired, "its time to live is over".to_owned());
        let verdict = self.verdict(entry.attempts, last);
        verdict.or_else(|| entry.end.is_some_and(|end| end <= now).then(over))
    }

    /// Returns why a message that was tried so often may not live on, if so.
    pub(crate) fn verdict(&self, attempts: Attempts, last: &str) -> Option<(Cause, String)> {
        let Attempts { deliveries, crashes, releases, .. } = attempts;
        if self.max_crashes <= crashes {
            return Some((
                Cause::Crashed,
                format!("{crashes} consumers were lost with it: {last}"),
            ));
        }
        if self.max_deliveries.is_some_and(|most| most <= deliveries) {
            return Some((Cause::Exhausted, format!("it was delivered {deliveries} times")));
        }
        if self.max_releases.is_some_and(|most| most <= releases) {
            return Some((Cause::Exhausted, format!("it was given back {releases} times")));
        }
        None
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

fn kept(entry: &Entry, at: Moment) -> Kept {
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
