//! The repository of player statistics: results of games, each counted once, and leaderboards.

use std::sync::Arc;

use bytes::Bytes;
use infra_core::{
    Error, ErrorKind, Result,
    clock::Timestamp,
    codec::Payload,
    id::{Collection, IndexName},
    store::{Batch, DocumentStore, Term, ordered},
    version::{Expected, Version},
};
use serde::{Deserialize, Serialize};

use super::{
    entity::{Entity, Stored},
    typed::{Repository, all},
};

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
    const ALL: [Self; 3] = [Self::Wins, Self::Score, Self::WinRate];

    fn index(self) -> Result<IndexName> {
        IndexName::new(match self {
            Self::Wins => "wins",
            Self::Score => "score",
            Self::WinRate => "win-rate",
        })
    }

    /// Returns a player's place: lower bytes are better.
    fn place(self, statistics: &Statistics) -> Option<Bytes> {
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
    documents: Arc<dyn DocumentStore>,
    results: Collection,
}

impl PlayerStatistics {
    /// Creates the repository in the collections `statistics` and `results`; at most `in_memory`
    /// players are kept in memory.
    ///
    /// # Errors
    ///
    /// Never: the names of the collections are good ones.
    pub fn new(documents: Arc<dyn DocumentStore>, in_memory: usize) -> Result<Self> {
        let players = Repository::new(Arc::clone(&documents), in_memory)?;
        Ok(Self { players, documents, results: Collection::new("results")? })
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
            match self.players.commit(batch).await {
                // Another result of the same game, or of one of its players, came first.
                Err(error) if matches!(error.kind(), ErrorKind::Conflict { .. }) => {}
                said => return said.map(|_| true),
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
        self.players.commit(batch).await.map(|_| ())
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
        self.players.get(player.as_bytes()).await
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
        let found = self.players.find(all(order.index()?, limit)).await?;
        Ok(found.into_iter().map(|stored| stored.entity).collect())
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
