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
    id::{Collection, IndexName},
    store::{Batch, DocumentStore, Query, Scan, Term, Write, ordered},
    version::{Expected, Version},
};
use serde::{Deserialize, Serialize};

use super::{
    boards::{Board, Boards, Learned, Lesson},
    entity::{Entity, Stored},
    pending::{Part, commit},
    typed::{Repository, all},
};

/// How many players are read at a time for a board.
const BOARD_PAGE: usize = 1_000;

/// From how many games on a player stands in the order of win rates.
pub const RATED_GAMES: u64 = 10;

/// How often a result is tried again that met another one of the same player.
const TRIES: usize = 64;

/// What a player did in a game.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlayerResult {
    /// The player.
    pub player: String,
    /// The player's name at that time.
    pub name: String,
    /// The score.
    pub score: i64,
    /// Whether the player won, alone or with others.
    pub has_won: bool,
}

/// How a game ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GameResult {
    /// The game's id; a second result of it changes nothing.
    pub game: String,
    /// When it ended.
    pub ended: Timestamp,
    /// Its players, each once.
    pub players: Vec<PlayerResult>,
}

/// What a player has done in all games.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statistics {
    /// The player.
    pub player: String,
    /// The player's last name.
    pub name: String,
    /// Games that were played.
    pub played: u64,
    /// Games that were won.
    pub won: u64,
    /// The sum of all scores.
    pub total_score: i64,
    /// The highest score; it may be negative.
    pub highest_score: i64,
    /// How many of the last games were won in a row.
    pub streak: u64,
    /// The longest such row.
    pub best_streak: u64,
    /// When the last of the games ended.
    pub last_played: Timestamp,
}

impl Statistics {
    /// Returns the share of games that were won, in millionths, rounded down.
    pub fn win_rate(&self) -> u64 {
        let rate = u128::from(self.won) * 1_000_000 / u128::from(self.played.max(1));
        u64::try_from(rate).unwrap_or(u64::MAX)
    }

    /// Adds a result to what there was.
    fn after(known: Option<&Self>, result: &PlayerResult, ended: Timestamp) -> Self {
        let streak = known.map_or(0, |known| known.streak);
        let streak = if result.has_won { streak + 1 } else { 0 };
        Self {
            player: result.player.clone(),
            name: result.name.clone(),
            played: known.map_or(0, |known| known.played) + 1,
            won: known.map_or(0, |known| known.won) + u64::from(result.has_won),
            total_score: known.map_or(0, |known| known.total_score).saturating_add(result.score),
            highest_score: known
                .map_or(result.score, |known| known.highest_score.max(result.score)),
            streak,
            best_streak: known.map_or(streak, |known| known.best_streak.max(streak)),
            last_played: known.map_or(ended, |known| known.last_played.max(ended)),
        }
    }
}

/// What a leaderboard is ordered by; the best stands first, and ties end with the player's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Order {
    /// Games won, then the win rate.
    Wins,
    /// The sum of all scores.
    Score,
    /// The win rate, then games won; only who has played [`RATED_GAMES`] games.
    WinRate,
}

impl Order {
    pub(super) const ALL: [Self; 3] = [Self::Wins, Self::Score, Self::WinRate];

    fn index(self) -> Result<IndexName> {
        IndexName::new(match self {
            Self::Wins => "wins",
            Self::Score => "score",
            Self::WinRate => "win-rate",
        })
    }

    /// Returns a player's place: lower bytes are better.
    pub(super) fn place(self, statistics: &Statistics) -> Option<Bytes> {
        let down =
            |number: u64| ordered(i64::try_from(number).unwrap_or(i64::MAX).saturating_neg());
        let (won, rate) = (down(statistics.won), down(statistics.win_rate()));
        match self {
            Self::Wins => Some([won, rate].concat().into()),
            Self::Score => Some(ordered(statistics.total_score.saturating_neg())),
            Self::WinRate if statistics.played < RATED_GAMES => None,
            Self::WinRate => Some([rate, won].concat().into()),
        }
    }
}

/// A span of time over which results are counted; its parts begin at midnight UTC, on Mondays and on
/// the first of a month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Window {
    /// A calendar day.
    Day,
    /// A week from Monday on.
    Week,
    /// A calendar month.
    Month,
    /// Since the beginning.
    AllTime,
}

impl Window {
    const PARTS: [Self; 3] = [Self::Day, Self::Week, Self::Month];

