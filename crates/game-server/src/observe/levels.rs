//! The levels of the log, as an operator sees and changes them.

use std::time::Duration;

use infra_core::{Clock, Error, Result};
use infra_observability::log::Levels;
use serde::{Deserialize, Serialize};
use tracing::Level;

use crate::protocol::RoomCode;

/// The longest that a level stays raised, in seconds.
const LONGEST: u32 = 24 * 3_600;

/// What an operator asks for.
#[derive(Debug, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub(crate) enum Change {
    /// What is logged when nothing is raised, as in `info,infra_ws=debug`.
    Base { base: String },
    /// A target, such as `infra_ws`, for some seconds.
    Target { target: String, level: String, seconds: u32 },
    /// Whatever happens in one room, for some seconds.
    Room { room: RoomCode, level: String, seconds: u32 },
}

impl Change {
    pub(crate) fn apply(&self, levels: &Levels) -> Result<()> {
        match self {
            Self::Base { base } => levels.set_base(base),
            Self::Target { target, level, seconds } => {
                levels.raise(target, level_of(level)?, lasting(*seconds))
            }
            Self::Room { room, level, seconds } => {
                levels.raise_within("room", &room.to_string(), level_of(level)?, lasting(*seconds))
            }
        }
    }
}

fn level_of(text: &str) -> Result<Level> {
    let unknown = |cause| Error::invalid("read log level", text.to_owned()).because(cause);
    text.parse().map_err(unknown)
}

fn lasting(seconds: u32) -> Duration {
    Duration::from_secs(u64::from(seconds.min(LONGEST)))
}

/// What is logged now.
#[derive(Debug, Serialize)]
pub(crate) struct Shown {
    base: String,
    raised: Vec<ShownRaised>,
}

#[derive(Debug, Serialize)]
struct ShownRaised {
    directive: String,
    seconds_left: u64,
}

impl Shown {
    pub(crate) fn of(levels: &Levels, clock: &dyn Clock) -> Self {
        let now = clock.now();
        let raised = levels.raised().into_iter().map(|raised| ShownRaised {
            directive: raised.directive,
            seconds_left: raised.until.since(now).as_secs(),
        });
        Self { base: levels.base(), raised: raised.collect() }
    }
}
