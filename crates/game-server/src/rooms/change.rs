//! How a room changes: what is decided is stored, then it is told.

use std::time::Duration;

use infra_core::{Result, machine::StateMachine};
use infra_persistence::state::Outcome;

use super::{machine::action_of, record::decode_event, task::RoomTask};
use crate::{
    domain::{Command, Event, Refusal, Room},
    observe::stage_of,
    protocol::admin::Stage,
    telemetry::{APPEND, BROADCAST},
};

impl RoomTask {
    /// Decides a command, stores what happens, folds it in and tells the audience.
    ///
    /// An error means that nothing may be assumed of the write; the stream is looked at before the
    /// next command.
    pub(super) async fn carry_out(&mut self, command: Command) -> Result<Result<(), Refusal>> {
        self.catch_up().await?;
        let begun = self.tools.clock.now();
        let action = action_of(&command);
        // In a box, so that a room that does nothing has no place for it.
        let executed = Box::pin(self.durable.execute(&action, command.clone())).await;
        let took = self.tools.clock.now().since(begun);
        let events = match executed {
            Ok(Outcome::Accepted { events, .. }) if events.is_empty() => return Ok(Ok(())),
            Ok(Outcome::Accepted { events, .. }) => events,
            Ok(Outcome::Refused(refusal)) => return Ok(Err(refusal)),
            Err(error) => {
                let error_text = &error as &dyn std::error::Error;
                tracing::warn!(room = %self.code, error = error_text, "not stored");
                self.diary.failed(stage_after(&self.room, command), took, self.room.offset());
                return Err(error);
            }
        };
        APPEND.record(took.as_secs_f64());
        self.broadcast(&events, took);
        self.summarize();
        self.dismiss();
        Ok(Ok(()))
    }

    /// Finds out the fate of a write that failed, and tells what was stored all the same.
    pub(super) async fn catch_up(&mut self) -> Result<()> {
        self.durable.refresh().await?;
        let (told, stored) = (self.room.offset(), self.durable.version().get());
        if told < stored {
            let missed = self.read(told + 1, stored).await?;
            let events = missed.iter().map(decode_event).collect::<Result<Vec<_>>>()?;
            self.broadcast(&events, Duration::ZERO);
            self.summarize();
            self.dismiss();
        }
        Ok(())
    }

    /// Folds stored events in, tells the audience, then whoever watches the server.
    fn broadcast(&mut self, events: &[Event], took: Duration) {
        let from = stage_of(&self.room).map(Stage::name);
        let span = tracing::info_span!(
            "room.broadcast",
            events = events.len(),
            state.from = from,
            state.to = tracing::field::Empty
        );
        let _within = span.enter();
        let mut telling = Duration::ZERO;
        for event in events {
            let begun = self.tools.clock.now();
            self.room.evolve(event);
            self.audience.event(&self.room, self.room.offset(), event);
            telling += self.tools.clock.now().since(begun);
            self.diary.wrote(&self.room, event, took);
        }
        span.record("state.to", stage_of(&self.room).map(Stage::name));
        BROADCAST.record(telling.as_secs_f64());
    }
}

/// Returns the state that a room would be in after a command that could not be stored.
fn stage_after(room: &Room, command: Command) -> Option<Stage> {
    let mut room = room.clone();
    for event in room.decide(command).ok()? {
        room.evolve(&event);
    }
    stage_of(&room)
}
