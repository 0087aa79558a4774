//! The admin listener's answers: what the dashboard reads.
//!
//! | request | answer |
//! |---|---|
//! | `GET /api/overview` | [`Overview`] |
//! | `GET /api/rooms` | [`Rooms`]: the most recently active first, at most [`LISTED`] |
//! | `GET /api/rooms/{code}` | [`Room`]; 404 with a [`Problem`](super::Problem) if there is none |
//! | `GET /api/rooms/{code}/at/{offset}` | [`Moment`]; 404 with a [`Problem`](super::Problem) if there is no such event |
//! | `GET /api/leaderboard?by=wins&over=all` | [`Leaderboard`], also for players: by `wins`, `score` or `win_rate`, over `day`, `week`, `month` or `all`, at most [`LEADERS`] |
//! | `GET /api/events` | a stream of server-sent events, see [`Live`]; `?room=`, `?kind=a,b` and `?after=N` choose |
//! | `GET /api/observed` | health with ages, games, all rooms on their machine, queues, limits, breakers, the archive, alerts, flight records |
//! | `GET /api/diagram?as=mermaid` | that machine as text, also `as=dot` |
//! | `GET /api/flights/{code}` | the last things that happened in a room |
//! | `GET` and `POST /api/log` | what is logged, and a change of it |
//! | `GET /api/forget?name=NAME` | which players are or were called so: `{"players": [{"player", "room", "name", "at_ms"}]}` |
//! | `POST /api/forget` | `{"player": ID}` forgets a player; how much was removed |
//!
//! All answers are JSON, never cached. Where a token is required, each request carries it as
//! `Authorization: Bearer TOKEN`; without it the answer is 401 with a [`Problem`](super::Problem). The pages of the
//! dashboard themselves are served without it: they hold no data. Hands are never in an answer:
//! an operator sees what a spectator sees.

use serde::{Deserialize, Serialize};

use super::{position::Epoch, room_code::RoomCode};
use crate::domain::{Phase, RoomView, Status, Viewed};

/// The most rooms in one answer.
pub const LISTED: usize = 500;

/// The most recent events of a room in one answer.
pub const RECENT_EVENTS: usize = 50;

/// How many seconds of each rate are told.
pub const RATE_SECONDS: usize = 60;

/// The state of the whole server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overview {
    /// The server's name and version.
    pub server: String,
    /// The server's time, in milliseconds since 1970.
    pub now_ms: u64,
    /// For how long the server has run, in milliseconds.
    pub uptime_ms: u64,
    /// Whether it takes new players.
    pub ready: bool,
    /// How many rooms there are.
    pub rooms: RoomCounts,
    /// How many players there are.
    pub players: PlayerCounts,
    /// The connections.
    pub connections: ConnectionCounts,
    /// What happens how often.
    pub rates: Vec<Rate>,
    /// How long things take.
    pub histograms: Vec<Histogram>,
}

/// How many rooms are in each state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoomCounts {
    /// With a free seat.
    pub waiting: u32,
    /// Full, not started.
    pub ready: u32,
    /// Playing.
    pub in_game: u32,
    /// Played to the end.
    pub completed: u32,
    /// Given up, and still in memory.
    pub abandoned: u32,
}

/// How many players there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlayerCounts {
    /// People with a seat.
    pub people: u32,
    /// Those of them who are connected.
    pub connected: u32,
    /// Bots with a seat.
    pub bots: u32,
    /// Spectators.
    pub spectators: u32,
}

/// The connections of the public listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectionCounts {
    /// Open now.
    pub open: u32,
    /// Accepted since the start.
    pub accepted: u64,
    /// Refused since the start: foreign origins, limits, bad handshakes.
    pub refused: u64,
    /// Resumed since the start.
    pub resumed: u64,
}

/// How often something happened in each of the last seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// What, in a word or two: `events`, `actions`, `frames sent`.
    pub name: String,
    /// How often since the start.
    pub total: u64,
    /// How often in each of the last [`RATE_SECONDS`] whole seconds, the oldest first.
    pub per_second: Vec<u32>,
}

/// How long something took, since the start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Histogram {
    /// What was measured, in a few words.
    pub name: String,
    /// How many observations there are.
    pub count: u64,
    /// The buckets, by ascending bound.
    pub buckets: Vec<Bucket>,
    /// The quantiles, estimated from the buckets; none without an observation.
    pub quantiles: Option<Quantiles>,
}

/// The observations between the bound before and this one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bucket {
    /// The greatest observation in it, in milliseconds; none in the last bucket.
    pub at_most_ms: Option<f64>,
    /// How many observations are in it and in no earlier one.
    pub count: u64,
}

/// Quantiles in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quantiles {
    /// The median.
    pub p50_ms: f64,
    /// 95 of 100 are at most this.
    pub p95_ms: f64,
    /// 99 of 100 are at most this.
    pub p99_ms: f64,
}

/// The rooms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rooms {
    /// The rooms, at most [`LISTED`].
    pub rooms: Vec<RoomRow>,
    /// How many there are in all.
    pub total: u32,
}

/// A room in a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoomRow {
    /// The room.
    pub room: RoomCode,
    /// What it is doing.
    pub status: Status,
    /// The phase of its game.
    pub phase: Option<Phase>,
    /// The round, from 1; 0 before the game.
    pub round: u8,
    /// How many people sit at it.
    pub people: u8,
    /// How many of them are connected.
    pub connected: u8,
    /// How many bots sit at it.
    pub bots: u8,
    /// How many spectators watch.
    pub spectators: u32,
    /// How many events it has.
    pub offset: u64,
    /// How long ago the last event was, in milliseconds.
    pub idle_ms: u64,
}

