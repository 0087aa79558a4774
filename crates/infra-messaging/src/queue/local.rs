//! A queue whose state is in this process; it may have a writer that keeps it on a disk.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use infra_core::{
    Clock, Error, ErrorKind, Result,
    clock::{Instant, Timestamp},
    durability::Durability,
    id::{MessageId, QueueName},
    queue::{Cause, DeadLetter, Delivery, Features, Lease, Message, Queue, Settlement, Stats},
};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::{
    entry::Number,
    options::{Options, Overflow},
    state::{Moment, State, Taken},
    writer::Writer,
};
use crate::telemetry::{HANDED_OUT, Outcome, REFUSED, SETTLED};

/// How long is waited at most before it is looked again.
const LONG: Duration = Duration::from_hours(1);

/// The state of a queue with its waiting. Clones are the same queue.
#[derive(Debug, Clone)]
pub(crate) struct Local(Arc<Shared>);

#[derive(Debug)]
pub(crate) struct Shared {
    name: QueueName,
    options: Options,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// Something may be ready, or due at another time.
    ready: Notify,
    /// There may be room.
    room: Notify,
    writer: Option<Writer>,
}

/// What waits for a step to be written.
#[must_use]
pub(crate) struct Written(Option<oneshot::Receiver<Result<()>>>);

impl Written {
    async fn wait(self) -> Result<()> {
        let Some(answer) = self.0 else { return Ok(()) };
        // Without an answer the writer is gone, and with it the runtime.
        answer.await.unwrap_or_else(|_| Err(Error::new(ErrorKind::Indeterminate, "write queue")))
    }
}

/// What was taken, until it is written that it was.
#[must_use]
struct Handed {
    deliveries: Vec<Delivery>,
    written: Written,
}

impl Handed {
    const fn is_empty(&self) -> bool {
        self.deliveries.is_empty()
    }

    async fn wait(self) -> Result<Vec<Delivery>> {
        HANDED_OUT.add(self.deliveries.len() as u64);
        self.written.wait().await?;
        Ok(self.deliveries)
    }
}

impl Shared {
    pub(crate) fn moment(&self) -> Moment {
        let (now, wall) = self.clock.both();
        Moment { now, wall }
    }

    /// Does something with a state where everything that was due has happened, hands what changed to
    /// the writer in the order of the changes, and wakes whom that may concern.
    fn with<T>(
        &self,
        durability: Durability,
        act: impl FnOnce(&mut State, Moment) -> T,
    ) -> (T, Written) {
        let mut state = self.state.lock();
        let at = self.moment();
        state.pass(at);
        let before = state.due();
        let done = act(&mut state, at);
        if state.is_ready() || state.due() != before {
            // Who is woken takes what it can, and wakes the next one if there is more.
            self.ready.notify_one();
        }
        let journal = state.take_journal().filter(|journal| !journal.is_empty());
        let answer = match (&self.writer, journal) {
            (Some(writer), Some(journal)) => Some(writer.write(journal, durability)),
            _ => None,
        };
        (done, Written(answer))
    }

    /// Does something that is not waited for.
    pub(crate) fn now<T>(&self, act: impl FnOnce(&mut State, Moment) -> T) -> T {
        let (done, _unwaited) = self.with(Durability::Applied, act);
        done
    }

    /// Ends the queue: nothing more is taken or handed out, and whoever waits is told so.
    pub(crate) fn close(&self) {
        self.state.lock().is_closed = true;
        self.wake_all();
    }

    /// Waits until everything until now is written, and writes no more.
    pub(crate) async fn end(&self) -> Result<()> {
        match &self.writer {
            Some(writer) => writer.end().await,
            None => Ok(()),
        }
    }

    pub(crate) fn wake_all(&self) {
        self.ready.notify_waiters();
        self.room.notify_waiters();
    }

    fn closed(&self, operation: &'static str) -> Error {
        Error::new(ErrorKind::Closed, operation).detail(self.name.to_string())
    }

    /// Returns what the queue failed with, if its writer had to give up.
    fn check(&self) -> Result<()> {
        self.writer.as_ref().map_or(Ok(()), Writer::check)
    }

    fn durability(&self) -> Durability {
        self.writer.as_ref().map_or(Durability::Applied, Writer::durability)
    }
}

impl Local {
    pub(crate) fn new(
        name: QueueName,
        options: Options,
        clock: Arc<dyn Clock>,
        state: State,
        writer: Option<Writer>,
    ) -> Self {
        let (ready, room) = (Notify::new(), Notify::new());
        let state = Mutex::new(state);
        Self(Arc::new(Shared { name, options, clock, state, ready, room, writer }))
    }

