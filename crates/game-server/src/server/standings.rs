//! What people have won so far: each finished game counts once.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use axum::{
    http::StatusCode,
    response::{IntoResponse as _, Response},
};
use infra_cache::{Tiered, TieredBuilder};
use infra_core::{
    Clock, Error, ErrorKind, Result,
    cache::Cache,
    event::{Direction, EventStore, RecordedEvent},
    id::EventId,
    machine::StateMachine as _,
    store::{Batch, DocumentStore},
    version::Version,
};
use infra_persistence::{GameResult, Order, PlayerResult, PlayerStatistics, Statistics, Window};

use super::{
    histories::{Finished, Histories},
    http::json,
    projection::{Checkpoint, Projection},
};
use crate::{
    domain::{Event, PlayerId, Room, Seat},
    people::People,
    protocol::{
        RoomCode,
        admin::{Asked, LEADERS, Leader, Leaderboard, Leading, Over},
    },
    rooms::{STREAM_PREFIX, decode_event, room_of},
};

/// How many people's statistics are kept in memory.
const IN_MEMORY: usize = 10_000;

/// How many leaderboards there are: each order over each time.
const BOARDS: u64 = 3 * 4;

/// How long a leaderboard is told again before it is read anew.
const FRESH: Duration = Duration::from_secs(1);

/// What stands between the room in which a name was sealed and the name; no name has it.
const SEALED: char = '\u{1f}';

/// How many events of a room are read at a time.
const PAGE: usize = 512;

/// The results of all games.
#[derive(Debug, Clone)]
pub(super) struct Standings {
    events: Arc<dyn EventStore>,
    documents: Arc<dyn DocumentStore>,
    statistics: PlayerStatistics,
    histories: Histories,
    boards: Tiered<Leaderboard>,
    clock: Arc<dyn Clock>,
    people: People,
}

impl Standings {
    /// Counts results in `documents`; servers that share a cache look once for all of them.
    pub(super) fn new(
        (events, documents): (Arc<dyn EventStore>, Arc<dyn DocumentStore>),
        cache: Option<Arc<dyn Cache>>,
        clock: Arc<dyn Clock>,
        people: People,
    ) -> Result<Self> {
        let statistics = PlayerStatistics::new(Arc::clone(&documents), IN_MEMORY)?;
        let histories = Histories::new(Arc::clone(&documents))?;
        let options = infra_cache::Options::new(BOARDS).ttl(FRESH);
        let mut boards = TieredBuilder::new(options, Arc::clone(&clock));
        if let Some(cache) = cache {
            boards = boards.remote(cache);
        }
        let boards = boards.build();
        Ok(Self { events, documents, statistics, histories, boards, clock, people })
    }

    /// Returns a player's latest games.
    pub(super) async fn history(&self, player: PlayerId) -> Result<Vec<Finished>> {
        self.histories.of(&player.to_string()).await
    }

    /// Returns the ids of all of a player's games.
    pub(super) async fn games(&self, player: PlayerId) -> Result<Vec<String>> {
        self.histories.all(&player.to_string()).await
    }

    /// Removes what is counted of a player, and returns how many documents there were.
    pub(super) async fn erase(&self, player: PlayerId) -> Result<u64> {
        let erased = self.statistics.erase(&player.to_string()).await?;
        // What is shared with other servers is told for a second at most.
        self.boards.local().clear();
        Ok(erased)
    }

    /// Removes a player's history, and returns how many games were in it.
    pub(super) async fn erase_history(&self, player: PlayerId) -> Result<u64> {
        self.histories.remove(&player.to_string()).await
    }

    /// Returns the first in an order; many who ask at once cost one look.
    pub(super) async fn leaderboard(&self, asked: Asked) -> Result<Leaderboard> {
        let (statistics, now) = (self.statistics.clone(), self.clock.wall());
        let people = self.people.clone();
        let load = move || async move {
            let order = match asked.by {
                Leading::Wins => Order::Wins,
                Leading::Score => Order::Score,
                Leading::WinRate => Order::WinRate,
            };
            let window = match asked.over {
                Over::Day => Window::Day,
                Over::Week => Window::Week,
                Over::Month => Window::Month,
                Over::All => Window::AllTime,
            };
            let rows = statistics.leaderboard_of(order, (window, now), LEADERS).await?;
            let total = statistics.count().await?;
            let mut leaders = Vec::with_capacity(rows.len());
            for row in &rows {
                leaders.extend(leader(&people, row).await?);
            }
            Ok(Leaderboard { by: asked.by, over: asked.over, rows: leaders, total })
        };
        let Asked { by, over } = asked;
        self.boards.get_or_load(&format!("leaderboard {by:?} {over:?}"), load).await
    }

    /// Answers a request for a leaderboard.
    pub(super) async fn answer(&self, asked: Asked) -> Response {
        match self.leaderboard(asked).await {
            Ok(leaderboard) => json(StatusCode::OK, &leaderboard),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "leaderboard not read");
                StatusCode::SERVICE_UNAVAILABLE.into_response()
            }
        }
    }

    /// Returns the result of the game that ends with an event, or `None` if nobody but bots is left.
    async fn result(&self, ended: &RecordedEvent) -> Result<Option<GameResult>> {
        let Event::GameEnded { scores, winners, .. } = decode_event(ended)? else {
            return Ok(None);
        };
        let (room, epoch) = self.room_at(ended).await?;
        let code = room_of(&ended.stream);
        let mut players = Vec::new();
        for seat in Seat::ALL {
            let (Some(player), Some(name), Some(code)) =
                (room.player_at(seat), room.name_at(seat), code)
            else {
                continue;
            };
            // Nothing is counted for who is forgotten.
            let (whose, id) = ((player, code), ended.event.id);
            let Some(sealed) = self.people.seal(whose, id, name.as_str()).await? else { continue };
            players.push(PlayerResult {
                player: player.to_string(),
                name: format!("{code}{SEALED}{sealed}"),
                score: i64::from(scores[seat]),
                has_won: winners.contains(&seat),
            });
        }
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
                let game = result.game.trim_start_matches(STREAM_PREFIX).replace(':', "-");
                let batch = self.histories.write(batch, &game, &result)?;
                let so_far = checkpoint.at(event.position).write()?;
                self.statistics.commit(batch.write(so_far)).await?;
            }
        }
        self.documents.commit(Batch::new().write(checkpoint.write()?)).await.map(|_| ())
    }
}

/// Returns a row of a leaderboard, unless its player is forgotten.
async fn leader(people: &People, row: &Statistics) -> Result<Option<Leader>> {
    let player = row.player.parse().map(PlayerId::from_uuid);
    if player.as_ref().is_ok_and(|player| people.is_forgotten(*player)) {
        return Ok(None);
    }
    let sealed =
        row.name.split_once(SEALED).and_then(|(room, text)| Some((RoomCode::new(room)?, text)));
    let name = match (player, sealed) {
        (Ok(player), Some((room, text))) => people.open_text((player, room), text).await?,
        // It was counted before names were sealed.
        _ => Some(row.name.clone()),
    };
    Ok(name.map(|name| Leader {
        name,
        played: row.played,
        won: row.won,
        win_rate: row.win_rate(),
        total_score: row.total_score,
        highest_score: row.highest_score,
        best_streak: row.best_streak,
    }))
}
