//! The job `verify`: every frame of an event log is read and checked, and each segment is told.

use std::{fmt, path::PathBuf};

use infra_core::Result;
use infra_events::{LogEventStore, Options, RecoveryReport, SegmentReport};

/// What was found in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict(RecoveryReport);

/// Reads every frame of the log in `folder` and checks it; nothing is changed, and a server may
/// write to it meanwhile.
///
/// # Errors
///
/// What keeps the folder from being read at all; damage is in the verdict.
///
/// # Cancel safety
///
/// Dropping the future has no effect.
pub async fn verify(folder: PathBuf) -> Result<Verdict> {
    LogEventStore::verify(Options::new(folder)).await.map(Verdict)
}

impl Verdict {
    /// Returns whether everything that was acknowledged is there and sound.
    pub fn is_sound(&self) -> bool {
        self.0.lost.is_none() && self.0.details.iter().all(|segment| segment.damage.is_none())
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = &self.0;
        for SegmentReport { name, events, commits, bytes, damage, .. } in &report.details {
            let found =
                damage.as_ref().map_or("sound".to_owned(), |what| format!("DAMAGED, {what}"));
            writeln!(
                f,
                "{name}  {events:>9} events {commits:>9} commits {bytes:>11} bytes  {found}"
            )?;
        }
        if 0 < report.torn_bytes {
            writeln!(f, "an unfinished write of {} bytes at the end", report.torn_bytes)?;
        }
        if report.is_witness_missing {
            writeln!(f, "the witness is missing: a lost tail could not be noticed")?;
        }
        match &report.lost {
            Some(lost) => write!(
                f,
                "DAMAGED at byte {} of {}: {}; {} acknowledged commits or more cannot be read from there",
                lost.offset, lost.segment, lost.why, lost.commits
            ),
            None => write!(f, "sound: {} events in {} commits", report.events, report.commits),
        }
    }
}