    pub(crate) const fn shared(&self) -> &Arc<Shared> {
        &self.0
    }

    /// Takes no more messages; what is there is still handed out, and then whoever waits is told
    /// that it is over.
    pub(crate) fn drain(&self) {
        self.0.state.lock().is_draining = true;
        self.0.wake_all();
    }

    fn hand(&self, taken: Taken) -> Delivery {
        let Taken { number, lease, message, attempts, published } = taken;
        let held = Held { queue: self.clone(), number, lease };
        Delivery::new(message, attempts, published, Box::new(held))
    }

    /// Publishes messages and takes them, or leaves them where they are.
    fn try_publish(
        &self,
        messages: &mut Vec<Message>,
        durability: Durability,
    ) -> (Result<Vec<bool>>, Written) {
        const PUBLISH: &str = "publish message";
        self.0.with(durability, |state, at| {
            if state.is_closed || state.is_draining {
                return Err(self.0.closed(PUBLISH));
            }
            state.publish_from(messages, at)
        })
    }

    /// Takes what is there, and tells when something is due.
    fn try_take(&self, limit: usize, lease: Duration) -> Result<(Handed, Option<Instant>)> {
        const RECEIVE: &str = "receive message";
        self.0.check()?;
        let marks = Durability::Buffered.min(self.0.durability());
        let (taken, written) = self.0.with(marks, |state, at| {
            if state.is_closed || (state.is_draining && state.is_empty()) {
                return Err(self.0.closed(RECEIVE));
            }
            Ok((state.take(limit, lease, at), state.due()))
        });
        let (taken, due) = taken?;
        // From here on, dropping them gives them back.
        let deliveries = taken.into_iter().map(|one| self.hand(one)).collect();
        Ok((Handed { deliveries, written }, due))
    }

    /// Waits until a settlement may have made room, or a message's time is over.
    async fn wait_for_room(&self, room: impl Future<Output = ()>) {
        let due = self.0.state.lock().due();
        let pause = due.map_or(LONG, |due| due.since(self.0.clock.now()));
        let _has_come = tokio::time::timeout(pause, room).await.is_ok();
    }

    async fn settle(&self, number: Number, lease: u64, settlement: Settlement) -> Result<()> {
        self.0.check()?;
        let outcome = Outcome::of(&settlement);
        let durability = self.0.durability();
        let ((said, has_room, is_drained), written) = self.0.with(durability, |state, at| {
            let said = state.settle(number, lease, settlement, at);
            (said, state.take_room_wanted(), state.is_draining && state.is_empty())
        });
        // That room is wanted was forgotten, so nothing may come between: no error and no wait.
        if has_room {
            self.0.room.notify_waiters();
        }
        said?;
        written.wait().await?;
        SETTLED.add_for(outcome, 1);
        if is_drained {
            self.0.ready.notify_waiters();
        }
        Ok(())
    }
}

fn is_full(error: &Error) -> bool {
    *error.kind() == ErrorKind::Overloaded
}

#[async_trait]
impl Queue for Local {
    fn name(&self) -> &QueueName {
        &self.0.name
    }

    fn features(&self) -> Features {
        Features::all(self.0.durability())
    }

    async fn publish(&self, messages: Vec<Message>, durability: Durability) -> Result<Vec<bool>> {
        self.0.check()?;
        if self.0.durability() < durability {
            let detail = format!("{durability:?}: queue {} has no such engine", self.0.name);
            return Err(Error::new(ErrorKind::Unsupported, "publish message").detail(detail));
        }
        let mut messages = messages;
        let can_wait =
            self.0.options.overflow == Overflow::Wait && messages.len() <= self.0.options.capacity;
        let (mut said, mut written) = self.try_publish(&mut messages, durability);
        while can_wait && said.as_ref().is_err_and(is_full) {
            let room = self.0.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            // Of a queue that failed nothing is settled any more, so no room would come.
            self.0.check()?;
            // There may have been room before that.
            (said, written) = self.try_publish(&mut messages, durability);
            if said.as_ref().is_err_and(is_full) {
                self.wait_for_room(room).await;
            }
        }
        REFUSED.add(u64::from(said.as_ref().is_err_and(is_full)));
        let new = said?;
        written.wait().await?;
        Ok(new)
    }

