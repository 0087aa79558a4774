//! The bounded queue of messages to one client, with an exact account of each.

use std::{pin::pin, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    budget::Budget,
    close::Close,
    frame::{Class, Frame, Unsent},
    lanes::{Lanes, Priority},
    ledger::{Account, Ledger, Settled},
    options::Options,
};

/// How many messages are written between two flushes.
const BATCH: usize = 128;

/// A message that waits.
#[derive(Debug)]
struct Waiting {
    frame: Frame,
    class: Class,
    /// The room that sent it, if one did.
    account: Option<Arc<Account>>,
}

#[derive(Debug)]
struct Queue {
    lanes: Lanes<Waiting>,
    /// Bytes that wait or are being written: what the process holds for this client.
    bytes: usize,
    /// Messages and bytes of them that are being written.
    writing: (u64, usize),
    /// The rooms on whose account they are.
    accounts: Vec<Arc<Account>>,
    ledger: Ledger,
    exported: Ledger,
    /// Set once: nothing is taken any more, and this is how it ends.
    close: Option<Close>,
    is_ended: bool,
}

/// What the writer takes from the queue.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Batch {
    /// These messages are to be written; the connection closes behind what waits if so said.
    Frames { frames: Vec<Frame>, is_closing: bool },
    /// Everything was taken; close the connection.
    Close(Close),
}

#[derive(Debug)]
pub(crate) struct Outbox {
    options: Arc<Options>,
    /// Of all clients of the hub together.
    budget: Arc<Budget>,
    queue: Mutex<Queue>,
    changed: Notify,
    freed: Notify,
}

impl Outbox {
    pub(crate) fn new(options: Arc<Options>, budget: Arc<Budget>) -> Self {
        let queue = Queue {
            lanes: Lanes::new(),
            bytes: 0,
            writing: (0, 0),
            accounts: Vec::new(),
            ledger: Ledger::default(),
            exported: Ledger::default(),
            close: None,
            is_ended: false,
        };
        let (changed, freed) = (Notify::new(), Notify::new());
        Self { options, budget, queue: Mutex::new(queue), changed, freed }
    }

    /// Takes a message, or refuses it; never waits.
    pub(crate) fn push(
        &self,
        frame: Frame,
        class: Class,
        at: Priority,
        account: Option<&Arc<Account>>,
    ) -> Result<(), Unsent> {
        let waiting = Waiting { frame, class, account: account.map(Arc::clone) };
        let (taken, is_news) = self.with(|queue| {
            let was_idle = queue.lanes.is_empty();
            let taken = queue.push(waiting, at, &self.options);
            // A refusal may have closed the connection, which the writer must hear as well.
            (taken, was_idle || queue.is_closing())
        });
        // For whatever waited before the writer was told, or it looks once more when it has written.
        if is_news {
            self.changed.notify_one();
        }
        taken
    }

    /// Counts a message that a layer kept back as dropped.
    pub(crate) fn refuse(&self, account: Option<&Arc<Account>>) -> Result<(), Unsent> {
        self.with(|queue| {
            if queue.is_closing() {
                return Err(Unsent::Ended);
            }
            queue.ledger.enqueued += 1;
            queue.ledger.dropped += 1;
            if let Some(account) = account {
                account.enqueued();
                account.settled(Settled::Dropped);
            }
            Err(Unsent::Dropped)
        })
    }

    /// Takes a message as soon as there is room for it; it counts only once it is taken.
    pub(crate) async fn push_when_room(
        &self,
        frame: Frame,
        at: Priority,
        patience: Duration,
    ) -> Result<(), Unsent> {
        let taken = async {
            loop {
                let mut freed = pin!(self.freed.notified());
                // Listening begins before the look, so what is freed in between is not missed.
                freed.as_mut().enable();
                let taken = self.with(|queue| {
                    let is_time = queue.is_closing() || queue.has_room(&frame, &self.options);
                    let class = Class::IfRoom;
                    let waiting = || Waiting { frame: frame.clone(), class, account: None };
                    is_time.then(|| queue.push(waiting(), at, &self.options))
                });
                if let Some(taken) = taken {
                    self.changed.notify_one();
                    return taken;
                }
                freed.await;
            }
        };
        tokio::time::timeout(patience, taken).await.unwrap_or(Err(Unsent::NoRoom))
    }

