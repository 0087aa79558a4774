//! The bounded queue of messages to one client, with an exact account of each.

use std::{pin::pin, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    budget::{Advance, Budget},
    close::Close,
    frame::{Class, Frame, MAX_HEADER, Unsent},
    lanes::{Lanes, Priority},
    ledger::{Account, Ledger, Settled},
    options::Options,
    post::Post,
};

/// How many messages are written at once, at most.
const BATCH: usize = 512;

/// After how many bytes no further message is written with them; held only while they are.
const BATCH_BYTES: usize = 32 * 1024;

/// In this order: a message to many touches the first part of each queue and little else, so that
/// part should lie together.
#[derive(Debug)]
#[repr(C)]
struct Queue {
    /// Nothing is taken any more.
    is_closed: bool,
    /// Bytes that wait or are being written: what the process holds for this client.
    bytes: usize,
    /// Without what waits, which is what the lanes hold.
    ledger: Ledger,
    lanes: Lanes<Arc<Post>>,
    /// Messages and bytes of them that are being written.
    writing: (u64, usize),
    /// The rooms on whose account they are, and how many of each.
    accounts: Vec<(Arc<Account>, u64)>,
    exported: Ledger,
    /// Set once: this is how it ends.
    close: Option<Close>,
}

/// What the writer takes from the queue.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Batch {
    /// These frames are to be written; the connection closes behind what waits if so said.
    Frames { frames: Vec<u8>, is_closing: bool },
    /// Everything was taken; close the connection.
    Close(Close),
}

