//! A player is forgotten: what it said of itself is gone everywhere, and the games of the others stay.

use std::{collections::BTreeSet, fmt, sync::Arc};

use infra_core::{
    Clock, Result, archive::ArchiveStore, event::EventStore, id::StreamName,
    snapshot::SnapshotStore, store::DocumentStore,
};
use infra_persistence::Snapshots;
use serde::Serialize;

use super::{
    archivist::strip,
    backends::Backends,
    replays::GameId,
    sightings::{Sighting, find},
    standings::Standings,
};
use crate::{
    credentials,
    domain::{Name, PlayerId},
    people::{People, SealedEvents, SealedSnapshots},
    protocol::RoomCode,
    rooms::{Registry, STREAM_PREFIX},
};

/// Where rooms are recorded, with what people say sealed below.
#[derive(Debug, Clone)]
pub(super) struct Memory {
    pub(super) events: Arc<dyn EventStore>,
    pub(super) snapshots: Arc<dyn SnapshotStore>,
    pub(super) people: People,
}

impl Memory {
    pub(super) async fn open(backends: &Backends, clock: &Arc<dyn Clock>) -> Result<Self> {
        let people = backends.people(clock).await?;
        let snapshots = Arc::new(Snapshots::new(Arc::clone(&backends.documents))?);
        let snapshots = Arc::new(SealedSnapshots::new(snapshots, people.clone()));
        let events = Arc::new(SealedEvents::new(Arc::clone(&backends.events), people.clone()));
        Ok(Self { events, snapshots, people })
    }

    /// Forgets who was being forgotten when the last process ended.
    pub(super) async fn finish(&self, backends: &Backends, clock: &Arc<dyn Clock>) -> Result<()> {
        let unfinished = self.people.unfinished().await?;
        let standings = self.standings(backends, clock)?;
        let forgetting = Forgetting::new(self, backends, &standings, None);
        for player in unfinished {
            forgetting.forget(player).await?;
        }
        Ok(())
    }

    pub(super) fn standings(
        &self,
        backends: &Backends,
        clock: &Arc<dyn Clock>,
    ) -> Result<Standings> {
        let stores = (Arc::clone(&self.events), Arc::clone(&backends.documents));
        Standings::new(stores, backends.cache.clone(), Arc::clone(clock), self.people.clone())
    }
}

/// What was removed of a player.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Forgotten {
    /// The player.
    pub player: PlayerId,
    /// Keys that were destroyed: of each room, name and words of the player in it.
    pub keys: u64,
    /// Snapshots of its rooms.
    pub snapshots: u64,
    /// Archived games that held its name or words plainly, and do not any more.
    pub archived: u64,
    /// Documents of statistics and results that named it.
    pub statistics: u64,
    /// Games of its history.
    pub history: u64,
    /// Rooms of which its tokens were known.
    pub tokens: u64,
}

impl Forgotten {
    /// Returns whether nothing was left to remove.
    pub const fn is_nothing(&self) -> bool {
        let Self { player: _, keys, snapshots, archived, statistics, history, tokens } = self;
        *keys + *snapshots + *archived + *statistics + *history + *tokens == 0
    }
}

impl fmt::Display for Forgotten {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { player, keys, snapshots, archived, statistics, history, tokens } = self;
        if self.is_nothing() {
            return write!(f, "{player}: nothing to do");
        }
        write!(
            f,
            "{player}: forgotten\n\
             {keys:>6} keys destroyed: its name and words in as many rooms, in events and archive\n\
             {snapshots:>6} snapshots of these rooms removed\n\
             {archived:>6} archived games from before names were sealed rewritten\n\
             {statistics:>6} documents of statistics removed or rewritten\n\
             {history:>6} games of its history removed\n\
             {tokens:>6} rooms of which its tokens were known removed"
        )
    }
}

/// Forgets players.
#[derive(Debug, Clone)]
pub(super) struct Forgetting {
    pub(super) memory: Memory,
    pub(super) documents: Arc<dyn DocumentStore>,
    pub(super) archive: Arc<dyn ArchiveStore>,
    pub(super) standings: Standings,
    /// The rooms in memory, of a server that runs.
    pub(super) registry: Option<Arc<Registry>>,
}

impl Forgetting {
    pub(super) fn new(
        memory: &Memory,
        backends: &Backends,
        standings: &Standings,
        registry: Option<&Arc<Registry>>,
    ) -> Self {
        Self {
            memory: memory.clone(),
            documents: Arc::clone(&backends.documents),
            archive: Arc::clone(&backends.archive),
            standings: standings.clone(),
            registry: registry.cloned(),
        }
    }

    /// Finds the players that are or were called so.
    pub(super) async fn find(&self, name: &Name) -> Result<Vec<Sighting>> {
        find(self.memory.events.as_ref(), name).await
    }

    /// Forgets a player. First it is kept that the player is forgotten; what its rooms and games are found by
    /// is removed last, so what fails in between is finished by doing it again.
    pub(super) async fn forget(&self, player: PlayerId) -> Result<Forgotten> {
        let (people, documents) = (&self.memory.people, self.documents.as_ref());
        people.forget(player).await?;
        let games = self.standings.games(player).await?;
        let tokens = credentials::rooms_of(documents, player).await?;
        let mut rooms: BTreeSet<RoomCode> = people.rooms_of(player).await?.into_iter().collect();
        rooms.extend(&tokens);
        let mut archived = 0;
        for id in games.iter().filter_map(|game| GameId::new(game)) {
            rooms.insert(id.room);
            let place = (id.room, id.epoch.as_str());
            archived += u64::from(strip(self.archive.as_ref(), place, player).await?);
        }
        let statistics = self.standings.erase(player).await?;
        let (mut keys, mut snapshots) = (0, 0);
        for room in rooms {
            let stream = StreamName::new(format!("{STREAM_PREFIX}{room}"))?;
            snapshots += self.memory.snapshots.prune(&stream, 0).await? as u64;
            if let Some(registry) = &self.registry {
                registry.read_anew(room).await?;
            }
            keys += u64::from(people.destroy(player, room).await?);
        }
        credentials::forget_player(documents, player, &tokens).await?;
        let history = self.standings.erase_history(player).await?;
        let tokens = tokens.len() as u64;
        tracing::info!(%player, keys, "a player is forgotten");
        Ok(Forgotten { player, keys, snapshots, archived, statistics, history, tokens })
    }
}

/// Finds the players that are or were called so, in stores that no server has open.
///
/// # Errors
///
/// What the stores fail with.
///
/// # Cancel safety
///
/// Dropping the future has no effect.
pub async fn sightings(
    backends: &Backends,
    clock: &Arc<dyn Clock>,
    name: &Name,
) -> Result<Vec<Sighting>> {
    find(Memory::open(backends, clock).await?.events.as_ref(), name).await
}

/// Forgets a player in stores that no server has open.
///
/// # Errors
///
/// What the stores fail with; what was done so far stays done, and doing it again finishes it.
///
/// # Cancel safety
///
/// Dropping the future leaves it done in part; do it again.
pub async fn forget(
    backends: &Backends,
    clock: &Arc<dyn Clock>,
    player: PlayerId,
) -> Result<Forgotten> {
    let memory = Memory::open(backends, clock).await?;
    let standings = memory.standings(backends, clock)?;
    Forgetting::new(&memory, backends, &standings, None).forget(player).await
}
