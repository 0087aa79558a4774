//! The task that writes what waits.

use std::{
    fmt::{self, Debug},
    sync::Arc,
    time::Duration,
};

use infra_core::{
    Error, ErrorKind, Result,
    codec::{Codec, Json},
    lifecycle::Stop,
};
use serde::{Serialize, de::DeserializeOwned};

use super::{SAVE, Shared, buffer::Taken};
use crate::{
    source::Edit,
    task,
    telemetry::{BEHIND, Behind, WAITING},
    tiered::Tiered,
};

/// Writes what waits: when a batch is full, when the first edit has waited for the interval, and all of it at the end.
#[must_use = "nothing is written unless it runs"]
pub struct Writer<V, C = Json> {
    pub(super) cache: Tiered<V, C>,
    pub(super) shared: Arc<Shared<V>>,
}

impl<V, C> Debug for Writer<V, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("options", &self.shared.options).finish_non_exhaustive()
    }
}

impl<V, C> Drop for Writer<V, C> {
    fn drop(&mut self) {
        self.shared.state.lock().is_closed = true;
        // Who waits for room would wait in vain.
        self.shared.room.close();
    }
}

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Write,
    /// Nothing for so long, unless something stirs.
    Wait(Duration),
    End,
}

impl<V, C> Writer<V, C>
where
    V: Clone + Send + Sync + Serialize + DeserializeOwned + 'static,
    C: Codec + 'static,
{
    /// Writes until it is told to stop; then it takes no further saves and writes what still waits.
    ///
    /// A source that is down at the end is asked again and again until the caller's grace is over
    /// ([`Shutdown::close`](infra_core::lifecycle::Shutdown::close)).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the writing; what waits is lost unless there is a journal, and saves are refused as
    /// [`Closed`](ErrorKind::Closed).
    pub async fn run(self, stop: Stop) {
        let mut failures = 0;
        loop {
            let is_stopping = stop.is_requested();
            let next = self.next(is_stopping);
            let pause = match next {
                Next::End => return,
                Next::Wait(pause) => pause,
                Next::Write => {
                    if self.write().await.is_ok() {
                        failures = 0;
                        continue;
                    }
                    failures += 1;
                    BEHIND.add_for(Behind::Failed, 1);
                    self.shared.options.pause.pause_before(failures)
                }
            };
            let stirred = async {
                // After a failure only time or the end brings another attempt.
                if next == Next::Write {
                    std::future::pending::<()>().await;
                }
                self.shared.stirred.notified().await;
            };
            tokio::select! {
                () = stop.requested(), if !is_stopping => {}
                () = stirred => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    fn next(&self, is_stopping: bool) -> Next {
        let options = &self.shared.options;
        let mut state = self.shared.state.lock();
        state.is_closed |= is_stopping;
        let Some(oldest) = state.buffer.oldest() else {
            let is_end = is_stopping && state.entering == 0;
            return if is_end { Next::End } else { Next::Wait(Duration::MAX) };
        };
        let waited = self.shared.clock.now().since(oldest);
        let is_due = options.batch <= state.buffer.len() || options.interval <= waited;
        if is_due || is_stopping {
            return Next::Write;
        }
        Next::Wait(options.interval.saturating_sub(waited))
    }

    /// Writes one batch.
    async fn write(&self) -> Result<()> {
        let taken = self.shared.state.lock().buffer.first(self.shared.options.batch);
        match self.source(&taken).await {
            Ok(()) => self.settle(&taken, Behind::Written).await,
            Err(error) if is_refusal(&error) => self.write_singly(&taken).await,
            Err(error) => Err(error),
        }
    }

    /// Writes edits one by one, to find the one that the source refuses.
    async fn write_singly(&self, taken: &[Taken<V>]) -> Result<()> {
        for one in taken {
            let one = std::slice::from_ref(one);
            match self.source(one).await {
                Ok(()) => self.settle(one, Behind::Written).await?,
                Err(error) if is_refusal(&error) => self.give_up(one, &error).await?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn source(&self, taken: &[Taken<V>]) -> Result<()> {
        let edits: Vec<Edit<V>> = taken.iter().map(|it| it.edit.clone()).collect();
        let source = Arc::clone(&self.shared.source);
        // In a task of its own, so that a source that panics is one that fails.
        task::detached(SAVE, async move { source.write(edits).await }).await
    }

    async fn give_up(&self, one: &[Taken<V>], error: &Error) -> Result<()> {
        self.settle(one, Behind::Refused).await?;
        let listener = self.shared.refused.lock().clone();
        for taken in one {
            // What the source does not have must not be shown any longer.
            let _removed = self.cache.invalidate(&taken.edit.key).await.is_ok();
            if let Some(listener) = &listener {
                listener(&taken.edit, error);
            }
        }
        Ok(())
    }

    /// Ends edits: in other processes' caches, in the journal, and only then here.
    async fn settle(&self, taken: &[Taken<V>], how: Behind) -> Result<()> {
        if !self.cache.is_alone() {
            let keys = taken.iter().map(|it| it.edit.key.clone()).collect();
            // A second tier that cannot be told shows the older value until its time is over.
            let _told = self.cache.invalidate_many(keys).await.is_ok();
        }
        if let Some(journal) = &self.shared.journal {
            journal.forget(taken).await?;
        }
        let mut state = self.shared.state.lock();
        for it in taken {
            state.buffer.settle(it);
        }
        BEHIND.add_for(how, taken.len() as u64);
        #[expect(clippy::cast_precision_loss, reason = "a gauge need not be exact")]
        WAITING.set(state.buffer.len() as f64);
        Ok(())
    }
}

/// Returns whether an error is about what was to be written, so that it can never be.
const fn is_refusal(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Invalid
            | ErrorKind::Denied
            | ErrorKind::Conflict { .. }
            | ErrorKind::Unsupported
    )
}
