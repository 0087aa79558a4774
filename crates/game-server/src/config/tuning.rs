//! The times and sizes of the server's components.

use std::{num::NonZeroU32, time::Duration};

use super::{error::ConfigError, options::Options, resolve::at_least_one};

/// The smallest segment of the event log, in bytes.
const SMALLEST_SEGMENT: u32 = 4_096;

/// The times and sizes of the server's components.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuning {
    /// How often clients are asked whether they are still there.
    pub heartbeat: Duration,
    /// How long a resume token is good.
    pub token_lifetime: Duration,
    /// How long a room without people stays in memory.
    pub room_linger: Duration,
    /// How long a room that does not play may be without people before it is given up.
    pub room_idle: Duration,
    /// After how many events a room has a snapshot.
    pub snapshot_events: NonZeroU32,
    /// How long one call of a store may take.
    pub store_patience: Duration,
    /// The bytes of a segment of the event log.
    pub event_segment: u64,
    /// The free bytes of the disk below which it is degraded.
    pub disk_low: u64,
}

impl Tuning {
    pub(super) fn of(options: &Options) -> Result<Self, ConfigError> {
        let positive = |option: &'static str, count: Option<u32>, default: u32| {
            at_least_one(option, count.unwrap_or(default))
        };
        let seconds = |count: u32| Duration::from_secs(u64::from(count));
        let event_segment = options.event_segment.unwrap_or(16 << 20);
        if event_segment < SMALLEST_SEGMENT {
            let why = format!("it takes {SMALLEST_SEGMENT} or more");
            return Err(ConfigError::new("event-segment", why));
        }
        let hours = positive("token-hours", options.token_hours, 24)?;
        let patience = positive("store-patience", options.store_patience, 2_000)?;
        let events = positive("snapshot-events", options.snapshot_events, 100)?;
        Ok(Self {
            heartbeat: seconds(positive("heartbeat", options.heartbeat, 15)?),
            token_lifetime: seconds(hours) * 3_600,
            room_linger: seconds(positive("room-linger", options.room_linger, 60)?),
            room_idle: seconds(positive("room-idle", options.room_idle, 600)?),
            snapshot_events: NonZeroU32::new(events).unwrap_or(NonZeroU32::MIN),
            store_patience: Duration::from_millis(u64::from(patience)),
            event_segment: u64::from(event_segment),
            disk_low: u64::from(options.disk_low.unwrap_or(512)) << 20,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_refused_with_its_option() {
        let refused = |change: fn(&mut Options)| {
            let mut options = Options::default();
            change(&mut options);
            Tuning::of(&options).unwrap_err().to_string()
        };
        assert!(refused(|o| o.heartbeat = Some(0)).starts_with("option --heartbeat: it takes 1"));
        assert!(refused(|o| o.room_linger = Some(0)).contains("--room-linger: it takes 1"));
        assert!(refused(|o| o.room_idle = Some(0)).contains("--room-idle: it takes 1"));
        assert!(refused(|o| o.token_hours = Some(0)).contains("--token-hours: it takes 1"));
        assert!(refused(|o| o.store_patience = Some(0)).contains("--store-patience: it takes 1"));
        assert!(refused(|o| o.snapshot_events = Some(0)).contains("--snapshot-events: it takes 1"));
        assert!(refused(|o| o.event_segment = Some(9)).contains("--event-segment: it takes 4096"));
    }
}
