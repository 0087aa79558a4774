//! What people have won so far: each finished game counts once.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use infra_cache::LocalCache;
use infra_core::{
    Clock, Error, ErrorKind, Result,
    event::{Direction, EventStore, RecordedEvent},
    id::EventId,
    machine::StateMachine as _,
    store::{Batch, DocumentStore},
    version::Version,
};
use infra_persistence::{GameResult, Order, PlayerResult, PlayerStatistics, Statistics};

use super::projection::{Checkpoint, Projection};
use crate::{
    domain::{Event, Room, Seat},
    protocol::admin::{LEADERS, Leader, Leaderboard, Leading},
    rooms::decode_event,
};

/// How many people's statistics are kept in memory.
const IN_MEMORY: usize = 10_000;

/// How long a leaderboard is told again before it is read anew.
const FRESH: Duration = Duration::from_secs(1);

/// How many events of a room are read at a time.
const PAGE: usize = 512;

/// The results of all games.
#[derive(Debug, Clone)]
pub(super) struct Standings {
    events: Arc<dyn EventStore>,
    documents: Arc<dyn DocumentStore>,
    statistics: PlayerStatistics,
    boards: LocalCache<Leading, Leaderboard>,
}

impl Standings {
    pub(super) fn new(
        events: Arc<dyn EventStore>,
        documents: Arc<dyn DocumentStore>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let statistics = PlayerStatistics::new(Arc::clone(&documents), IN_MEMORY)?;
        let options = infra_cache::Options::new(3).ttl(FRESH);
        Ok(Self { events, documents, statistics, boards: LocalCache::new(options, clock) })
    }

    /// Returns the first in an order; many who ask at once cost one look.
    pub(super) async fn leaderboard(&self, by: Leading) -> Result<Leaderboard> {
        let statistics = self.statistics.clone();
        let load = || async move {
            let order = match by {
                Leading::Wins => Order::Wins,
                Leading::Score => Order::Score,
                Leading::WinRate => Order::WinRate,
            };
            let rows = statistics.leaderboard(order, LEADERS).await?;
            let total = statistics.count().await?;
            Ok(Leaderboard { by, rows: rows.iter().map(|row| leader(row)).collect(), total })
        };
        self.boards.get_or_load(&by, load).await
    }

    /// Returns the result of the game that ends with an event, or `None` if nobody but bots is left.
    async fn result(&self, ended: &RecordedEvent) -> Result<Option<GameResult>> {
        let Event::GameEnded { scores, winners, .. } = decode_event(ended)? else {
            return Ok(None);
        };
        let (room, epoch) = self.room_at(ended).await?;
        let results = Seat::ALL.into_iter().filter_map(|seat| {
            Some(PlayerResult {
                player: room.player_at(seat)?.to_string(),
                name: room.name_at(seat)?.to_string(),
                score: i64::from(scores[seat]),
                has_won: winners.contains(&seat),
            })
        });
        let players: Vec<PlayerResult> = results.collect();
        let game = format!("{}:{epoch}", ended.stream);
        let is_of_people = !players.is_empty();
        Ok(is_of_people.then_some(GameResult { game, ended: ended.recorded, players }))
    }

    /// Returns a room as it was with an event, and its epoch.
    async fn room_at(&self, last: &RecordedEvent) -> Result<(Room, EventId)> {
        let mut room = Room::default();
        let mut epoch = None;
        let mut from = Version::new(1);
        while from <= last.version {
            let read = self.events.read_stream(&last.stream, from, Direction::Forward, PAGE);
            let page = read.await?;
            for event in page.iter().filter(|event| event.version <= last.version) {
                epoch.get_or_insert(event.event.id);
                room.evolve(&decode_event(event)?);
            }
            let Some(end) = page.last() else { break };
            from = end.version.next();
        }
        let gone = || Error::new(ErrorKind::NotFound, "read room").detail(last.stream.to_string());
        Ok((room, epoch.ok_or_else(gone)?))
    }
}

#[async_trait]
impl Projection for Standings {
    const NAME: &'static str = "standings";
    const EVENTS: &'static [&'static str] = &["game_ended"];

    async fn take(&self, events: &[RecordedEvent], checkpoint: Checkpoint) -> Result<()> {
        for event in events {
            let Some(result) = self.result(event).await? else { continue };
            // One that was counted already is only passed.
            if let Some(batch) = self.statistics.prepare(&result).await? {
                let so_far = checkpoint.at(event.position).write()?;
                self.statistics.commit(batch.write(so_far)).await?;
            }
        }
        self.documents.commit(Batch::new().write(checkpoint.write()?)).await.map(|_| ())
    }
}

fn leader(row: &Statistics) -> Leader {
    Leader {
        name: row.name.clone(),
        played: row.played,
        won: row.won,
        win_rate: row.win_rate(),
        total_score: row.total_score,
        highest_score: row.highest_score,
        best_streak: row.best_streak,
    }
}
