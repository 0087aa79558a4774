//! Whose turn it is to be archived: by priority with ageing, first come first served within one.
//!
//! A level of priority is a head start in time: a ticket's rank is the time it came minus its level
//! times the ageing. So order is total, cheap, and no ticket waits for ever.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use bytes::Bytes;
use infra_core::clock::Timestamp;
use serde::{Deserialize, Serialize};

/// How urgent a hand-over is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// When nothing else is to do.
    Low,
    /// As completed entities are.
    #[default]
    Normal,
    /// As memory under pressure is.
    High,
    /// Before all others.
    Critical,
}

/// A hand-over that waits; this is also its row in the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ticket {
    pub(super) priority: Priority,
    pub(super) submitted: Timestamp,
    /// Not before this.
    pub(super) due: Timestamp,
    #[serde(default)]
    pub(super) attempts: u32,
    /// Tells tickets of one key apart; not stored.
    #[serde(skip)]
    pub(super) number: u64,
}

type Place = (i128, u64);

#[derive(Debug, Default)]
pub(super) struct Schedule {
    ageing: Duration,
    tickets: HashMap<Bytes, Ticket>,
    /// How many of them have each priority, the lowest first.
    counts: [usize; 4],
    ready: BTreeMap<Place, Bytes>,
    delayed: BTreeMap<(Timestamp, u64), Bytes>,
    /// The keys of hand-overs that are under way, and whether the entity was removed meanwhile.
    flying: HashMap<Bytes, bool>,
    last: u64,
}

impl Schedule {
    pub(super) fn new(ageing: Duration) -> Self {
        Self { ageing, ..Self::default() }
    }

    fn place(&self, ticket: &Ticket) -> Place {
        let head_start = (ticket.priority as u32) * self.ageing;
        let rank = i128::from(ticket.submitted.as_millis()) - head_start.as_millis().cast_signed();
        (rank, ticket.number)
    }

    /// Adds a ticket, in the place of one that the key has.
    pub(super) fn insert(&mut self, key: Bytes, ticket: Ticket) {
        self.remove(&key);
        self.last += 1;
        let ticket = Ticket { number: self.last, ..ticket };
        self.delayed.insert((ticket.due, ticket.number), key.clone());
        *self.count(ticket.priority) += 1;
        self.tickets.insert(key, ticket);
    }

    #[expect(clippy::indexing_slicing, reason = "there are as many counts as priorities")]
    const fn count(&mut self, priority: Priority) -> &mut usize {
        &mut self.counts[priority as usize]
    }

    /// Takes the ticket of a key away.
    pub(super) fn remove(&mut self, key: &Bytes) {
        if let Some(ticket) = self.tickets.remove(key) {
            self.ready.remove(&self.place(&ticket));
            self.delayed.remove(&(ticket.due, ticket.number));
            *self.count(ticket.priority) -= 1;
        }
    }

    pub(super) fn has(&self, key: &Bytes) -> bool {
        self.tickets.contains_key(key)
    }

    pub(super) fn len(&self) -> usize {
        self.tickets.len()
    }

    /// Returns how many have failed before.
    pub(super) fn failed(&self) -> usize {
        self.tickets.values().filter(|ticket| 0 < ticket.attempts).count()
    }

    pub(super) fn len_of(&self, priority: Priority) -> usize {
        self.counts.get(priority as usize).copied().unwrap_or(0)
    }

    /// Returns how many wait of the priority of which the most do.
    pub(super) fn longest(&self) -> usize {
        self.counts.into_iter().max().unwrap_or(0)
    }

    /// Makes all that are delayed ready.
    pub(super) fn hurry(&mut self, now: Timestamp) {
        for (_, key) in std::mem::take(&mut self.delayed) {
            if let Some(ticket) = self.tickets.get_mut(&key) {
                ticket.due = now;
                self.delayed.insert((now, ticket.number), key);
            }
        }
    }

    /// Makes those ready whose time has come, and returns how many could be taken.
    pub(super) fn promote(&mut self, now: Timestamp) -> usize {
        while let Some(entry) = self.delayed.first_entry()
            && entry.key().0 <= now
        {
            let key = entry.remove();
            if let Some(ticket) = self.tickets.get(&key) {
                self.ready.insert(self.place(ticket), key);
            }
        }
        // Few fly at once; of all that wait there may be thousands, and this is asked at each landing.
        let is_ready = |key: &&Bytes| {
            self.tickets.get(*key).is_some_and(|own| self.ready.contains_key(&self.place(own)))
        };
        self.ready.len() - self.flying.keys().filter(is_ready).count()
    }

