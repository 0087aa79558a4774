//! The repository of player statistics: results of games, each counted once, and leaderboards.

use std::{
    ops::Bound,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use infra_core::{
    Clock, Error, ErrorKind, Result, SystemClock,
    clock::Timestamp,
    codec::Payload,
    id::Collection,
    store::{Batch, DocumentStore, Query, Scan, Write},
    version::{Expected, Version},
};
use serde::Serialize;

use super::{
    boards::{Board, Boards, Learned, Lesson},
    entity::{Entity as _, Stored},
    pending::{Part, commit},
    results::{GameResult, InWindow, Order, PlayerResult, Statistics, Window, check, window_key},
    typed::{Repository, all},
};

/// How many players are read at a time for a board.
const BOARD_PAGE: usize = 1_000;

/// How often a result is tried again that met another one of the same player.
const TRIES: usize = 64;

/// The repository of player statistics. Cheap to clone.
///
/// ```
/// use infra_core::{SystemClock, clock::Timestamp};
/// use infra_persistence::{GameResult, Order, PlayerResult, PlayerStatistics};
/// # use std::sync::Arc;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let documents = Arc::new(infra_persistence::memory(SystemClock::shared())?);
/// let statistics = PlayerStatistics::new(documents, 10_000)?;
/// let ann = PlayerResult { player: "p1".into(), name: "Ann".into(), score: 54, has_won: true };
/// let game = GameResult { game: "g1".into(), ended: Timestamp::EPOCH, players: vec![ann] };
/// assert!(statistics.record(&game).await?);
/// assert!(!statistics.record(&game).await?, "each game counts once");
/// assert_eq!(statistics.leaderboard(Order::Wins, 10).await?[0].name, "Ann");
/// # Ok::<(), infra_core::Error>(()) }).unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct PlayerStatistics {
    pub(super) players: Repository<Statistics>,
    pub(super) windows: Repository<InWindow>,
    pub(super) documents: Arc<dyn DocumentStore>,
    pub(super) results: Collection,
    pub(super) boards: Arc<Boards>,
    tally: Arc<Tally>,
    clock: Arc<dyn Clock>,
}

/// What a [`PlayerStatistics`] did since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct StatisticsUsage {
    /// Lookups of players that were found.
    pub found: u64,
    /// Lookups of players that are unknown.
    pub unknown: u64,
    /// Results that were counted.
    pub results: u64,
    /// Leaderboards that were given.
    pub leaderboards: u64,
    /// Boards of ranks that were read from the store.
    pub boards_built: u64,
    /// Ranks that were told from a board in memory.
    pub ranks: u64,
}

#[derive(Debug, Default)]
struct Tally {
    found: AtomicU64,
    unknown: AtomicU64,
    results: AtomicU64,
    leaderboards: AtomicU64,
    ranks: AtomicU64,
}

fn count(counter: &AtomicU64) {
    // A count orders nothing.
    counter.fetch_add(1, Ordering::Relaxed);
}

/// The first players of a leaderboard at one time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Export {
    /// When it was exported.
    pub exported: Timestamp,
    /// The players with their ranks, the best first.
    pub players: Vec<Ranked>,
}

/// A player with a rank.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ranked {
    /// One more than the number of players who are strictly better.
    pub rank: u64,
    /// What the player has done.
    #[serde(flatten)]
    pub statistics: Statistics,
}

/// The most players of an export.
pub const MAX_EXPORT: usize = 100;

impl PlayerStatistics {
    /// Creates the repository in the collections `statistics`, `statistics-windows` and `results`; at
    /// most `in_memory` players of either are kept in memory.
    ///
    /// # Errors
    ///
    /// Never: the names of the collections are good ones.
    pub fn new(documents: Arc<dyn DocumentStore>, in_memory: usize) -> Result<Self> {
        Self::with_clock(documents, in_memory, SystemClock::shared())
    }

    /// Creates the repository with a clock of its own, for the times of exports.
    ///
    /// # Errors
    ///
    /// As for [`PlayerStatistics::new`].
    pub fn with_clock(
        documents: Arc<dyn DocumentStore>,
        in_memory: usize,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        Ok(Self {
            players: Repository::new(Arc::clone(&documents), in_memory)?,
            windows: Repository::new(Arc::clone(&documents), in_memory)?,
            documents,
            results: Collection::new("results")?,
            boards: Arc::default(),
            tally: Arc::default(),
            clock,
        })
    }