#[derive(Debug)]
#[repr(C)]
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
            is_closed: false,
            bytes: 0,
            ledger: Ledger::default(),
            lanes: Lanes::new(),
            writing: (0, 0),
            accounts: Vec::new(),
            exported: Ledger::default(),
            close: None,
        };
        let (changed, freed) = (Notify::new(), Notify::new());
        Self { options, budget, queue: Mutex::new(queue), changed, freed }
    }

    /// Takes a message, or refuses it; never waits. Its bytes are counted as `advance` says.
    pub(crate) fn push(
        &self,
        post: Arc<Post>,
        at: Priority,
        advance: &mut Advance,
    ) -> Result<(), Unsent> {
        let (taken, is_news) = self.with_advance(advance, |queue| {
            let was_idle = queue.lanes.is_empty();
            let taken = queue.push(post, at, &self.options);
            // A refusal may have closed the connection, which the writer must hear as well.
            (taken, was_idle || queue.is_closed)
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
            if queue.is_closed {
                return Err(Unsent::Ended);
            }
            queue.ledger.enqueued += 1;
            queue.ledger.dropped += 1;
            if let Some(account) = account {
                account.enqueued();
                account.settled(Settled::Dropped, 1);
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
        let post = Post::new(frame, Class::IfRoom, None);
        let taken = async {
            loop {
                let mut freed = pin!(self.freed.notified());
                // Listening begins before the look, so what is freed in between is not missed.
                freed.as_mut().enable();
                let taken = self.with(|queue| {
                    let is_time = queue.is_closed || queue.has_room(&post.frame, &self.options);
                    is_time.then(|| queue.push(Arc::clone(&post), at, &self.options))
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
        self.with(|queue| queue.close(close));
        self.changed.notify_one();
        self.freed.notify_waiters();
    }

    /// Ends the connection without delivering what waits.
    pub(crate) fn shed(&self, close: Close) {
        self.with(|queue| {
            queue.close(close);
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
            queue.ledger.delivered += queue.written(Settled::Delivered);
            queue.export();
        });
        self.freed.notify_waiters();
    }

    /// Ends the queue: what waits or is half written is discarded.
    pub(crate) fn end(&self) -> Ledger {
        let ledger = self.with(|queue| {
            queue.is_closed = true;
            queue.discard_waiting();
            queue.ledger.discarded += queue.written(Settled::Discarded);
            queue.export();
            queue.ledger()
        });
        self.freed.notify_waiters();
        ledger
    }

    pub(crate) fn ledger(&self) -> Ledger {
        self.with(|queue| queue.ledger())
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
        self.with_advance(&mut Advance::none(), work)
    }

    fn with_advance<T>(&self, advance: &mut Advance, work: impl FnOnce(&mut Queue) -> T) -> T {
        let mut queue = self.queue.lock();
        let before = queue.bytes;
        let result = work(&mut queue);
        match queue.bytes.cmp(&before) {
            std::cmp::Ordering::Greater => advance.take(&self.budget, queue.bytes - before),
            std::cmp::Ordering::Less => self.budget.sub(before - queue.bytes),
            std::cmp::Ordering::Equal => {}
        }
        result
    }
}

impl Queue {
    fn close(&mut self, close: Close) {
        self.close.get_or_insert(close);
        self.is_closed = true;
    }

    fn push(&mut self, new: Arc<Post>, at: Priority, options: &Options) -> Result<(), Unsent> {
        if self.is_closed {
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
                account.settled(Settled::Dropped, 1);
            }
            if class != Class::Durable {
                return Err(Unsent::Dropped);
            }
            self.close(options.codes.slow.clone());
            return Err(Unsent::TooSlow);
        }
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
        self.ledger.dropped += 1;
        if let Some(account) = &victim.account {
            account.settled(Settled::Dropped, 1);
        }
        true
    }

    fn discard_waiting(&mut self) {
        while let Some(waiting) = self.lanes.pop() {
            self.bytes -= waiting.frame.len();
            self.ledger.discarded += 1;
            if let Some(account) = &waiting.account {
                account.settled(Settled::Discarded, 1);
            }
        }
        self.lanes.clear();
    }

    /// Forgets what was being written, and returns how many messages it was.
    fn written(&mut self, fate: Settled) -> u64 {
        let (messages, bytes) = std::mem::take(&mut self.writing);
        self.bytes -= bytes;
        self.accounts.drain(..).for_each(|(account, count)| account.settled(fate, count));
        messages
    }

    fn ledger(&self) -> Ledger {
        Ledger { waiting: self.lanes.len() as u64 + self.writing.0, ..self.ledger }
    }

    fn take(&mut self) -> Option<Batch> {
        if self.lanes.is_empty() {
            return self.close.clone().map(Batch::Close);
        }
        let whole = self.bytes + self.lanes.len() * MAX_HEADER;
        let mut frames = Vec::with_capacity(whole.min(BATCH_BYTES));
        let (mut messages, mut bytes) = (0, 0);
        while messages < BATCH
            && frames.len() < BATCH_BYTES
            && let Some(post) = self.lanes.pop()
        {
            post.frame.encode(&mut frames);
            messages += 1;
            bytes += post.frame.len();
            self.charge(post.account.as_ref());
        }
        self.writing = (messages as u64, bytes);
        Some(Batch::Frames { frames, is_closing: self.close.is_some() })
    }

    /// Remembers on whose account a message is that is being written.
    fn charge(&mut self, account: Option<&Arc<Account>>) {
        let Some(account) = account else { return };
        match self.accounts.last_mut() {
            Some((last, count)) if Arc::ptr_eq(last, account) => *count += 1,
            Some(_) | None => self.accounts.push((Arc::clone(account), 1)),
        }
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
        let post = Post::new(Frame::text(text), class, None);
        outbox.push(post, Priority::Normal, &mut Advance::none())
    }

    fn texts(batch: Batch) -> Vec<String> {
        let Batch::Frames { frames, .. } = batch else { panic!("{batch:?}") };
        let (mut rest, mut texts) = (frames.as_slice(), Vec::new());
        while let [_, length, others @ ..] = rest {
            let (text, others) = others.split_at(usize::from(*length));
            texts.push(String::from_utf8(text.to_vec()).unwrap());
            rest = others;
        }
        texts
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
        let post = Post::new(binary, Class::Durable, None);
        assert_eq!(outbox.push(post, Priority::Normal, &mut Advance::none()), Ok(()));
        outbox.close(Close::RESTART);
        outbox.close(Close::NORMAL);
        assert_eq!(texts(outbox.next().await), ["x"]);
        assert_eq!(outbox.next().await, Batch::Close(Close::RESTART));
    }

    #[tokio::test]
    async fn a_shed_connection_delivers_nothing_more() {
        let outbox = outbox(BATCH + 100, 1_000);
        for _ in 0..BATCH + 22 {
            send(&outbox, "x", Class::Durable).unwrap();
        }
        assert_eq!(texts(outbox.next().await).len(), BATCH);
        outbox.shed(SLOW);
        assert_eq!(outbox.bytes(), BATCH, "the batch that is being written is still held");
        assert_eq!(outbox.next().await, Batch::Close(SLOW));
        let ended = outbox.end();
        assert_eq!((ended.discarded, outbox.bytes()), (BATCH as u64 + 22, 0));
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
                let push = |frame, class| {
                    let mut advance =
                        if length % 2 == 0 { Advance::none() } else { Advance::for_many() };
                    outbox.push(Post::new(frame, class, None), at, &mut advance)
                };
                let _taken = match step {
                    0 => push(frame, Class::Durable),
                    1 | 2 => push(frame, Class::Ephemeral),
                    3 | 4 => push(frame, Class::Latest(length as u64 % 3)),
                    5 => push(frame, Class::IfRoom),
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
