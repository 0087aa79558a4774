//! Holds what is stored against what players were told.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use infra_core::{
    event::{Direction, EventStore},
    id::StreamName,
    version::Version,
};
use infra_events::{LogEventStore, Mode, Options};
use serde_json::Value;

use super::told::Told;
use crate::player::{Failure, number};

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    /// Acknowledged actions.
    pub(crate) acks: usize,
    /// Those that are not stored at the offset that was told, and events that were seen and are gone.
    pub(crate) lost: usize,
    /// Actions that are stored more than once.
    pub(crate) doubled: usize,
    /// The first of them in words.
    pub(crate) notes: Vec<String>,
}

/// Opens the events of a server that has ended.
pub(crate) async fn open(
    postgres: Option<String>,
    data: &Path,
) -> Result<Arc<dyn EventStore>, Failure> {
    #[cfg(feature = "postgres")]
    if let Some(url) = postgres {
        let options = infra_events::PostgresOptions::new(url);
        return Ok(Arc::new(infra_events::PostgresEventStore::open(options).await?));
    }
    #[cfg(not(feature = "postgres"))]
    if postgres.is_some() {
        return Err("built without PostgreSQL".into());
    }
    let options = Options::new(data.join("events")).mode(Mode::ReadOnly);
    let (log, report) = LogEventStore::open(options).await?;
    match report.lost {
        Some(lost) => Err(format!("the log lost something: {lost:?}").into()),
        None => Ok(Arc::new(log)),
    }
}

/// Holds the events of all rooms against what their players were told.
pub(crate) async fn audit(events: &dyn EventStore, told: &[Told]) -> Result<Audit, Failure> {
    let mut rooms: BTreeMap<&str, Vec<&Told>> = BTreeMap::new();
    for told in told {
        rooms.entry(&told.room).or_default().push(told);
    }
    let mut audit = Audit::default();
    for (room, told) in rooms {
        let stream = StreamName::new(format!("room-{room}"))?;
        let from = Version::new(1);
        let stored = events.read_stream(&stream, from, Direction::Forward, usize::MAX).await?;
        let mut offsets: BTreeMap<(u64, u64), Vec<u64>> = BTreeMap::new();
        for recorded in &stored {
            let event: Value = recorded.event.payload.decode()?;
            if let Some(cause) = event.get("cause").filter(|cause| !cause.is_null()) {
                let action = (number(cause, "seat"), number(cause, "action"));
                offsets.entry(action).or_default().push(recorded.version.get());
            }
        }
        let last = stored.last().map_or(0, |recorded| recorded.version.get());
        audit.room(room, &told, &offsets, last);
    }
    Ok(audit)
}

impl Audit {
    fn room(
        &mut self,
        room: &str,
        told: &[&Told],
        offsets: &BTreeMap<(u64, u64), Vec<u64>>,
        last: u64,
    ) {
        for ((seat, action), found) in offsets {
            if 1 < found.len() {
                self.doubled += 1;
                self.notes.push(format!("room {room} seat {seat} action {action} at {found:?}"));
            }
        }
        for told in told {
            self.acks += told.acks.len();
            if last < told.seen {
                self.lost += 1;
                self.notes.push(format!("room {room}: event {} was seen of {last}", told.seen));
            }
            for (action, offset) in &told.acks {
                let found = offsets.get(&(told.seat, *action));
                if !found.is_some_and(|found| found.contains(offset)) {
                    self.lost += 1;
                    let what = format!("acknowledged at {offset}, stored at {found:?}");
                    self.notes.push(format!("room {room} action {action}: {what}"));
                }
            }
        }
    }
}

/// Returns the finished games that are not archived exactly once; `names` is the whole archive.
pub(crate) fn unarchived(told: &[Told], names: &[String]) -> Vec<String> {
    let finished = told.iter().filter(|told| told.is_over).map(|told| told.room.clone());
    let mut wrong: Vec<String> = finished
        .filter(|room| {
            let prefix = format!("games/{room}-");
            names.iter().filter(|name| name.starts_with(&prefix)).count() != 1
        })
        .collect();
    wrong.dedup();
    wrong
}
