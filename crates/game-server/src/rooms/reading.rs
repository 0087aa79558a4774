//! What a room reads back from its stream: for who comes back, and for operators.

use infra_core::{
    Error, ErrorKind, Result,
    event::{Direction, EventStore, RecordedEvent},
    id::StreamName,
    version::Version,
};
use infra_ws::{
    Class, Connection,
    resume::{History, Reason, Recovery, decide},
};

use super::{
    audience::{frame_of, viewer_of},
    mail::Look,
    record::{decode_event, live_event, stream_of},
    task::RoomTask,
};
use crate::{
    domain::{PlayerId, Viewer, view},
    protocol::{Joined, Position, Resumed, ServerMessage, Token, Why, admin::RECENT_EVENTS},
};

impl RoomTask {
    /// Sends what a connection missed, or the whole state and why.
    pub(super) async fn greet(
        &mut self,
        connection: &Connection,
        player: Option<PlayerId>,
        from: Option<Position>,
        token: Option<Token>,
    ) -> Result<()> {
        let epoch = self.epoch().await?;
        let viewer = viewer_of(&self.room, player);
        let last = self.room.offset();
        let why = match from {
            None => Why::Entered,
            Some(from) => {
                let limit = self.tools.resume_events;
                let history = History { epoch: epoch.as_str(), first: 1, last, limit };
                match decide(from.epoch.as_str(), from.offset, &history) {
                    Recovery::Recovered { from, to } => {
                        let missed = self.missed(from, to, viewer).await?;
                        let resumed = Resumed {
                            room: self.code,
                            epoch,
                            offset: to,
                            missed: missed.len() as u64,
                            last_action: player.and_then(|player| self.room.last_action(player)),
                            token,
                        };
                        let first = ServerMessage::Resumed(resumed);
                        for message in std::iter::once(first).chain(missed) {
                            connection.send(frame_of(&message), Class::Durable);
                        }
                        return Ok(());
                    }
                    Recovery::NotRecovered(Reason::EpochChanged) => Why::EpochChanged,
                    Recovery::NotRecovered(Reason::TooOld) => Why::TooOld,
                    Recovery::NotRecovered(Reason::Ahead) => Why::OffsetAhead,
                }
            }
        };
        let absent = || Error::new(ErrorKind::Internal, "enter room");
        let state = self.room.view(viewer).ok_or_else(absent)?;
        let joined = Joined { room: self.code, epoch, why, state, token };
        connection.send(frame_of(&ServerMessage::Joined(Box::new(joined))), Class::Durable);
        Ok(())
    }

    async fn missed(&self, from: u64, to: u64, viewer: Viewer) -> Result<Vec<ServerMessage>> {
        let recorded = self.read(from, to).await?;
        let events = recorded.iter().map(|recorded| {
            let event = view(&decode_event(recorded)?, viewer);
            Ok(ServerMessage::Event { offset: recorded.version.get(), event })
        });
        events.collect()
    }

    /// Reads events of the room, all of them that were asked for.
    pub(super) async fn read(&self, from: u64, to: u64) -> Result<Vec<RecordedEvent>> {
        read(&*self.tools.events, &stream_of(self.code)?, from, to).await
    }

    pub(super) async fn look(&mut self) -> Result<Look> {
        let epoch = self.epoch().await?;
        let last = self.room.offset();
        let first = last.saturating_sub(RECENT_EVENTS as u64 - 1).max(1);
        let recorded = self.read(first, last).await?;
        let recent = recorded.iter().map(|recorded| live_event(self.code, recorded)).collect();
        let gone = || Error::new(ErrorKind::NotFound, "look at room");
        let state = self.room.view(Viewer::Spectator).ok_or_else(gone)?;
        Ok(Look { epoch, state, recent: Result::from_iter::<Vec<_>>(recent)? })
    }
}

/// Reads events of a stream, all of them that were asked for.
pub(super) async fn read(
    events: &dyn EventStore,
    stream: &StreamName,
    from: u64,
    to: u64,
) -> Result<Vec<RecordedEvent>> {
    let count = usize::try_from((to + 1).saturating_sub(from)).unwrap_or(usize::MAX);
    let recorded =
        events.read_stream(stream, Version::new(from), Direction::Forward, count).await?;
    if recorded.len() == count {
        return Ok(recorded);
    }
    let detail = format!("{} of {count} events from {from} on", recorded.len());
    Err(Error::new(ErrorKind::Corrupt, "read room").detail(detail))
}
