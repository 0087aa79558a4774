//! Rooms that come back after a restart, many at once.

use std::{sync::Arc, time::Duration};

use infra_core::{Error, ErrorKind, Result, id::StreamName, version::Version};
use infra_persistence::state::{Durable, Recovered, recover_all};

use super::{
    record::{room_of, stream_of},
    registry::Registry,
};
use crate::{domain::Room, protocol::RoomCode};

/// How many rooms come back at a time. Each waits most of the time for a store, which may be far away, so
/// it is no question of processors.
const AT_A_TIME: usize = 32;

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Returned {
    /// The rooms that go on.
    pub rooms: usize,
    /// Those that do not, because of what the log says.
    pub failed: usize,
    /// The rooms whose way back began with a snapshot.
    pub from_snapshot: usize,
    /// Snapshots that were of no use.
    pub skipped: usize,
    /// Events that were replayed.
    pub replayed: u64,
    /// How long it took.
    pub took: Duration,
}

impl Registry {
    /// Brings rooms back into memory, several at a time, so that their games go on by themselves.
    ///
    /// The progress is logged at each tenth of the way, what cannot come back as an error each.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] if a newer version of the program wrote one of them; none goes on then.
    /// Never for what else a single room meets; that is in the answer.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves some of them out of memory; they are found when they are asked for.
    pub async fn bring_back(self: &Arc<Self>, rooms: &[RoomCode]) -> Result<Returned> {
        let begun = self.tools.clock.now();
        let streams = rooms.iter().map(|code| stream_of(*code)).collect::<Result<Vec<_>>>()?;
        let progress = |done: usize, all: usize| {
            if done * 10 / all != (done - 1) * 10 / all {
                tracing::info!(done, all, "rooms come back");
            }
        };
        let found = recover_all::<Room>(streams, &self.tools.machine, AT_A_TIME, progress).await;
        let is_newer = |error: &&Error| *error.kind() == ErrorKind::Unsupported;
        let newer = found.iter().filter_map(|(_, room)| room.as_ref().err()).find(is_newer);
        if let Some(error) = newer {
            return Err(error.clone());
        }
        let mut returned = Returned::default();
        for (stream, recovered) in found {
            let gone_on = match recovered {
                Ok(room) => self.go_on(&stream, room, &mut returned).await,
                Err(error) => Err(error),
            };
            if let Err(error) = gone_on {
                returned.failed += 1;
                let error = &error as &dyn std::error::Error;
                tracing::error!(%stream, error, "room does not come back");
            }
        }
        returned.took = self.tools.clock.now().since(begun);
        Ok(returned)
    }

    /// Starts the task of a room that came back, unless it was asked for meanwhile.
    async fn go_on(
        self: &Arc<Self>,
        stream: &StreamName,
        recovered: Recovered<Room>,
        returned: &mut Returned,
    ) -> Result<()> {
        let Some(code) = room_of(stream) else { return Ok(()) };
        let report = &recovered.report;
        if report.version == Version::ZERO {
            // The log has lost it: there is nothing to go on with.
            return Ok(());
        }
        for skipped in &report.skipped {
            tracing::warn!(room = %code, version = %skipped.version, why = skipped.why, "snapshot not used");
        }
        returned.skipped += report.skipped.len();
        returned.replayed = returned.replayed.saturating_add(report.replayed);
        returned.from_snapshot += usize::from(report.snapshot.is_some());
        let resume = || async {
            let machine = self.tools.machine.clone();
            Durable::resume(stream.clone(), machine, recovered).map(|room| self.serve(code, room))
        };
        self.slot(code)?.get_or_try_init(resume).await?;
        returned.rooms += 1;
        Ok(())
    }
}