    /// Returns when the next delayed one is due.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.delayed.first_key_value().map(|((due, _), _)| *due)
    }

    /// Takes up to `limit` ready tickets in their order; no two of one key fly at once.
    pub(super) fn take(&mut self, limit: usize) -> Vec<(Bytes, Ticket)> {
        let turn: Vec<(Place, Bytes)> = self
            .ready
            .iter()
            .filter(|(_, key)| !self.flying.contains_key(*key))
            .take(limit)
            .map(|(place, key)| (*place, key.clone()))
            .collect();
        let mut taken = Vec::with_capacity(turn.len());
        for (place, key) in turn {
            self.ready.remove(&place);
            if let Some(ticket) = self.tickets.get(&key) {
                self.flying.insert(key.clone(), false);
                taken.push((key, *ticket));
            }
        }
        taken
    }

    /// Notes that an entity is removed: what its flight has read is void, whatever version comes next.
    pub(super) fn overtake(&mut self, key: &Bytes) {
        if let Some(is_overtaken) = self.flying.get_mut(key) {
            *is_overtaken = true;
        }
    }

    pub(super) fn is_flying(&self, key: &Bytes) -> bool {
        self.flying.contains_key(key)
    }

    pub(super) fn is_overtaken(&self, key: &Bytes) -> bool {
        self.flying.get(key).copied().unwrap_or(false)
    }

    /// Ends a flight for good, unless the key has got another ticket meanwhile.
    pub(super) fn finish(&mut self, key: &Bytes, ticket: &Ticket) {
        self.flying.remove(key);
        if self.tickets.get(key).is_some_and(|own| own.number == ticket.number) {
            self.remove(key);
        }
    }

    /// Ends a flight that is tried again later, unless the key has got another ticket meanwhile.
    pub(super) fn retry(&mut self, key: &Bytes, ticket: &Ticket, due: Timestamp) {
        self.flying.remove(key);
        if let Some(own) = self.tickets.get_mut(key)
            && own.number == ticket.number
        {
            (own.attempts, own.due) = (ticket.attempts + 1, due);
            self.delayed.insert((due, own.number), key.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(priority: Priority, at: u64) -> Ticket {
        let at = Timestamp::from_millis(at);
        Ticket { priority, submitted: at, due: at, attempts: 0, number: 0 }
    }

    fn order(schedule: &mut Schedule, now: u64) -> Vec<Bytes> {
        schedule.promote(Timestamp::from_millis(now));
        schedule.take(usize::MAX).into_iter().map(|(key, _)| key).collect()
    }

    #[test]
    fn turns_go_by_priority_and_first_come_first_served_within_one() {
        let mut schedule = Schedule::new(Duration::from_secs(30));
        let mix = [
            ("a", Priority::Low),
            ("b", Priority::Critical),
            ("c", Priority::Normal),
            ("d", Priority::High),
            ("e", Priority::Critical),
            ("f", Priority::Low),
        ];
        for (key, priority) in mix {
            schedule.insert(Bytes::from(key), ticket(priority, 5));
        }
        let counts = |schedule: &Schedule| {
            let all = [Priority::Low, Priority::Normal, Priority::High, Priority::Critical];
            (all.map(|priority| schedule.len_of(priority)), schedule.longest())
        };
        assert_eq!(counts(&schedule), ([2, 1, 1, 2], 2));
        schedule.insert(Bytes::from("f"), ticket(Priority::Normal, 5));
        schedule.remove(&Bytes::from("a"));
        assert_eq!(counts(&schedule), ([0, 2, 1, 2], 2));
        assert_eq!(schedule.promote(Timestamp::from_millis(5)), 5);
        assert_eq!(order(&mut schedule, 5), ["b", "e", "d", "c", "f"]);
        assert_eq!(schedule.promote(Timestamp::from_millis(5)), 0);
    }

    #[test]
    fn a_low_one_goes_before_critical_ones_that_came_three_agings_later() {
        let mut schedule = Schedule::new(Duration::from_millis(100));
        schedule.insert(Bytes::from("low"), ticket(Priority::Low, 0));
        for at in [0, 299, 300, 301, 400] {
            schedule.insert(Bytes::from(at.to_string()), ticket(Priority::Critical, at));
        }
        assert_eq!(order(&mut schedule, 400), ["0", "299", "low", "300", "301", "400"]);
    }

    #[test]
    fn a_newer_ticket_waits_for_the_flight_of_the_key_and_outlives_it() {
        let mut schedule = Schedule::new(Duration::ZERO);
        let key = Bytes::from("a");
        schedule.insert(key.clone(), ticket(Priority::Normal, 1));
        schedule.promote(Timestamp::from_millis(1));
        let first = schedule.take(9).remove(0).1;
        schedule.insert(key.clone(), ticket(Priority::Normal, 2));
        assert_eq!(schedule.promote(Timestamp::from_millis(2)), 0);
        assert!(schedule.take(9).is_empty());
        schedule.finish(&key, &first);
        assert_eq!((schedule.len(), schedule.promote(Timestamp::from_millis(2))), (1, 1));
        let second = schedule.take(9).remove(0).1;
        schedule.retry(&key, &second, Timestamp::from_millis(50));
        assert_eq!(schedule.next_due(), Some(Timestamp::from_millis(50)));
        assert_eq!(schedule.promote(Timestamp::from_millis(49)), 0);
        schedule.hurry(Timestamp::from_millis(49));
        assert_eq!(schedule.promote(Timestamp::from_millis(49)), 1);
        let third = schedule.take(9).remove(0).1;
        assert_eq!(third.attempts, 1);
        schedule.finish(&key, &third);
        assert_eq!((schedule.len(), schedule.has(&key)), (0, false));
    }
}