/// The most people in one leaderboard.
pub const LEADERS: usize = 20;

/// What a leaderboard is ordered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leading {
    /// Games won, then the win rate.
    #[default]
    Wins,
    /// The sum of all scores.
    Score,
    /// The win rate, then games won; only who has played ten games.
    WinRate,
}

/// Which games count in a leaderboard, by when they ended; days, weeks from Monday and months of UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Over {
    /// Those of today.
    Day,
    /// Those of this week.
    Week,
    /// Those of this month.
    Month,
    /// All of them.
    #[default]
    All,
}

/// Which leaderboard is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// What it is ordered by; by wins if nothing is said.
    #[serde(default)]
    pub by: Leading,
    /// Which games count; all if nothing is said.
    #[serde(default)]
    pub over: Over,
}

/// The people who have played best.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leaderboard {
    /// What it is ordered by.
    pub by: Leading,
    /// Which games count.
    pub over: Over,
    /// The first of them, at most [`LEADERS`].
    pub rows: Vec<Leader>,
    /// How many people have ever finished a game.
    pub total: u64,
}

/// A person in a line. A name is what the person called itself last; two may have the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leader {
    /// The last name.
    pub name: String,
    /// Games played to the end.
    pub played: u64,
    /// Games won, alone or with others.
    pub won: u64,
    /// The share of games won, in millionths.
    pub win_rate: u64,
    /// The sum of all scores.
    pub total_score: i64,
    /// The highest score.
    pub highest_score: i64,
    /// The most games won in a row.
    pub best_streak: u64,
}

/// A room in full, as a spectator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Room {
    /// The room.
    pub room: RoomCode,
    /// The epoch of its events.
    pub epoch: Epoch,
    /// Its state.
    pub state: RoomView,
    /// Its state machine.
    pub diagram: Diagram,
    /// Its last events, the oldest first, at most [`RECENT_EVENTS`].
    pub recent: Vec<LiveEvent>,
}

/// A room as it was right after one of its events, as a spectator saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moment {
    /// The room.
    pub room: RoomCode,
    /// How many events the room has by now.
    pub last: u64,
    /// The state after the event.
    pub state: RoomView,
    /// The state machine, in that state.
    pub diagram: Diagram,
    /// The event.
    pub event: LiveEvent,
    /// The snapshot that the way back began with; none if it began with the first event.
    pub snapshot: Option<u64>,
    /// How many events were replayed after it.
    pub replayed: u64,
}

/// A state machine and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Diagram {
    /// The states.
    pub states: Vec<Stage>,
    /// The ways between them.
    pub transitions: Vec<Transition>,
    /// The state that it is in.
    pub current: Stage,
}

/// A state of a room, the phase of its game included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// A seat is free.
    Waiting,
    /// All seats are taken.
    Ready,
    /// Weak hands are asked.
    Preparation,
    /// The seats declare.
    Declaration,
    /// The seats play.
    Turn,
    /// The scores are shown.
    Scoring,
    /// The game has ended.
    Completed,
    /// The room was given up.
    Abandoned,
}

impl Stage {
    /// Every state.
    pub const ALL: [Self; 8] = [
        Self::Waiting,
        Self::Ready,
        Self::Preparation,
        Self::Declaration,
        Self::Turn,
        Self::Scoring,
        Self::Completed,
        Self::Abandoned,
    ];

    /// Returns the state's name, as in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Ready => "ready",
            Self::Preparation => "preparation",
            Self::Declaration => "declaration",
            Self::Turn => "turn",
            Self::Scoring => "scoring",
            Self::Completed => "completed",
            Self::Abandoned => "abandoned",
        }
    }
}

/// A way from one state to another.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transition {
    /// From here.
    pub from: Stage,
    /// To there.
    pub to: Stage,
    /// The events that take it.
    pub events: Vec<String>,
}

/// One message of the live stream: `event:` is the variant's name, `data:` its JSON.
///
/// The stream begins with what happens after the request, or after the event that `after` or the
/// header `Last-Event-ID` numbers, as far back as the history goes. A reader that is too slow misses
/// events and is told how many. `event: notice` is what belongs to no room, such as an alert that is
/// raised or over. A comment line keeps a quiet stream alive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Live {
    /// `event: room`: something happened in a room.
    Room(LiveEvent),
    /// `event: gap`: this many events were not sent.
    Gap {
        /// How many.
        missed: u64,
    },
}

impl Live {
    /// Returns the value of the `event:` line.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Room(_) => "room",
            Self::Gap { .. } => "gap",
        }
    }
}

/// Something that happened in a room, as a spectator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LiveEvent {
    /// The room.
    pub room: RoomCode,
    /// The event's offset.
    pub offset: u64,
    /// When it was stored, in milliseconds since 1970.
    pub at_ms: u64,
    /// What happened.
    pub event: Viewed,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Seat;

    #[test]
    fn a_live_message_names_its_kind_and_reads_back() {
        let event = LiveEvent {
            room: RoomCode::from_number(1),
            offset: 12,
            at_ms: 1_795_000_000_000,
            event: Viewed::HostChanged { seat: Seat::First },
        };
        for (live, name) in [(Live::Room(event), "room"), (Live::Gap { missed: 3 }, "gap")] {
            assert_eq!(live.name(), name);
            let json = serde_json::to_string(&live).unwrap();
            assert_eq!(serde_json::from_str::<Live>(&json).unwrap(), live);
        }
    }

    #[test]
    fn the_last_bucket_of_a_histogram_has_no_bound() {
        let bucket: Bucket = serde_json::from_str(r#"{"at_most_ms":null,"count":2}"#).unwrap();
        assert_eq!(bucket, Bucket { at_most_ms: None, count: 2 });
    }
}
