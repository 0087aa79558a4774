//! How long a room may live, by the minutes that stand in the event which created it.

use std::time::Duration;

use infra_core::{Result, clock::Instant};

use super::task::RoomTask;
use crate::domain::Status;

/// When a room's time is up.
#[derive(Debug)]
pub(super) enum Lifetime {
    /// It was not asked yet; a room that this task has seen begin need not be read.
    Unknown { is_new: bool },
    /// Then, or never.
    Known(Option<Instant>),
}

impl RoomTask {
    /// Finds out when the room's time is up, once it exists.
    pub(super) async fn know_lifetime(&mut self) {
        let Lifetime::Unknown { is_new } = self.lifetime else { return };
        if self.room.offset() == 0 {
            return;
        }
        let Some(minutes) = self.room.settings().bounds.minutes else {
            self.lifetime = Lifetime::Known(None);
            return;
        };
        let age = if is_new { Ok(Duration::ZERO) } else { self.age().await };
        match age {
            Ok(age) => {
                let left = Duration::from_secs(u64::from(minutes) * 60).saturating_sub(age);
                self.lifetime = Lifetime::Known(Some(self.tools.clock.now() + left));
            }
            Err(error) => {
                // It is asked again at the next letter or alarm.
                let error = &error as &dyn std::error::Error;
                tracing::warn!(room = %self.code, error, "age of room not found");
            }
        }
    }

    /// Returns how long ago the room was created.
    async fn age(&self) -> Result<Duration> {
        let first = self.read(1, 1).await?;
        let created = first.first().map(|event| event.recorded);
        Ok(created.map_or(Duration::ZERO, |created| self.tools.clock.wall().since(created)))
    }

    /// Returns how much time is left to a room that gathers or plays, if that is bounded.
    pub(super) fn time_left(&self) -> Option<Duration> {
        let Lifetime::Known(Some(end)) = self.lifetime else { return None };
        match self.room.status()? {
            Status::Waiting | Status::Ready | Status::InGame => {
                Some(end.since(self.tools.clock.now()))
            }
            Status::Completed | Status::Abandoned => None,
        }
    }
}
