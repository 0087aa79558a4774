//! A room as it was: the state after any of its events.

use infra_core::{ErrorKind, Result, version::Version};
use infra_persistence::state::{Target, recover};

use super::{
    reading::read,
    record::{live_event, stream_of},
    registry::Registry,
};
use crate::{
    domain::{Room, Viewer},
    protocol::{RoomCode, admin::Moment, diagram},
};

impl Registry {
    /// Returns a room as a spectator saw it right after one of its events; `None` if there is no such event.
    ///
    /// It is read from the stores alone: the room's task is not asked, and none is started.
    ///
    /// # Errors
    ///
    /// What the store fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn at(&self, code: RoomCode, offset: u64) -> Result<Option<Moment>> {
        let stream = stream_of(code)?;
        let Some(info) = self.tools.events.stream_info(&stream).await? else { return Ok(None) };
        let version = Version::new(offset);
        let target = Target::Version(version);
        let recovered = match recover::<Room>(&stream, &self.tools.machine, target).await {
            Ok(recovered) => recovered,
            Err(error) if error.kind() == &ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        // Before its first event a room is nothing.
        let Some(state) = recovered.machine.view(Viewer::Spectator) else { return Ok(None) };
        let recorded = read(&*self.tools.events, &stream, offset, offset).await?;
        let Some(event) = recorded.first() else { return Ok(None) };
        Ok(Some(Moment {
            room: code,
            last: info.last.get(),
            diagram: diagram(&state),
            state,
            event: live_event(code, event)?,
            snapshot: recovered.report.snapshot.map(Version::get),
            replayed: recovered.report.replayed,
        }))
    }
}