    const fn letter(self) -> u8 {
        match self {
            Self::Day => b'd',
            Self::Week => b'w',
            Self::Month => b'm',
            Self::AllTime => b'a',
        }
    }

    /// Returns the number of the part that a time lies in; the first of each kind is 0.
    pub fn part(self, time: Timestamp) -> u32 {
        let days = time.as_millis() / 86_400_000;
        let part = match self {
            Self::Day => days,
            // The first day of all was a Thursday.
            Self::Week => (days + 3) / 7,
            Self::Month => month(days),
            Self::AllTime => 0,
        };
        u32::try_from(part).unwrap_or(u32::MAX)
    }
}

/// Returns the number of the month that a day lies in (Howard Hinnant, "chrono-compatible low-level
/// date algorithms", 2013: years are counted from March on, in eras of 400).
const fn month(days: u64) -> u64 {
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    // March is the third month of the civil year, January the eleventh from March on.
    (era * 400 + year) * 12 + from_march + 2 - 1_970 * 12
}

/// What a player has done in a part of a window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct InWindow {
    window: Window,
    part: u32,
    statistics: Statistics,
}

fn window_key(window: Window, part: u32, player: &str) -> Bytes {
    [&[window.letter()], &part.to_be_bytes()[..], player.as_bytes()].concat().into()
}

impl Entity for InWindow {
    const COLLECTION: &'static str = "statistics-windows";
    const SCHEMA: u32 = 1;

    fn key(&self) -> Bytes {
        window_key(self.window, self.part, &self.statistics.player)
    }

    fn terms(&self) -> Result<Vec<Term>> {
        let board = [&[self.window.letter()], &self.part.to_be_bytes()[..]].concat();
        let places = Order::ALL
            .into_iter()
            .filter_map(|order| Some((order, order.place(&self.statistics)?)));
        let term = |(order, place): (Order, Bytes)| {
            Ok(Term::new(order.index()?, [board.as_slice(), &place].concat()))
        };
        places.map(term).collect()
    }
}

impl Entity for Statistics {
    const COLLECTION: &'static str = "statistics";
    const SCHEMA: u32 = 1;

    fn key(&self) -> Bytes {
        Bytes::copy_from_slice(self.player.as_bytes())
    }

    fn terms(&self) -> Result<Vec<Term>> {
        let places = Order::ALL.into_iter().filter_map(|order| Some((order, order.place(self)?)));
        places.map(|(order, place)| Ok(Term::new(order.index()?, place))).collect()
    }
}

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
    players: Repository<Statistics>,
    windows: Repository<InWindow>,
    documents: Arc<dyn DocumentStore>,
    results: Collection,
    boards: Arc<Boards>,
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

fn check(result: &GameResult) -> Result<()> {
    let mut players: Vec<&str> =
        result.players.iter().map(|player| player.player.as_str()).collect();
    players.sort_unstable();
    let is_double = players.windows(2).any(|pair| pair.first() == pair.last());
    if is_double
        || result.game.is_empty()
        || players.first().is_some_and(|player| player.is_empty())
    {
        let detail =
            format!("game {:?} of {players:?}: a player twice or an empty id", result.game);
        return Err(Error::invalid("record result", detail));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_begin_at_midnight_on_mondays_and_on_the_first() {
        let at = |days: u64, millis: u64| Timestamp::from_millis(days * 86_400_000 + millis);
        // 1970-01-01 was a Thursday; the fifth day was the first Monday.
        assert_eq!([0, 3, 4, 10, 11].map(|day| Window::Week.part(at(day, 0))), [0, 0, 1, 1, 2]);
        assert_eq!(Window::Day.part(at(7, 86_399_999)), 7);
        assert_eq!(Window::Day.part(at(8, 0)), 8);
        // Ends of January, February (1972 leaps), December 1999, February 2000 (leaps), 2100 (not).
        for (day, part) in [
            (30, 0),
            (31, 1),
            (58, 1),
            (59, 2),
            (789, 25),
            (790, 26),
            (10_956, 359),
            (10_957, 360),
            (11_015, 361),
            (11_016, 361),
            (11_017, 362),
            (47_540, 1_561),
            (47_541, 1_562),
        ] {
            assert_eq!(Window::Month.part(at(day, 0)), part, "day {day}");
        }
        assert_eq!(Window::AllTime.part(at(11_016, 5)), 0);
    }
}