    /// Lets what waits be delivered, then ends the connection. The first close counts.
    pub(crate) fn close(&self, close: Close) {
        self.with(|queue| {
            queue.close.get_or_insert(close);
        });
        self.changed.notify_one();
        self.freed.notify_waiters();
    }

    /// Ends the connection without delivering what waits.
    pub(crate) fn shed(&self, close: Close) {
        self.with(|queue| {
            queue.close.get_or_insert(close);
            queue.discard_waiting();
        });
        self.changed.notify_one();
        self.freed.notify_waiters();
    }

    /// Makes the connection's task look at its deadlines again.
    pub(crate) fn wake(&self) {
        self.changed.notify_one();
    }

    /// Returns how the connection was asked to end.
    pub(crate) fn closing(&self) -> Option<Close> {
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

    /// Counts the messages that were taken last as written.
    pub(crate) fn delivered(&self) {
        self.with(|queue| {
            let (messages, bytes) = std::mem::take(&mut queue.writing);
            queue.bytes -= bytes;
            queue.ledger.waiting -= messages;
            queue.ledger.delivered += messages;
            queue.accounts.drain(..).for_each(|account| account.settled(Settled::Delivered));
            queue.export();
        });
        self.freed.notify_waiters();
    }

    /// Ends the queue: what waits or is half written is discarded.
    pub(crate) fn end(&self) -> Ledger {
        let ledger = self.with(|queue| {
            queue.is_ended = true;
            queue.discard_waiting();
            let (messages, bytes) = std::mem::take(&mut queue.writing);
            queue.bytes -= bytes;
            queue.ledger.waiting -= messages;
            queue.ledger.discarded += messages;
            queue.accounts.drain(..).for_each(|account| account.settled(Settled::Discarded));
            queue.export();
            queue.ledger
        });
        self.freed.notify_waiters();
        ledger
    }

    pub(crate) fn ledger(&self) -> Ledger {
        self.with(|queue| queue.ledger)
    }

    /// Returns how many bytes wait or are being written.
    pub(crate) fn bytes(&self) -> usize {
        self.with(|queue| queue.bytes)
    }

    /// Returns whether all clients together hold too much.
    pub(crate) fn is_over_budget(&self) -> bool {
        self.budget.is_over()
    }

    /// Works on the queue and tells the budget what it holds more or less afterwards.
    fn with<T>(&self, work: impl FnOnce(&mut Queue) -> T) -> T {
        let mut queue = self.queue.lock();
        let before = queue.bytes;
        let result = work(&mut queue);
        match queue.bytes.cmp(&before) {
            std::cmp::Ordering::Greater => self.budget.add(queue.bytes - before),
            std::cmp::Ordering::Less => self.budget.sub(before - queue.bytes),
            std::cmp::Ordering::Equal => {}
        }
        result
    }
}

impl Queue {
    const fn is_closing(&self) -> bool {
        self.is_ended || self.close.is_some()
    }

    fn push(&mut self, new: Waiting, at: Priority, options: &Options) -> Result<(), Unsent> {
        if self.is_closing() {
            return Err(Unsent::Ended);
        }
        let class = new.class;
        self.ledger.enqueued += 1;
        if let Some(account) = &new.account {
            account.enqueued();
        }
        if let Class::Latest(_) = class {
            self.drop_first(|waiting| waiting == class);
        }
        while !self.has_room(&new.frame, options) {
            let may_yield = |waiting| matches!(waiting, Class::Ephemeral | Class::Latest(_));
            if class != Class::IfRoom && self.drop_first(may_yield) {
                continue;
            }
            self.ledger.dropped += 1;
            if let Some(account) = &new.account {
                account.settled(Settled::Dropped);
            }
            if class != Class::Durable {
                return Err(Unsent::Dropped);
            }
            self.close = Some(options.codes.slow.clone());
            return Err(Unsent::TooSlow);
        }
        self.ledger.waiting += 1;
        self.bytes += new.frame.len();
        self.lanes.push(at, new);
        Ok(())
    }

    fn has_room(&self, frame: &Frame, options: &Options) -> bool {
        self.lanes.len() < options.outbox_messages
            && self.bytes + frame.len() <= options.outbox_bytes
    }