    /// Counts a game's result, once; returns whether it was new.
    ///
    /// # Errors
    ///
    /// [`Invalid`](ErrorKind::Invalid) if a player stands twice or an id is empty, and what the
    /// store fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the result counted or not; it may be repeated.
    pub async fn record(&self, result: &GameResult) -> Result<bool> {
        for _ in 0..TRIES {
            let Some(batch) = self.prepare(result).await? else { return Ok(false) };
            match self.commit(batch).await {
                // Another result of the same game, or of one of its players, came first.
                Err(error) if matches!(error.kind(), ErrorKind::Conflict { .. }) => {}
                said => {
                    said?;
                    count(&self.tally.results);
                    return Ok(true);
                }
            }
        }
        let detail = format!("game {}: its players have too many results at once", result.game);
        Err(Error::new(ErrorKind::Overloaded, "record result").detail(detail))
    }

    /// Returns the batch that counts a result, to be committed together with other changes, or
    /// `None` if it is counted already. A conflict of it means that another result came first:
    /// prepare it again.
    ///
    /// # Errors
    ///
    /// As for [`PlayerStatistics::record`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn prepare(&self, result: &GameResult) -> Result<Option<Batch>> {
        check(result)?;
        let game = Bytes::copy_from_slice(result.game.as_bytes());
        if self.documents.get(&self.results, &game).await?.is_some() {
            return Ok(None);
        }
        let payload = Payload::json(1, result)?;
        let mut batch = Batch::new().put(self.results.clone(), game, Expected::Absent, payload);
        for player in &result.players {
            let known = self.players.get(player.player.as_bytes()).await?;
            let before = known.as_ref().map(|known| known.entity.as_ref());
            let after = Statistics::after(before, player, result.ended);
            let expected = known.as_ref().map_or(Version::ZERO, |known| known.version);
            let expected = match expected {
                Version::ZERO => Expected::Absent,
                version => Expected::Exactly(version),
            };
            batch = batch.write(self.players.write(&after, expected)?);
            for window in Window::PARTS {
                batch = batch.write(self.prepare_window(window, player, result.ended).await?);
            }
        }
        Ok(Some(batch))
    }

    /// Commits a batch that [`PlayerStatistics::prepare`] returned, with whatever was added to it.
    ///
    /// # Errors
    ///
    /// As for [`Repository::commit`].
    ///
    /// # Cancel safety
    ///
    /// As for [`Repository::save`].
    pub async fn commit(&self, batch: Batch) -> Result<()> {
        let mut learned = Vec::new();
        for (place, write) in batch.writes.iter().enumerate() {
            let Write::Put { collection, key, payload, .. } = write else { continue };
            if collection == self.players.collection() {
                learned.push(Learned {
                    place,
                    name: (Window::AllTime, 0),
                    key: key.clone(),
                    after: payload.decode()?,
                });
            } else if collection == self.windows.collection() {
                let InWindow { window, part, statistics } = payload.decode()?;
                let (name, key) = ((window, part), key.clone());
                learned.push(Learned { place, name, key, after: statistics });
            }
        }
        let lesson = Lesson { boards: Arc::clone(&self.boards), learned };
        let (players, windows) = (self.players.touched(&batch), self.windows.touched(&batch));
        let parts: Vec<Box<dyn Part>> = vec![players, windows, Box::new(lesson)];
        commit(&self.documents, batch, parts).await.map(|_| ())
    }

    /// Returns the change of what a player has done in a part of a window.
    async fn prepare_window(
        &self,
        window: Window,
        player: &PlayerResult,
        ended: Timestamp,
    ) -> Result<Write> {
        let part = window.part(ended);
        let known = self.windows.get(&window_key(window, part, &player.player)).await?;
        let before = known.as_ref().map(|known| &known.entity.statistics);
        let statistics = Statistics::after(before, player, ended);
        let expected = match &known {
            None => Expected::Absent,
            Some(known) => Expected::Exactly(known.version),
        };
        self.windows.write(&InWindow { window, part, statistics }, expected)
    }

    /// Returns what a player has done.
    ///
    /// # Errors
    ///
    /// As for [`Repository::get`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn of(&self, player: &str) -> Result<Option<Stored<Statistics>>> {
        let found = self.players.get(player.as_bytes()).await?;
        count(if found.is_some() { &self.tally.found } else { &self.tally.unknown });
        Ok(found)
    }

    /// Returns the first `limit` players of an order.
    ///
    /// # Errors
    ///
    /// As for [`Repository::get`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn leaderboard(&self, order: Order, limit: usize) -> Result<Vec<Arc<Statistics>>> {
        count(&self.tally.leaderboards);
        let found = self.players.find(all(order.index()?, limit)).await?;
        Ok(found.into_iter().map(|stored| stored.entity).collect())
    }

    /// Returns the first `limit` players of an order in the part of a window that `at` lies in.
    ///
    /// # Errors
    ///
    /// As for [`Repository::get`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn leaderboard_of(
        &self,
        order: Order,
        (window, at): (Window, Timestamp),
        limit: usize,
    ) -> Result<Vec<Statistics>> {
        if window == Window::AllTime {
            let found = self.leaderboard(order, limit).await?;
            return Ok(found.into_iter().map(|found| found.as_ref().clone()).collect());
        }
        count(&self.tally.leaderboards);
        let board = [&[window.letter()], &window.part(at).to_be_bytes()[..]].concat();
        let end = [board.as_slice(), &[0xff; 32]].concat();
        let query = Query {
            from: Bound::Included(board.into()),
            to: Bound::Excluded(end.into()),
            ..all(order.index()?, limit)
        };
        let found = self.windows.find(query).await?;
        Ok(found.into_iter().map(|found| found.entity.statistics.clone()).collect())
    }

    /// Returns a player's rank in the part of a window that `at` lies in: one more than the number of
    /// players who are strictly better; `None` if the player is not on the board. The first question
    /// reads the board into memory; from then on it is kept, and a rank takes logarithmic time.
    ///
    /// # Errors
    ///
    /// What the store fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn rank(
        &self,
        order: Order,
        (window, at): (Window, Timestamp),
        player: &str,
    ) -> Result<Option<u64>> {
        let part = window.part(at);
        let key = match window {
            Window::AllTime => Bytes::copy_from_slice(player.as_bytes()),
            Window::Day | Window::Week | Window::Month => window_key(window, part, player),
        };
        let board = self.boards.open((window, part));
        let loading = board.loaded.get_or_try_init(|| self.load((window, part), &board));
        loading.await?;
        count(&self.tally.ranks);
        Ok(board.rank(order, &key))
    }

    /// Returns the first players of an order with their ranks, at most [`MAX_EXPORT`], and the time.
    ///
    /// # Errors
    ///
    /// As for [`PlayerStatistics::leaderboard`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn export(
        &self,
        order: Order,
        (window, at): (Window, Timestamp),
        limit: usize,
    ) -> Result<Export> {
        let found = self.leaderboard_of(order, (window, at), limit.min(MAX_EXPORT)).await?;
        let mut players: Vec<Ranked> = Vec::with_capacity(found.len());
        for (index, statistics) in (1..).zip(found) {
            let rank = match players.last() {
                Some(last) if order.place(&last.statistics) == order.place(&statistics) => {
                    last.rank
                }
                _ => index,
            };
            players.push(Ranked { rank, statistics });
        }
        Ok(Export { exported: self.clock.wall(), players })
    }

    /// Returns what was done since this was made.
    pub fn usage(&self) -> StatisticsUsage {
        let told = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StatisticsUsage {
            found: told(&self.tally.found),
            unknown: told(&self.tally.unknown),
            results: told(&self.tally.results),
            leaderboards: told(&self.tally.leaderboards),
            boards_built: self.boards.built(),
            ranks: told(&self.tally.ranks),
        }
    }

    /// Reads all places of a board.
    async fn load(&self, (window, part): (Window, u32), board: &Board) -> Result<()> {
        let board_key = match window {
            Window::AllTime => Vec::new(),
            Window::Day | Window::Week | Window::Month => {
                [&[window.letter()], &part.to_be_bytes()[..]].concat()
            }
        };
        let mut scan = Scan::prefix(board_key, BOARD_PAGE);
        loop {
            let (last, count) = if window == Window::AllTime {
                let page = self.players.list(scan.clone()).await?;
                for found in &page {
                    board.learn(&found.entity.key(), found.version, &found.entity);
                }
                (page.last().map(|last| last.entity.key()), page.len())
            } else {
                let page = self.windows.list(scan.clone()).await?;
                for found in &page {
                    board.learn(&found.entity.key(), found.version, &found.entity.statistics);
                }
                (page.last().map(|last| last.entity.key()), page.len())
            };
            if count < BOARD_PAGE {
                return Ok(());
            }
            scan.after = last;
        }
    }

    /// Counts the players.
    ///
    /// # Errors
    ///
    /// What the store fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn count(&self) -> Result<u64> {
        self.players.count().await
    }
}
