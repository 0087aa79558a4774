//! The bounded queue of messages to one client, with an exact account of each.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    close::Close,
    frame::{Class, Frame},
    telemetry::{DROPPED, Fate},
};

/// What became of the messages to one client.
///
/// At every moment `enqueued = delivered + dropped + discarded + waiting`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ledger {
    /// Messages that were given to the queue.
    pub enqueued: u64,
    /// Messages that were written to the socket.
    pub delivered: u64,
    /// Messages that gave way by their class.
    pub dropped: u64,
    /// Messages that still waited when the connection ended.
    pub discarded: u64,
    /// Messages that wait.
    pub waiting: u64,
}

impl Ledger {
    /// Returns whether each message is accounted for.
    pub const fn is_balanced(&self) -> bool {
        self.enqueued == self.delivered + self.dropped + self.discarded + self.waiting
    }
}

#[derive(Debug)]
struct Queue {
    waiting: VecDeque<(Frame, Class)>,
    bytes: usize,
    ledger: Ledger,
    /// Set once: nothing is taken any more, and this is how it ends.
    close: Option<Close>,
    is_ended: bool,
}

/// What the writer takes from the queue.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Batch {
    /// These messages are to be written.
    Frames(Vec<Frame>),
    /// Everything was taken; close the connection.
    Close(Close),
}

#[derive(Debug)]
pub(crate) struct Outbox {
    max_messages: usize,
    max_bytes: usize,
    slow: Close,
    queue: Mutex<Queue>,
    changed: Notify,
}

/// How many messages are written between two flushes.
const BATCH: usize = 64;

impl Outbox {
    pub(crate) fn new(max_messages: usize, max_bytes: usize, slow: Close) -> Self {
        let queue = Queue {
            waiting: VecDeque::new(),
            bytes: 0,
            ledger: Ledger::default(),
            close: None,
            is_ended: false,
        };
        let changed = Notify::new();
        Self { max_messages, max_bytes, slow, queue: Mutex::new(queue), changed }
    }

    /// Takes a message, or refuses it; never waits. Returns whether it was taken.
    pub(crate) fn push(&self, frame: Frame, class: Class) -> bool {
        let taken = self.with(|queue| queue.push(frame, class, self));
        self.changed.notify_one();
        taken
    }

    /// Lets what waits be delivered, then ends the connection. The first close counts.
    pub(crate) fn close(&self, close: Close) {
        self.with(|queue| {
            queue.close.get_or_insert(close);
        });
        self.changed.notify_one();
    }

    /// Returns how the connection was asked to end.
    #[cfg(test)]
    fn closing(&self) -> Option<Close> {
        self.with(|queue| queue.close.clone())
    }

    /// Waits for messages or the end.
    ///
    /// Cancel safe: nothing is taken before it is returned.
    pub(crate) async fn next(&self) -> Batch {
        loop {
            // `notify_one` keeps a permit, so a push between the look and the wait is not missed.
            if let Some(batch) = self.with(Queue::take) {
                return batch;
            }
            self.changed.notified().await;
        }
    }

    /// Counts messages that were written.
    pub(crate) fn delivered(&self, count: usize) {
        self.with(|queue| {
            queue.ledger.waiting -= count as u64;
            queue.ledger.delivered += count as u64;
        });
    }

    /// Ends the queue: what waits is discarded.
    pub(crate) fn end(&self) -> Ledger {
        self.with(|queue| {
            queue.is_ended = true;
            queue.waiting.clear();
            queue.bytes = 0;
            let lost = std::mem::take(&mut queue.ledger.waiting);
            queue.ledger.discarded += lost;
            DROPPED.add_for(Fate::Discarded, lost);
            queue.ledger
        })
    }

    pub(crate) fn ledger(&self) -> Ledger {
        self.with(|queue| queue.ledger)
    }

    /// Returns how many bytes wait.
    pub(crate) fn bytes(&self) -> usize {
        self.with(|queue| queue.bytes)
    }

    fn with<T>(&self, work: impl FnOnce(&mut Queue) -> T) -> T {
        work(&mut self.queue.lock())
    }
}

impl Queue {
    fn push(&mut self, frame: Frame, class: Class, limits: &Outbox) -> bool {
        if self.is_ended || self.close.is_some() {
            return false;
        }
        self.ledger.enqueued += 1;
        self.ledger.waiting += 1;
        if let Class::Latest(_) = class {
            self.drop_first(|waiting| waiting == class);
        }
        while !self.has_room(&frame, limits) {
            let gave_way = self.drop_first(|waiting| waiting != Class::Durable);
            if gave_way {
                continue;
            }
            if class == Class::Durable {
                self.close = Some(limits.slow.clone());
            }
            // It was counted as waiting, and it does not wait.
            self.ledger.waiting -= 1;
            self.ledger.dropped += 1;
            DROPPED.add_for(Fate::Dropped, 1);
            return false;
        }
        self.bytes += frame.len();
        self.waiting.push_back((frame, class));
        true
    }

