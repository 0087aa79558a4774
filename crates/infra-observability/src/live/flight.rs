//! The flight recorder: the last things that happened in each room, kept for when it goes wrong.

use std::{
    borrow::Cow,
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::Arc,
};

use infra_core::{Clock, clock::Timestamp};
use parking_lot::Mutex;
use serde::Serialize;

/// The dumps that are kept.
const KEPT_DUMPS: usize = 32;

/// The longest text of a record in characters.
const MAX_TEXT: usize = 256;

/// Something that happened in a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Record {
    /// When, in milliseconds since the Unix epoch.
    pub at: Timestamp,
    /// The version of the room's state after it.
    pub version: u64,
    /// What it was, without anything secret.
    pub what: Cow<'static, str>,
}

/// What was recorded of a room when something went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dump {
    /// The room.
    pub room: String,
    /// Why it was taken.
    pub why: String,
    /// When.
    pub at: Timestamp,
    /// The records, oldest first.
    pub records: Vec<Record>,
}

#[derive(Debug, Default)]
struct Tapes {
    rooms: BTreeMap<String, (u64, VecDeque<Record>)>,
    /// The rooms by when they were last written, so that the idlest goes first.
    order: BTreeMap<u64, String>,
    turn: u64,
    dumps: VecDeque<Dump>,
}

impl Tapes {
    /// Writes to the tape of a room; at most so many rooms, and records of each, are kept.
    fn write(&mut self, room: &str, record: Record, (n_rooms, n_records): (usize, usize)) {
        self.turn += 1;
        if !self.rooms.contains_key(room) {
            self.rooms.insert(room.to_owned(), Default::default());
        }
        let Some((last, tape)) = self.rooms.get_mut(room) else { return };
        tape.push_back(record);
        if n_records < tape.len() {
            tape.pop_front();
        }
        let before = std::mem::replace(last, self.turn);
        let name = self.order.remove(&before).unwrap_or_else(|| room.to_owned());
        self.order.insert(self.turn, name);
        while n_rooms < self.rooms.len() {
            let Some((_, idlest)) = self.order.pop_first() else { break };
            self.rooms.remove(&idlest);
        }
    }
}

fn cut(what: Cow<'static, str>) -> Cow<'static, str> {
    match what.char_indices().nth(MAX_TEXT) {
        Some((end, _)) => what.get(..end).unwrap_or_default().to_owned().into(),
        None => what,
    }
}

/// Records the last things of each room, in bounded memory. Cheap to clone.
///
/// When more rooms are recorded than may be, the one that was idle longest is forgotten.
#[derive(Clone)]
pub struct FlightRecorder {
    rooms: usize,
    records: usize,
    clock: Arc<dyn Clock>,
    tapes: Arc<Mutex<Tapes>>,
}

impl FlightRecorder {
    /// Creates a recorder of the last `records` things of up to `rooms` rooms.
    pub fn new(rooms: usize, records: usize, clock: Arc<dyn Clock>) -> Self {
        Self { rooms, records, clock, tapes: Arc::default() }
    }

    /// Records what happened in a room; the text is cut at 256 characters.
    pub fn record(&self, room: &str, version: u64, what: impl Into<Cow<'static, str>>) {
        let record = Record { at: self.clock.wall(), version, what: cut(what.into()) };
        self.tapes.lock().write(room, record, (self.rooms, self.records));
    }

    /// Returns what is recorded of a room, oldest first.
    pub fn tape(&self, room: &str) -> Vec<Record> {
        let tapes = self.tapes.lock();
        tapes.rooms.get(room).map(|(_, tape)| tape.iter().cloned().collect()).unwrap_or_default()
    }

    /// Keeps what is recorded of a room, because something went wrong: the last 32 such dumps stay.
    pub fn dump(&self, room: &str, why: &str) -> Dump {
        let dump = Dump {
            room: room.to_owned(),
            why: why.to_owned(),
            at: self.clock.wall(),
            records: self.tape(room),
        };
        tracing::warn!(room, why, records = dump.records.len(), "flight recorder dumped");
        let mut tapes = self.tapes.lock();
        tapes.dumps.push_front(dump.clone());
        tapes.dumps.truncate(KEPT_DUMPS);
        dump
    }

    /// Returns the last dumps, newest first.
    pub fn dumps(&self) -> Vec<Dump> {
        self.tapes.lock().dumps.iter().cloned().collect()
    }

    /// Returns a guard that dumps the room if the task that holds it panics.
    pub fn guard(&self, room: &str) -> impl Drop + use<> {
        Guard { recorder: self.clone(), room: room.to_owned() }
    }

    /// Forgets a room.
    pub fn forget(&self, room: &str) {
        let mut tapes = self.tapes.lock();
        if let Some((turn, _)) = tapes.rooms.remove(room) {
            tapes.order.remove(&turn);
        }
    }
}

struct Guard {
    recorder: FlightRecorder,
    room: String,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.recorder.dump(&self.room, "panic");
        }
    }
}

impl fmt::Debug for FlightRecorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rooms = self.tapes.lock().rooms.len();
        f.debug_struct("FlightRecorder").field("rooms", &rooms).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use infra_testkit::clock::ManualClock;

    use super::*;

    fn recorder() -> FlightRecorder {
        FlightRecorder::new(2, 3, Arc::new(ManualClock::new()))
    }

    #[test]
    fn a_room_keeps_its_last_records_and_the_idlest_room_is_forgotten() {
        let recorder = recorder();
        (1..=5).for_each(|version| recorder.record("a", version, "move"));
        let versions: Vec<u64> = recorder.tape("a").iter().map(|record| record.version).collect();
        assert_eq!(versions, [3, 4, 5]);
        recorder.record("b", 1, "move");
        recorder.record("a", 6, "move");
        recorder.record("c", 1, "x".repeat(1_000));
        assert!(recorder.tape("b").is_empty());
        assert_eq!(recorder.tape("c")[0].what.len(), 256);
        recorder.forget("a");
        assert!(recorder.tape("a").is_empty());
        assert_eq!(format!("{recorder:?}"), "FlightRecorder { rooms: 1, .. }");
    }

    #[test]
    fn a_panic_dumps_its_room_and_dumps_are_bounded() {
        let recorder = recorder();
        recorder.record("a", 1, "move");
        let guarded = recorder.clone();
        let task = std::thread::spawn(move || {
            let _guard = guarded.guard("a");
            panic!("as planned");
        });
        assert!(task.join().is_err());
        drop(recorder.guard("a"));
        let dumps = recorder.dumps();
        assert_eq!((dumps.len(), dumps[0].why.as_str(), dumps[0].records.len()), (1, "panic", 1));
        (0..40).for_each(|_| drop(recorder.dump("a", "alert")));
        assert_eq!(recorder.dumps().len(), 32);
    }
}
