//! Actions whose time is over before they are begun.

use infra_core::{Result, context::Context};

use super::task::RoomTask;
use crate::{
    domain::Command,
    protocol::{Code, Setback},
    telemetry::LATE,
};

impl RoomTask {
    /// Carries a command out, unless the deadline of its context has passed: then nothing of it is begun, and
    /// its sender is told so.
    ///
    /// The fate of an earlier write is found out first, since it may have been the same command's: where that
    /// is not known it is an error, as for [`RoomTask::carry_out`].
    pub(super) async fn carry_out_in_time(&mut self, command: Command) -> Result<Result<(), Code>> {
        self.catch_up().await?;
        let deadline = Context::current().deadline_of();
        if deadline.is_some_and(|deadline| deadline.has_passed(self.tools.clock.now())) {
            LATE.add(1);
            return Ok(Err(Setback::Overloaded.into()));
        }
        Ok(self.carry_out(command).await?.map_err(Code::from))
    }
}