    fn drop_first(&mut self, is_victim: impl Fn(Class) -> bool) -> bool {
        let Some(victim) = self.lanes.remove_first(|waiting| is_victim(waiting.class)) else {
            return false;
        };
        self.bytes -= victim.frame.len();
        self.ledger.waiting -= 1;
        self.ledger.dropped += 1;
        if let Some(account) = victim.account {
            account.settled(Settled::Dropped);
        }
        true
    }

    fn discard_waiting(&mut self) {
        let (messages, bytes) = self.writing;
        while let Some(waiting) = self.lanes.pop() {
            if let Some(account) = waiting.account {
                account.settled(Settled::Discarded);
            }
        }
        self.lanes.clear();
        self.bytes = bytes;
        self.ledger.discarded += self.ledger.waiting - messages;
        self.ledger.waiting = messages;
    }

    fn take(&mut self) -> Option<Batch> {
        if self.lanes.is_empty() {
            return self.close.clone().map(Batch::Close);
        }
        let mut frames = Vec::with_capacity(self.lanes.len().min(BATCH));
        let mut bytes = 0;
        while frames.len() < BATCH
            && let Some(Waiting { frame, class: _, account }) = self.lanes.pop()
        {
            bytes += frame.len();
            frames.push(frame);
            self.accounts.extend(account);
        }
        self.writing = (frames.len() as u64, bytes);
        Some(Batch::Frames { frames, is_closing: self.close.is_some() })
    }

