//! The room's alarm clock.

use std::time::Duration;

use super::task::{RoomTask, Tools};
use crate::domain::{Due, Status};

/// What the room's clock waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Alarm {
    /// Something of the game.
    Due(Due),
    /// The end of the time that the room may take.
    TimeUp,
    /// Nothing: the room may go from memory.
    Rest { is_open: bool },
}

/// The room's alarm clock; it keeps its time as long as what it waits for is the same.
#[derive(Debug, Default)]
pub(super) struct Timer {
    set: Option<(Alarm, tokio::time::Instant)>,
    pause: Option<Duration>,
}

impl Timer {
    /// Sets the clock by the room, and returns the wait.
    pub(super) fn set(&mut self, task: &RoomTask) -> impl Future<Output = ()> + use<> {
        let is_open = matches!(task.room.status(), Some(Status::Waiting | Status::Ready));
        let alarm = match task.room.due() {
            Some(due) => Some(Alarm::Due(due)),
            None => task.audience.is_empty().then_some(Alarm::Rest { is_open }),
        };
        let pause = self.pause.take();
        // A sleep that is made now tells when it ends, in tokio's time.
        let now = tokio::time::sleep(Duration::ZERO).deadline();
        self.set = alarm.map(|alarm| match self.set {
            Some((same, at)) if same == alarm && pause.is_none() => (alarm, at),
            _ => (alarm, now + pause.unwrap_or_else(|| wait_of(alarm, &task.tools))),
        });
        if let Some(left) = task.time_left() {
            let end = now + left.max(pause.unwrap_or_default());
            if self.set.is_none_or(|(_, at)| end <= at) {
                self.set = Some((Alarm::TimeUp, end));
            }
        }
        let at = self.set.map(|(_, at)| at);
        async move {
            match at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        }
    }

    /// Takes what has become due.
    pub(super) fn take(&mut self) -> Option<Alarm> {
        self.set.take().map(|(alarm, _)| alarm)
    }

    /// Waits at least this long before the next alarm.
    pub(super) const fn pause(&mut self, pause: Duration) {
        self.pause = Some(pause);
    }
}

fn wait_of(alarm: Alarm, tools: &Tools) -> Duration {
    match alarm {
        Alarm::Due(due) => {
            let (earliest, latest) = (due.earliest.duration(), due.latest.duration());
            earliest + latest.saturating_sub(earliest).mul_f64(tools.random.unit())
        }
        Alarm::TimeUp => Duration::ZERO,
        Alarm::Rest { is_open: true } => tools.idle,
        Alarm::Rest { is_open: false } => tools.linger,
    }
}
