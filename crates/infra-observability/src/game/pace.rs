//! The pace of play over the last five minutes: turns, and whether bots answer as people would.

use std::{sync::Arc, time::Duration};

use infra_core::Clock;

use crate::window::{Figures, Window};

/// The last while.
const WINDOW: Duration = Duration::from_mins(5);

/// A bot that answers faster looks like a machine.
const BOT_LEAST: Duration = Duration::from_millis(500);

/// A bot that answers slower bores.
const BOT_MOST: Duration = Duration::from_millis(1_500);

/// How fast turns go and bots answer.
#[derive(Debug)]
pub struct Pace {
    turns: Window,
    bots: Window,
}

impl Pace {
    /// Creates the pace of nothing yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            turns: Window::new(WINDOW, Arc::clone(&clock)),
            bots: Window::new(WINDOW, clock).target(BOT_LEAST, BOT_MOST),
        }
    }

    /// Counts a turn.
    pub fn turn(&self, took: Duration) {
        self.turns.record(took, false);
    }

    /// Counts an answer of a bot.
    pub fn bot(&self, took: Duration) {
        self.bots.record(took, false);
    }

    /// Returns the turns of the last five minutes.
    pub fn turns(&self) -> Figures {
        self.turns.figures()
    }

    /// Returns the answers of bots; within the target are 500 to 1,500 ms, both included.
    pub fn bots(&self) -> Figures {
        self.bots.figures()
    }
}