    fn export(&mut self) {
        self.ledger.export(&mut self.exported);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::origin::OriginPolicy;

    const SLOW: Close = Close::new(4008, "reads too slowly");

    fn outbox(messages: usize, bytes: usize) -> Outbox {
        let options = Options::new(OriginPolicy::same_host()).outbox(messages, bytes);
        Outbox::new(Arc::new(options), Arc::new(Budget::new(usize::MAX)))
    }

    fn send(outbox: &Outbox, text: &str, class: Class) -> Result<(), Unsent> {
        outbox.push(Frame::text(text), class, Priority::Normal, None)
    }

    fn texts(batch: Batch) -> Vec<String> {
        let Batch::Frames { frames, .. } = batch else { panic!("{batch:?}") };
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
        assert_eq!(send(&outbox, "e1", Class::Ephemeral), Ok(()));
        assert_eq!(send(&outbox, "d1", Class::Durable), Ok(()));
        assert_eq!(send(&outbox, "n1", Class::IfRoom), Err(Unsent::Dropped));
        assert_eq!(send(&outbox, "d2", Class::Durable), Ok(()), "e1 gives way");
        assert_eq!(send(&outbox, "e2", Class::Ephemeral), Err(Unsent::Dropped), "no room for it");
        assert_eq!(outbox.closing(), None);
        assert_eq!(send(&outbox, "d3", Class::Durable), Err(Unsent::TooSlow));
        assert_eq!(outbox.closing(), Some(SLOW));
        assert_eq!(texts(outbox.next().await), ["d1", "d2"]);
        assert_eq!(outbox.next().await, Batch::Close(SLOW));
        assert_eq!(send(&outbox, "d4", Class::Durable), Err(Unsent::Ended));
        let wanted = Ledger { enqueued: 6, dropped: 4, waiting: 2, ..Ledger::default() };
        assert_eq!(outbox.ledger(), wanted);
        outbox.delivered();
        let ended = outbox.end();
        assert_eq!((ended.delivered, ended.discarded), (2, 0));
        assert!(ended.is_balanced());
    }

    #[tokio::test]
    async fn only_the_latest_of_a_key_waits() {
        let outbox = outbox(10, 100);
        for text in ["a1", "a2", "a3"] {
            assert_eq!(send(&outbox, text, Class::Latest(7)), Ok(()));
        }
        assert_eq!(send(&outbox, "b1", Class::Latest(8)), Ok(()));
        assert_eq!(outbox.bytes(), 4);
        assert_eq!(texts(outbox.next().await), ["a3", "b1"]);
        assert_eq!(outbox.bytes(), 4, "what is being written is held as well");
        outbox.delivered();
        assert_eq!(outbox.bytes(), 0);
    }

    #[tokio::test]
    async fn the_first_close_counts_and_comes_after_what_waits() {
        let outbox = outbox(10, 100);
        let binary = Frame::binary(&b"x"[..]);
        assert_eq!(outbox.push(binary, Class::Durable, Priority::Normal, None), Ok(()));
        outbox.close(Close::RESTART);
        outbox.close(Close::NORMAL);
        assert_eq!(texts(outbox.next().await), ["b\"x\""]);
        assert_eq!(outbox.next().await, Batch::Close(Close::RESTART));
    }

    #[tokio::test]
    async fn a_shed_connection_delivers_nothing_more() {
        let outbox = outbox(200, 1_000);
        for _ in 0..150 {
            send(&outbox, "x", Class::Durable).unwrap();
        }
        assert_eq!(texts(outbox.next().await).len(), BATCH);
        outbox.shed(SLOW);
        assert_eq!(outbox.bytes(), BATCH, "the batch that is being written is still held");
        assert_eq!(outbox.next().await, Batch::Close(SLOW));
        let ended = outbox.end();
        assert_eq!((ended.discarded, outbox.bytes()), (150, 0));
        assert!(ended.is_balanced());
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiting_send_is_taken_when_room_is_made_and_refused_when_none_is() {
        let outbox = Arc::new(outbox(1, 100));
        send(&outbox, "first", Class::Durable).unwrap();
        let patience = Duration::from_secs(1);
        let wait = |text: &'static str| {
            let outbox = Arc::clone(&outbox);
            async move { outbox.push_when_room(Frame::text(text), Priority::Normal, patience).await }
        };
        assert_eq!(wait("never").await, Err(Unsent::NoRoom));
        let waiting = tokio::spawn(wait("second"));
        tokio::task::yield_now().await;
        assert_eq!(texts(outbox.next().await), ["first"]);
        outbox.delivered();
        assert_eq!(waiting.await.unwrap(), Ok(()));
        assert_eq!(texts(outbox.next().await), ["second"]);
        assert_eq!(outbox.ledger().enqueued, 2, "what was not taken does not count");
        outbox.close(Close::NORMAL);
        assert_eq!(wait("late").await, Err(Unsent::Ended));
    }

    proptest! {
        #[test]
        fn every_message_is_accounted_for_and_the_budget_is_the_sum_of_all_queues(
            steps in proptest::collection::vec((0..12_u8, 0..40_usize, 0..2_usize), 0..200),
        ) {
            let options = Options::new(OriginPolicy::same_host()).outbox(8, 100);
            let (options, budget) = (Arc::new(options), Arc::new(Budget::new(usize::MAX)));
            let boxes = [0, 1].map(|_| Outbox::new(Arc::clone(&options), Arc::clone(&budget)));
            let urgency = [Priority::Low, Priority::Normal, Priority::High, Priority::Critical];
            for (step, length, which) in steps {
                let outbox = &boxes[which];
                let frame = Frame::text("x".repeat(length));
                let at = urgency[length % 4];
                let _taken = match step {
                    0 => outbox.push(frame, Class::Durable, at, None),
                    1 | 2 => outbox.push(frame, Class::Ephemeral, at, None),
                    3 | 4 => outbox.push(frame, Class::Latest(length as u64 % 3), at, None),
                    5 => outbox.push(frame, Class::IfRoom, at, None),
                    6 if length == 0 => { outbox.shed(SLOW); Ok(()) }
                    7 if length == 0 => { outbox.close(SLOW); Ok(()) }
                    8 if length == 0 => { outbox.end(); Ok(()) }
                    // The writer takes a batch only after it has written the one before.
                    9 | 10 if outbox.with(|queue| queue.writing.0 == 0) => {
                        outbox.with(Queue::take);
                        Ok(())
                    }
                    _ => { outbox.delivered(); Ok(()) }
                };
                for outbox in &boxes {
                    let ledger = outbox.ledger();
                    prop_assert!(ledger.is_balanced(), "{:?}", ledger);
                    prop_assert!(outbox.bytes() <= 100);
                    let held = outbox.with(|queue| queue.lanes.len() as u64 + queue.writing.0);
                    prop_assert_eq!(ledger.waiting, held);
                }
                prop_assert_eq!(budget.used(), boxes[0].bytes() + boxes[1].bytes());
            }
            prop_assert!(boxes.iter().all(|outbox| outbox.end().is_balanced()));
            prop_assert_eq!(budget.used(), 0);
        }
    }
}