    async fn receive(&self, limit: usize, lease: Duration) -> Result<Vec<Delivery>> {
        if limit == 0 || lease.is_zero() {
            let detail = format!("limit {limit}, lease {lease:?}");
            return Err(Error::invalid("receive message", detail));
        }
        loop {
            // To be registered as a waiter costs as much as to take something that is there.
            let (handed, _) = self.try_take(limit, lease)?;
            if !handed.is_empty() {
                return handed.wait().await;
            }
            let ready = self.0.ready.notified();
            tokio::pin!(ready);
            ready.as_mut().enable();
            let (handed, due) = self.try_take(limit, lease)?;
            if !handed.is_empty() {
                return handed.wait().await;
            }
            let pause = due.map_or(LONG, |due| due.since(self.0.clock.now())).min(LONG);
            // Either something has changed, or something is due.
            let _has_changed = tokio::time::timeout(pause, ready).await.is_ok();
        }
    }

    async fn stats(&self) -> Result<Stats> {
        Ok(self.0.now(|state, at| state.stats(at)))
    }

    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>> {
        Ok(self.0.now(|state, _| state.dead_letters(limit)))
    }

    async fn peek(&self, limit: usize) -> Result<Vec<Message>> {
        Ok(self.0.now(|state, _| state.peek(limit)))
    }

    async fn replay(&self, id: MessageId) -> Result<bool> {
        let (is_there, written) =
            self.0.with(self.0.durability(), |state, at| state.replay(id, at));
        written.wait().await?;
        Ok(is_there)
    }

    async fn purge_dead(&self, before: Timestamp, cause: Option<Cause>) -> Result<u64> {
        let purge = |state: &mut State, at| state.purge_dead(before, cause, at);
        let (count, written) = self.0.with(self.0.durability(), purge);
        written.wait().await?;
        Ok(count)
    }

    async fn clear(&self) -> Result<u64> {
        let (count, written) = self.0.with(self.0.durability(), State::clear);
        self.0.room.notify_waiters();
        written.wait().await?;
        Ok(count)
    }

    async fn set_paused(&self, paused: bool) -> Result<()> {
        let ((), written) = self.0.with(self.0.durability(), |state, _| state.pause(paused));
        written.wait().await
    }
}

/// A lease of this queue.
#[derive(Debug)]
struct Held {
    queue: Local,
    number: Number,
    lease: u64,
}

#[async_trait]
impl Lease for Held {
    async fn settle(&self, settlement: Settlement) -> Result<()> {
        self.queue.settle(self.number, self.lease, settlement).await
    }

    async fn extend(&self, lease: Duration) -> Result<()> {
        self.queue.0.check()?;
        self.queue.0.now(|state, at| state.extend(self.number, self.lease, lease, at))
    }

    fn abandon(&self) {
        let release =
            |state: &mut State, at| state.settle(self.number, self.lease, Settlement::Release, at);
        // A lease that was lost is nobody's to release.
        if self.queue.0.now(release).is_ok() {
            SETTLED.add_for(Outcome::Released, 1);
            self.queue.0.room.notify_waiters();
        }
    }
}

/// Implements the port for a queue that wraps a [`Local`].
macro_rules! delegate_queue {
    ($name:ident) => {
        #[async_trait::async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl infra_core::queue::Queue for $name {
            fn name(&self) -> &infra_core::id::QueueName {
                self.0.name()
            }

            fn features(&self) -> infra_core::queue::Features {
                self.0.features()
            }

            async fn publish(
                &self,
                messages: Vec<infra_core::queue::Message>,
                durability: infra_core::durability::Durability,
            ) -> infra_core::Result<Vec<bool>> {
                self.0.publish(messages, durability).await
            }

            async fn receive(
                &self,
                limit: usize,
                lease: std::time::Duration,
            ) -> infra_core::Result<Vec<infra_core::queue::Delivery>> {
                self.0.receive(limit, lease).await
            }

            async fn stats(&self) -> infra_core::Result<infra_core::queue::Stats> {
                self.0.stats().await
            }

            async fn dead_letters(
                &self,
                limit: usize,
            ) -> infra_core::Result<Vec<infra_core::queue::DeadLetter>> {
                self.0.dead_letters(limit).await
            }

            async fn peek(
                &self,
                limit: usize,
            ) -> infra_core::Result<Vec<infra_core::queue::Message>> {
                self.0.peek(limit).await
            }

            async fn replay(&self, id: infra_core::id::MessageId) -> infra_core::Result<bool> {
                self.0.replay(id).await
            }

            async fn purge_dead(
                &self,
                before: infra_core::clock::Timestamp,
                cause: Option<infra_core::queue::Cause>,
            ) -> infra_core::Result<u64> {
                self.0.purge_dead(before, cause).await
            }

            async fn clear(&self) -> infra_core::Result<u64> {
                self.0.clear().await
            }

            async fn set_paused(&self, paused: bool) -> infra_core::Result<()> {
                self.0.set_paused(paused).await
            }
        }
    };
}
pub(crate) use delegate_queue;
