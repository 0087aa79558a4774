//! Which games a player has finished, the latest first.

use std::sync::Arc;

use infra_core::{
    Result,
    codec::Payload,
    id::Collection,
    store::{Batch, DocumentStore, Scan},
    version::Expected,
};
use infra_persistence::{GameResult, PlayerResult};
use serde::{Deserialize, Serialize};

/// The most games that are told.
const MOST: usize = 100;

/// The finished games of all players: a document for each player of each game, without a name.
#[derive(Debug, Clone)]
pub(super) struct Histories {
    documents: Arc<dyn DocumentStore>,
    collection: Collection,
}

/// A finished game, as one of its players has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Finished {
    /// The game's id, by which it is replayed.
    pub(super) game: String,
    pub(super) ended_ms: u64,
    pub(super) score: i64,
    pub(super) has_won: bool,
}

impl Histories {
    pub(super) fn new(documents: Arc<dyn DocumentStore>) -> Result<Self> {
        Ok(Self { documents, collection: Collection::new("histories")? })
    }

    /// Adds to `batch` what a result is to each of its players; `game` is the game's id.
    pub(super) fn write(&self, batch: Batch, game: &str, result: &GameResult) -> Result<Batch> {
        let ended_ms = result.ended.as_millis();
        let add = |batch: Batch, player: &PlayerResult| {
            let (game, score, has_won) = (game.to_owned(), player.score, player.has_won);
            let finished = Finished { game, ended_ms, score, has_won };
            // Keys are read in ascending order: the latest game has the lowest one.
            let key = format!("{}/{:020}-{}", player.player, u64::MAX - ended_ms, finished.game);
            let payload = Payload::json(1, &finished)?;
            Ok(batch.put(self.collection.clone(), key, Expected::Any, payload))
        };
        result.players.iter().try_fold(batch, add)
    }

    /// Returns the ids of all of a player's games.
    pub(super) async fn all(&self, player: &str) -> Result<Vec<String>> {
        let (mut games, mut scan) = (Vec::new(), Scan::prefix(format!("{player}/"), MOST));
        loop {
            let page = self.documents.scan(&self.collection, scan.clone()).await?;
            let Some(last) = page.last() else { return Ok(games) };
            scan.after = Some(last.key.clone());
            for document in &page {
                games.push(document.decode::<Finished>()?.game);
            }
        }
    }

    /// Removes a player's games, and returns how many there were.
    pub(super) async fn remove(&self, player: &str) -> Result<u64> {
        let mut removed = 0;
        loop {
            let scan = Scan::prefix(format!("{player}/"), MOST);
            let page = self.documents.scan(&self.collection, scan).await?;
            if page.is_empty() {
                return Ok(removed);
            }
            removed += page.len() as u64;
            let batch = page.into_iter().fold(Batch::new(), |batch, document| {
                batch.delete(self.collection.clone(), document.key, Expected::Any)
            });
            self.documents.commit(batch).await?;
        }
    }

    /// Returns a player's latest games.
    pub(super) async fn of(&self, player: &str) -> Result<Vec<Finished>> {
        let scan = Scan::prefix(format!("{player}/"), MOST);
        let found = self.documents.scan(&self.collection, scan).await?;
        found.iter().map(infra_core::store::Document::decode).collect()
    }
}
