//! What waits for one subscriber: bounded, and true about what is missing.

use std::{
    collections::VecDeque,
    task::{Context, Poll, Waker},
};

use infra_core::pubsub::{GapReason, Item};

/// The messages that wait for a subscriber.
///
/// When it is full, newer messages are missed and counted. The count is told before the next message
/// that finds room, so a gap stands where the missing messages would have stood.
#[derive(Debug)]
pub(crate) struct Mailbox {
    items: VecDeque<Item>,
    capacity: usize,
    missed: u64,
    /// Why messages may be missing before the next one, if that is known but not how many.
    cut: Option<GapReason>,
    is_closed: bool,
    waker: Option<Waker>,
}

impl Mailbox {
    pub(crate) fn new(capacity: usize) -> Self {
        let capacity = capacity.max(1);
        Self {
            items: VecDeque::new(),
            capacity,
            missed: 0,
            cut: None,
            is_closed: false,
            waker: None,
        }
    }

    /// Puts a message in; returns whether there was room.
    pub(crate) fn put(&mut self, message: Item) -> bool {
        if self.capacity <= self.items.len() {
            self.missed += 1;
            return false;
        }
        while let Some(gap) = self.gap() {
            self.items.push_back(gap);
        }
        self.items.push_back(message);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        true
    }

    /// Says that from here on messages may be missing.
    #[cfg_attr(
        not(any(feature = "nats", feature = "redis", test)),
        expect(dead_code, reason = "only what comes from a server can be interrupted")
    )]
    pub(crate) fn interrupt(&mut self, reason: GapReason) {
        self.cut = Some(reason);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Ends the mailbox; what is in it can still be taken.
    pub(crate) fn close(&mut self) {
        self.is_closed = true;
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Takes the next item, or remembers whom to wake.
    pub(crate) fn poll(&mut self, context: &Context<'_>) -> Poll<Option<Item>> {
        if let Some(item) = self.items.pop_front().or_else(|| self.gap()) {
            return Poll::Ready(Some(item));
        }
        if self.is_closed {
            return Poll::Ready(None);
        }
        self.waker = Some(context.waker().clone());
        Poll::Pending
    }

    fn gap(&mut self) -> Option<Item> {
        let missed = std::mem::take(&mut self.missed);
        if 0 < missed {
            return Some(Item::Gap { reason: GapReason::Lagged, missed: Some(missed) });
        }
        self.cut.take().map(|reason| Item::Gap { reason, missed: None })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use infra_core::pubsub::Subject;

    use super::*;

    fn message(number: u8) -> Item {
        let payload = Bytes::copy_from_slice(&[number]);
        Item::Message { subject: Subject::new("a").unwrap(), payload }
    }

    fn take(mailbox: &mut Mailbox) -> Option<Item> {
        match mailbox.poll(&Context::from_waker(Waker::noop())) {
            Poll::Ready(item) => item,
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_gap_stands_where_the_missing_messages_would_have_stood() {
        let mut mailbox = Mailbox::new(2);
        let put: Vec<bool> = (1..=5).map(|number| mailbox.put(message(number))).collect();
        assert_eq!(put, [true, true, false, false, false]);
        assert_eq!(take(&mut mailbox), Some(message(1)));
        assert!(mailbox.put(message(6)));
        let gap = Item::Gap { reason: GapReason::Lagged, missed: Some(3) };
        let rest: Vec<_> = std::iter::from_fn(|| take(&mut mailbox)).collect();
        assert_eq!(rest, [message(2), gap, message(6)]);
    }

    #[test]
    fn a_cut_is_told_once_between_what_came_before_and_after() {
        let mut mailbox = Mailbox::new(2);
        mailbox.put(message(1));
        mailbox.interrupt(GapReason::Disconnected);
        mailbox.interrupt(GapReason::Disconnected);
        let gap = Item::Gap { reason: GapReason::Disconnected, missed: None };
        assert_eq!(take(&mut mailbox), Some(message(1)));
        assert_eq!(take(&mut mailbox), Some(gap));
        mailbox.put(message(2));
        assert_eq!(take(&mut mailbox), Some(message(2)));
        assert_eq!(take(&mut mailbox), None);
    }

    #[test]
    fn a_gap_at_the_end_is_told_without_another_message() {
        let mut mailbox = Mailbox::new(0);
        assert!(mailbox.put(message(1)));
        assert!(!mailbox.put(message(2)));
        mailbox.close();
        let gap = Item::Gap { reason: GapReason::Lagged, missed: Some(1) };
        let rest: Vec<_> = std::iter::from_fn(|| take(&mut mailbox)).collect();
        assert_eq!(rest, [message(1), gap]);
    }
}
