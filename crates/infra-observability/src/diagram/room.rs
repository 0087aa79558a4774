//! The rooms on one board: where each is and how well it is.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::Arc,
    time::Duration,
};

use infra_core::{Clock, clock::Instant};
use parking_lot::Mutex;
use serde::Serialize;

/// Errors count for so long.
const ERROR_WINDOW: Duration = Duration::from_mins(5);

/// A room without activity for longer is idle.
const IDLE: Duration = Duration::from_mins(5);

/// Errors that are remembered of one room: enough to tell the worst level.
const KEPT_ERRORS: usize = 32;

/// How well a room is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// It is well.
    Healthy,
    /// More than 5 errors within 5 minutes.
    Warning,
    /// More than 10 errors within 5 minutes.
    Critical,
    /// Nothing happened for more than 300 s.
    Idle,
}

impl Health {
    fn judge(errors: usize, idle: Duration) -> Self {
        match errors {
            11.. => Self::Critical,
            6.. => Self::Warning,
            _ if IDLE < idle => Self::Idle,
            _ => Self::Healthy,
        }
    }
}

/// A room as the board shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RoomRow {
    /// Its code.
    pub room: String,
    /// The game that is played.
    pub game: String,
    /// The state it is in.
    pub state: &'static str,
    /// Its players.
    pub players: u32,
    /// How well it is.
    pub health: Health,
    /// Errors within the last 5 minutes.
    pub errors: usize,
    /// How long nothing happened.
    pub idle: Duration,
}

#[derive(Debug, Default)]
struct Room {
    game: String,
    state: &'static str,
    players: u32,
    active: Instant,
    errors: VecDeque<Instant>,
}

/// The board. Cheap to clone; a room that was idle for `forget_after` leaves it.
#[derive(Clone)]
pub struct RoomBoard {
    rooms: usize,
    forget_after: Duration,
    clock: Arc<dyn Clock>,
    board: Arc<Mutex<BTreeMap<String, Room>>>,
}

impl RoomBoard {
    /// Creates a board of at most `rooms` rooms; when it is full the idlest leaves.
    pub fn new(rooms: usize, forget_after: Duration, clock: Arc<dyn Clock>) -> Self {
        Self { rooms, forget_after, clock, board: Arc::default() }
    }

    /// Says where a room is now.
    pub fn update(&self, room: &str, game: &str, state: &'static str, players: u32) {
        let now = self.clock.now();
        let mut board = self.board.lock();
        if self.rooms <= board.len() && !board.contains_key(room) {
            let idlest = board.iter().min_by_key(|(_, room)| room.active);
            if let Some(idlest) = idlest.map(|(name, _)| name.clone()) {
                board.remove(&idlest);
            }
        }
        let entry = board.entry(room.to_owned()).or_default();
        game.clone_into(&mut entry.game);
        entry.state = state;
        entry.players = players;
        entry.active = now;
    }

    /// Says that a room of the board is in another state now.
    pub fn moved(&self, room: &str, state: &'static str) {
        let now = self.clock.now();
        if let Some(room) = self.board.lock().get_mut(room) {
            room.state = state;
            room.active = now;
        }
    }

    /// Counts an error of a room.
    pub fn error(&self, room: &str) {
        let now = self.clock.now();
        if let Some(room) = self.board.lock().get_mut(room) {
            room.errors.push_back(now);
            if KEPT_ERRORS < room.errors.len() {
                room.errors.pop_front();
            }
        }
    }

    /// Takes a room from the board.
    pub fn remove(&self, room: &str) {
        self.board.lock().remove(room);
    }

    /// Forgets the rooms that were idle for too long.
    pub fn sweep(&self) {
        let now = self.clock.now();
        self.board.lock().retain(|_, room| now.since(room.active) <= self.forget_after);
    }

    /// Returns every room.
    pub fn rows(&self) -> Vec<RoomRow> {
        let now = self.clock.now();
        let board = self.board.lock();
        let row = |(name, room): (&String, &Room)| {
            let errors = room.errors.iter().filter(|at| now.since(**at) <= ERROR_WINDOW).count();
            let idle = now.since(room.active);
            RoomRow {
                room: name.clone(),
                game: room.game.clone(),
                state: room.state,
                players: room.players,
                health: Health::judge(errors, idle),
                errors,
                idle,
            }
        };
        board.iter().map(row).collect()
    }
}

impl fmt::Debug for RoomBoard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rooms = self.board.lock().len();
        f.debug_struct("RoomBoard").field("rooms", &rooms).finish_non_exhaustive()
    }
}
