//! The account of what became of messages.

use std::ops::AddAssign;

use parking_lot::Mutex;

use crate::telemetry::{DELIVERED, ENQUEUED, Fate, UNDELIVERED};

/// The ledger of a room: what became of the messages that were sent to it, on all connections.
#[derive(Debug, Default)]
pub(crate) struct Account(Mutex<Ledger>);

impl Account {
    pub(crate) fn ledger(&self) -> Ledger {
        *self.0.lock()
    }

    pub(crate) fn enqueued(&self) {
        let mut ledger = self.0.lock();
        ledger.enqueued += 1;
        ledger.waiting += 1;
    }

    pub(crate) fn settled(&self, fate: Settled, messages: u64) {
        let mut ledger = self.0.lock();
        ledger.waiting -= messages;
        match fate {
            Settled::Delivered => ledger.delivered += messages,
            Settled::Dropped => ledger.dropped += messages,
            Settled::Discarded => ledger.discarded += messages,
        }
    }
}

/// What became of messages in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settled {
    Delivered,
    Dropped,
    Discarded,
}

/// What became of the messages to a client, or to all clients.
///
/// At every moment `enqueued = delivered + dropped + discarded + waiting`, exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ledger {
    /// Messages that were given to the queue of an open connection.
    pub enqueued: u64,
    /// Messages that were written to the socket.
    pub delivered: u64,
    /// Messages that gave way by their class.
    pub dropped: u64,
    /// Messages that still waited when the connection ended.
    pub discarded: u64,
    /// Messages that wait or are being written.
    pub waiting: u64,
}

impl Ledger {
    /// Returns whether each message is accounted for.
    pub const fn is_balanced(&self) -> bool {
        self.enqueued == self.delivered + self.dropped + self.discarded + self.waiting
    }

    /// Adds to the metrics what happened since `exported`, and remembers it.
    pub(crate) fn export(&self, exported: &mut Self) {
        let fresh = |now: u64, before: u64, add: &dyn Fn(u64)| {
            if before < now {
                add(now - before);
            }
        };
        fresh(self.enqueued, exported.enqueued, &|count| ENQUEUED.add(count));
        fresh(self.delivered, exported.delivered, &|count| DELIVERED.add(count));
        fresh(self.dropped, exported.dropped, &|count| UNDELIVERED.add_for(Fate::Dropped, count));
        let discard = |count| UNDELIVERED.add_for(Fate::Discarded, count);
        fresh(self.discarded, exported.discarded, &discard);
        *exported = *self;
    }
}

impl AddAssign for Ledger {
    fn add_assign(&mut self, rhs: Self) {
        let Self { enqueued, delivered, dropped, discarded, waiting } = rhs;
        self.enqueued += enqueued;
        self.delivered += delivered;
        self.dropped += dropped;
        self.discarded += discarded;
        self.waiting += waiting;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_of_balanced_ledgers_is_balanced() {
        let one = Ledger { enqueued: 10, delivered: 4, dropped: 3, discarded: 2, waiting: 1 };
        let mut sum = one;
        sum += one;
        assert!(one.is_balanced() && sum.is_balanced());
        assert_eq!(sum.enqueued, 20);
        assert!(!Ledger { enqueued: 1, ..Ledger::default() }.is_balanced());
    }

    #[test]
    fn only_what_is_new_is_exported() {
        let mut exported = Ledger::default();
        let now = Ledger { enqueued: 3, delivered: 3, ..Ledger::default() };
        now.export(&mut exported);
        assert_eq!(exported, now);
    }
}
