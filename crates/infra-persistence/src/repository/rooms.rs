//! The repository of rooms: found by id, by join code, by player, and by last activity.

use std::sync::Arc;

use bytes::Bytes;
use infra_core::{
    Error, ErrorKind, Result,
    clock::Timestamp,
    id::IndexName,
    store::{DocumentStore, Query, Term, ordered},
    version::{Expected, Version},
};
use serde::{Deserialize, Serialize};

use super::{
    entity::{Entity, Standing, Stored},
    limits::{Limits, Usage},
    typed::{Repository, all},
};

/// What a room is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoomStatus {
    /// It waits for players.
    Open,
    /// A game is played.
    Playing,
    /// It is over.
    Finished,
}

/// A room as it is found in lists; what happens in it is its event stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomRecord {
    /// Its id.
    pub id: String,
    /// The code that players join with; no two rooms have the same.
    pub code: String,
    /// What it is doing.
    pub status: RoomStatus,
    /// The ids of its players.
    pub players: Vec<String>,
    /// When something happened in it.
    pub active: Timestamp,
}

impl Entity for RoomRecord {
    const COLLECTION: &'static str = "rooms";
    const SCHEMA: u32 = 1;

    fn key(&self) -> Bytes {
        Bytes::copy_from_slice(self.id.as_bytes())
    }

    fn terms(&self) -> Result<Vec<Term>> {
        let mut terms = vec![Term::unique(IndexName::new(CODE)?, self.code.clone())];
        let mut players = self.players.clone();
        players.sort_unstable();
        players.dedup();
        for player in players {
            terms.push(Term::new(IndexName::new(PLAYER)?, player));
        }
        if self.status != RoomStatus::Finished {
            terms.push(Term::new(IndexName::new(ACTIVE)?, by_time(self.active)));
        }
        Ok(terms)
    }

    /// A room in which a game is played stays in memory.
    fn standing(&self) -> Standing {
        match self.status {
            RoomStatus::Open => Standing::Idle,
            RoomStatus::Playing => Standing::Active,
            RoomStatus::Finished => Standing::Completed,
        }
    }
}

const CODE: &str = "code";
const PLAYER: &str = "player";
const ACTIVE: &str = "active";

fn by_time(time: Timestamp) -> Bytes {
    ordered(i64::try_from(time.as_millis()).unwrap_or(i64::MAX))
}

/// The repository of rooms. Cheap to clone.
///
/// ```
/// use infra_core::{SystemClock, clock::Timestamp, version::Expected};
/// use infra_persistence::{RoomRecord, RoomStatus, Rooms};
/// # use std::sync::Arc;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let documents = Arc::new(infra_persistence::memory(SystemClock::shared())?);
/// let rooms = Rooms::new(documents, 10_000)?;
/// let (status, active) = (RoomStatus::Open, Timestamp::from_millis(5));
/// let (id, code, players) = ("room-1".to_owned(), "ABC123".to_owned(), vec!["ann".to_owned()]);
/// rooms.save(RoomRecord { id, code, status, players, active }, Expected::Absent).await?;
/// let found = rooms.by_code("ABC123").await?.expect("it was just saved");
/// assert_eq!(found.entity.id, "room-1");
/// # Ok::<(), infra_core::Error>(()) }).unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct Rooms(Repository<RoomRecord>, IndexName);

impl Rooms {
    /// Creates the repository in the collection `rooms`; at most `in_memory` rooms are kept in
    /// memory.
    ///
    /// # Errors
    ///
    /// Never: the collection's name is a good one.
    pub fn new(documents: Arc<dyn DocumentStore>, in_memory: usize) -> Result<Self> {
        Self::with_limits(documents, Limits::entries(in_memory))
    }

    /// Creates the repository with limits of its memory.
    ///
    /// # Errors
    ///
    /// As for [`Rooms::new`].
    pub fn with_limits(documents: Arc<dyn DocumentStore>, limits: Limits) -> Result<Self> {
        Ok(Self(Repository::with_limits(documents, limits)?, IndexName::new(CODE)?))
    }

    /// Saves a room if what is stored is as expected.
    ///
    /// # Errors
    ///
    /// [`Conflict`](ErrorKind::Conflict) if it is not, or if its code belongs to another room.
    ///
    /// # Cancel safety
    ///
    /// As for [`Repository::save`].
    pub async fn save(&self, room: RoomRecord, expected: Expected) -> Result<Version> {
        if room.id.is_empty() || room.code.is_empty() {
            let detail = format!("id {:?}, code {:?}: neither may be empty", room.id, room.code);
            return Err(Error::new(ErrorKind::Invalid, "save room").detail(detail));
        }
        self.0.save(room, expected).await
    }

    /// Returns a room.
    ///
    /// # Errors
    ///
    /// As for [`Repository::get`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn get(&self, id: &str) -> Result<Option<Stored<RoomRecord>>> {
        self.0.get(id.as_bytes()).await
    }

    /// Returns the room that has a code now.
    ///
    /// # Errors
    ///
    /// As for [`Repository::get`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn by_code(&self, code: &str) -> Result<Option<Stored<RoomRecord>>> {
        self.0.find_unique(&self.1, code.as_bytes()).await
    }

    /// Returns up to `limit` rooms that a player is in, by their ids.
    ///
    /// # Errors
    ///
    /// As for [`Repository::get`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn of_player(&self, player: &str, limit: usize) -> Result<Vec<Stored<RoomRecord>>> {
        let player = Bytes::copy_from_slice(player.as_bytes());
        self.0.find(Query::equal(IndexName::new(PLAYER)?, player, limit)).await
    }

    /// Returns up to `limit` rooms that are not over, the most recently active first.
    ///
    /// # Errors
    ///
    /// As for [`Repository::get`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn active(&self, limit: usize) -> Result<Vec<Stored<RoomRecord>>> {
        let query = Query { is_reverse: true, ..all(IndexName::new(ACTIVE)?, limit) };
        self.0.find(query).await
    }

    /// Removes a room; its code is free then.
    ///
    /// # Errors
    ///
    /// As for [`Repository::remove`].
    ///
    /// # Cancel safety
    ///
    /// As for [`Repository::save`].
    pub async fn remove(&self, id: &str, expected: Expected) -> Result<()> {
        self.0.remove(id.as_bytes(), expected).await
    }

    /// Counts the rooms.
    ///
    /// # Errors
    ///
    /// What the store fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn count(&self) -> Result<u64> {
        self.0.count().await
    }

    /// Returns up to `limit` rooms in memory that are not over, the most recently used first, as
    /// [`Repository::recent`] has it.
    pub fn recent(&self, limit: usize) -> Vec<Stored<RoomRecord>> {
        self.0.recent(limit)
    }

    /// Returns what is in memory and how it was used.
    pub fn usage(&self) -> Usage {
        self.0.usage()
    }

    /// Returns the repository below, for units of work.
    pub const fn repository(&self) -> &Repository<RoomRecord> {
        &self.0
    }

    /// Returns how many rooms are in memory.
    pub fn in_memory(&self) -> usize {
        self.0.in_memory()
    }
}