    fn has_room(&self, frame: &Frame, limits: &Outbox) -> bool {
        self.waiting.len() < limits.max_messages && self.bytes + frame.len() <= limits.max_bytes
    }

    fn drop_first(&mut self, is_victim: impl Fn(Class) -> bool) -> bool {
        let place = self.waiting.iter().position(|(_, class)| is_victim(*class));
        let Some((frame, _)) = place.and_then(|place| self.waiting.remove(place)) else {
            return false;
        };
        self.bytes -= frame.len();
        self.ledger.waiting -= 1;
        self.ledger.dropped += 1;
        DROPPED.add_for(Fate::Dropped, 1);
        true
    }

    fn take(&mut self) -> Option<Batch> {
        if self.waiting.is_empty() {
            return self.close.clone().map(Batch::Close);
        }
        let count = self.waiting.len().min(BATCH);
        let frames: Vec<Frame> = self.waiting.drain(..count).map(|(frame, _)| frame).collect();
        self.bytes -= frames.iter().map(Frame::len).sum::<usize>();
        Some(Batch::Frames(frames))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SLOW: Close = Close::new(4008, "slow");

    fn outbox(messages: usize, bytes: usize) -> Outbox {
        Outbox::new(messages, bytes, SLOW)
    }

    fn texts(batch: Batch) -> Vec<String> {
        let Batch::Frames(frames) = batch else { panic!("{batch:?}") };
        frames
            .into_iter()
            .map(|frame| match frame {
                Frame::Text(text) => text.to_string(),
                Frame::Binary(bytes) => format!("{bytes:?}"),
            })
            .collect()
    }

    #[tokio::test]
    async fn a_full_queue_closes_for_a_durable_message_and_drops_an_ephemeral_one() {
        let outbox = outbox(2, 100);
        assert!(outbox.push(Frame::text("e1"), Class::Ephemeral));
        assert!(outbox.push(Frame::text("d1"), Class::Durable));
        assert!(outbox.push(Frame::text("d2"), Class::Durable), "e1 gives way");
        assert!(!outbox.push(Frame::text("e2"), Class::Ephemeral), "there is no room for it");
        assert_eq!(outbox.closing(), None);
        assert!(!outbox.push(Frame::text("d3"), Class::Durable));
        assert_eq!(outbox.closing(), Some(SLOW));
        assert_eq!(texts(outbox.next().await), ["d1", "d2"]);
        assert_eq!(outbox.next().await, Batch::Close(SLOW));
        assert!(!outbox.push(Frame::text("d4"), Class::Durable), "nothing is taken after it");
        let wanted = Ledger { enqueued: 5, dropped: 3, waiting: 2, ..Ledger::default() };
        assert_eq!(outbox.ledger(), wanted);
        outbox.delivered(1);
        let ended = outbox.end();
        assert_eq!((ended.delivered, ended.discarded), (1, 1));
        assert!(ended.is_balanced());
    }

    #[tokio::test]
    async fn only_the_latest_of_a_key_waits() {
        let outbox = outbox(10, 100);
        for text in ["a1", "a2", "a3"] {
            assert!(outbox.push(Frame::text(text), Class::Latest(7)));
        }
        assert!(outbox.push(Frame::text("b1"), Class::Latest(8)));
        assert_eq!(outbox.bytes(), 4);
        assert_eq!(texts(outbox.next().await), ["a3", "b1"]);
    }

    #[tokio::test]
    async fn the_first_close_counts_and_comes_after_what_waits() {
        let outbox = outbox(10, 100);
        outbox.push(Frame::binary(&b"x"[..]), Class::Durable);
        outbox.close(Close::RESTART);
        outbox.close(Close::NORMAL);
        assert_eq!(texts(outbox.next().await), ["b\"x\""]);
        assert_eq!(outbox.next().await, Batch::Close(Close::RESTART));
    }

    proptest! {
        #[test]
        fn every_message_is_accounted_for(
            steps in proptest::collection::vec((0..6_u8, 0..40_usize), 0..200),
        ) {
            let outbox = outbox(8, 100);
            let mut taken = 0;
            for (step, length) in steps {
                let frame = Frame::text("x".repeat(length));
                match step {
                    0 => { outbox.push(frame, Class::Durable); }
                    1 => { outbox.push(frame, Class::Ephemeral); }
                    2 | 3 => { outbox.push(frame, Class::Latest(length as u64 % 3)); }
                    _ => {
                        if let Some(Batch::Frames(frames)) = outbox.with(Queue::take) {
                            taken += frames.len();
                        }
                        outbox.delivered(std::mem::take(&mut taken));
                    }
                }
                let ledger = outbox.ledger();
                prop_assert!(ledger.is_balanced(), "{:?}", ledger);
                prop_assert!(outbox.bytes() <= 100);
            }
            prop_assert!(outbox.end().is_balanced());
        }
    }
}
