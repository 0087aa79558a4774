//! A queue that survives its process, over any document store.

use std::sync::Arc;

use infra_core::{
    Clock, Result,
    id::{Collection, QueueName},
    queue::Queue as _,
    store::DocumentStore,
};

use super::{
    local::{Local, delegate_queue},
    options::Options,
    state::{Moment, State},
    stored,
    writer::Writer,
};

/// Hands out the messages of one process and keeps them in a document store. Clones are the same
/// queue.
///
/// The whole queue is also in memory, within its capacity: nothing is read from the store after it
/// was opened. A message is shown to consumers once it is written, at the durability that its
/// publish named; a verdict returns once it is written as safely as the store can, and only then has
/// the next message of its key its turn. That a message was handed out is written before it is in
/// hand, so a message whose handler kills the process is counted as a crash when the queue is opened
/// again, also after `kill -9`.
///
/// If a commit fails for good, the queue is poisoned: everything is refused until it is opened again.
/// One process may have a queue open; a store that is shared needs a lease around it.
#[derive(Debug, Clone)]
pub struct DurableQueue(Local);

impl DurableQueue {
    /// Opens a queue; its documents are in the collection `queue.NAME`.
    ///
    /// # Errors
    ///
    /// What the store fails with; [`Corrupt`](infra_core::ErrorKind::Corrupt) if what it holds is no
    /// queue.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the queue closed.
    pub async fn open(
        store: Arc<dyn DocumentStore>,
        name: QueueName,
        options: Options,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let collection = Collection::new(format!("queue.{name}"))?;
        let stored = stored::load(store.as_ref(), &collection).await?;
        let at = Moment { now: clock.now(), wall: clock.wall() };
        let state = restore(options, stored, at);
        let (writer, scribe) = Writer::new(store, collection);
        let queue = Local::new(name, options, clock, state, Some(writer));
        tokio::spawn(scribe.run(Arc::downgrade(queue.shared())));
        queue.settle_in().await?;
        Ok(Self(queue))
    }

    /// Ends the queue: nothing more is taken, handed out or settled, and whoever waits is told so.
    ///
    /// Returns once everything that was settled or given back until now is written and the queue
    /// has let go of its store, so that the store can be closed and opened again at once. What is
    /// still in hand then counts as a crash of its holder: give it back first.
    ///
    /// # Errors
    ///
    /// [`Poisoned`](infra_core::ErrorKind::Poisoned) if something could not be written;
    /// [`Indeterminate`](infra_core::ErrorKind::Indeterminate) if the runtime that wrote is gone.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the queue closed, and what is left to write is still written.
    pub async fn close(&self) -> Result<()> {
        self.0.shared().close();
        self.0.shared().end().await
    }

    /// Takes no more messages; what is there is still handed out, and once everything is settled
    /// whoever waits is told that it is over.
    pub fn drain(&self) {
        self.0.drain();
    }
}

fn restore(options: Options, stored: stored::Stored, at: Moment) -> State {
    let mut state = State::new(options);
    state.keep_journal();
    for (number, letter) in stored.dead {
        state.restore_dead(number, letter);
    }
    state.restore_parked(&stored.parked);
    state.restore_known(stored.known, at);
    state.is_paused = stored.is_paused;
    state.restore(stored.messages, at);
    state
}

impl Local {
    /// Waits until everything until now is written.
    async fn settle_in(&self) -> Result<()> {
        let paused = self.shared().now(|state, _| state.is_paused);
        self.set_paused(paused).await
    }
}

delegate_queue!(DurableQueue);
