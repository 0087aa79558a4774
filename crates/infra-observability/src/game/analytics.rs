//! Games by the hour, and what they say together.

use std::{collections::VecDeque, time::Duration};

use infra_core::clock::Timestamp;
use serde::Serialize;

use super::actor::Ending;

/// The hours that are kept.
const KEPT_HOURS: u64 = 24;

/// The milliseconds of an hour.
const HOUR_MS: u64 = 3_600_000;

/// What happened within one hour of the clock, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Hour {
    /// The hours since the Unix epoch.
    pub hour: u64,
    /// Games that were started.
    pub started: u64,
    /// Games that were completed.
    pub completed: u64,
    /// Games that were abandoned.
    pub abandoned: u64,
    /// Seats of games that were started.
    pub players: u64,
    /// Actions that were taken.
    pub actions: u64,
}

/// How often one kind of player wins.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct WinRate {
    /// Seats in completed games.
    pub seats: u64,
    /// Games that were won.
    pub wins: u64,
    /// Wins by seats; zero without seats.
    pub rate: f64,
}

impl WinRate {
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    pub(super) fn of(seats: u64, wins: u64) -> Self {
        let rate = if seats == 0 { 0.0 } else { wins as f64 / seats as f64 };
        Self { seats, wins, rate }
    }
}

/// What all games say together.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Analytics {
    /// Games that were started.
    pub started: u64,
    /// Games that are being played.
    pub active: u64,
    /// Games that were completed.
    pub completed: u64,
    /// Games that were abandoned.
    pub abandoned: u64,
    /// Completed games by all that ended; zero before the first.
    pub completion_rate: f64,
    /// The average duration of a completed game in minutes; zero before the first.
    pub average_minutes: f64,
    /// Games that were completed within the last full hour and this one, by the time of these.
    pub games_per_hour: f64,
    /// How often people win.
    pub people: WinRate,
    /// How often bots win.
    pub bots: WinRate,
}

/// The last 24 hours.
#[derive(Debug, Default)]
pub(super) struct Hours(VecDeque<Hour>);

impl Hours {
    fn at(&mut self, now: Timestamp) -> Option<&mut Hour> {
        let hour = now.as_millis() / HOUR_MS;
        if self.0.back().is_none_or(|last| last.hour < hour) {
            self.0.push_back(Hour { hour, ..Hour::default() });
        }
        self.forget(now);
        // A wall clock that was set back goes on in the newest hour.
        self.0.back_mut()
    }

    /// Forgets hours that are over for a day.
    pub(super) fn forget(&mut self, now: Timestamp) {
        let hour = now.as_millis() / HOUR_MS;
        while self.0.front().is_some_and(|first| first.hour + KEPT_HOURS <= hour) {
            self.0.pop_front();
        }
    }

    pub(super) fn start(&mut self, now: Timestamp, players: u64) {
        if let Some(hour) = self.at(now) {
            hour.started += 1;
            hour.players += players;
        }
    }

    pub(super) fn end(&mut self, now: Timestamp, ending: Ending) {
        if let Some(hour) = self.at(now) {
            match ending {
                Ending::Completed => hour.completed += 1,
                Ending::Abandoned => hour.abandoned += 1,
            }
        }
    }

    pub(super) fn act(&mut self, now: Timestamp) {
        if let Some(hour) = self.at(now) {
            hour.actions += 1;
        }
    }

    /// Returns the hours with something in them, of the last `count` with this one, oldest first.
    pub(super) fn last(&self, now: Timestamp, count: u64) -> Vec<Hour> {
        let hour = now.as_millis() / HOUR_MS;
        self.0.iter().filter(|kept| hour < kept.hour + count).copied().collect()
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    pub(super) fn per_hour(&self, now: Timestamp) -> f64 {
        let completed: u64 = self.last(now, 2).iter().map(|hour| hour.completed).sum();
        let part = Duration::from_millis(now.as_millis() % HOUR_MS).as_secs_f64() / 3_600.0;
        completed as f64 / (1.0 + part)
    }
}
