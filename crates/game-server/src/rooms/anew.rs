//! A room that is read anew, since what its events say of somebody has changed.

use infra_core::Result;
use infra_persistence::state::Durable;
use tokio::sync::oneshot;

use super::{mail::Mail, registry::Registry, task::RoomTask};
use crate::protocol::RoomCode;

impl Registry {
    /// Has a room that is in memory read anew, without the snapshots that there are of it.
    ///
    /// # Errors
    ///
    /// What the store fails with; the room is as it was then.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future lets the room go on with it.
    pub(crate) async fn read_anew(&self, code: RoomCode) -> Result<()> {
        let Some(handle) = self.in_memory(code) else { return Ok(()) };
        let (reply, answer) = oneshot::channel();
        // A task that has ended meanwhile holds nothing any more.
        if handle.send(Mail::ReadAnew(reply)).await.is_err() {
            return Ok(());
        }
        answer.await.unwrap_or(Ok(()))
    }
}

impl RoomTask {
    pub(super) async fn read_anew(&mut self) -> Result<()> {
        self.catch_up().await?;
        // A snapshot on its way is of the room as it was.
        self.durable.settle().await;
        let stream = self.durable.stream().clone();
        self.tools.snapshots.prune(&stream, 0).await?;
        let opened = Box::pin(Durable::open(stream, self.tools.machine.clone())).await?;
        self.durable = opened.0;
        self.room = self.durable.state().clone();
        self.summarize();
        Ok(())
    }
}
