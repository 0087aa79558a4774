//! Statistics of a player who is to be forgotten.

use infra_core::{
    Result,
    codec::Payload,
    store::{Batch, Scan},
    version::Expected,
};

use super::{
    entity::Entity as _,
    results::{GameResult, InWindow},
    statistics::PlayerStatistics,
};

/// How many documents are read at a time.
const PAGE: usize = 1_000;

impl PlayerStatistics {
    /// Removes what is kept of a player: its statistics, those of each part of a window, and its lines in
    /// the results of games; returns how many documents were changed. The games stay counted, so none of
    /// them counts for anybody again.
    ///
    /// All results are looked through: it is work for an erasure, not for each day.
    ///
    /// # Errors
    ///
    /// What the store fails with, and [`Conflict`](infra_core::ErrorKind::Conflict) if a result of the
    /// player was counted meanwhile; repeat it then.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves some of it there; it may be repeated.
    pub async fn erase(&self, player: &str) -> Result<u64> {
        let mut changed = 0;
        if self.players.get(player.as_bytes()).await?.is_some() {
            self.players.remove(player.as_bytes(), Expected::Any).await?;
            changed += 1;
        }
        changed += self.erase_windows(player).await?;
        changed += self.erase_results(player).await?;
        self.boards.clear();
        Ok(changed)
    }

    async fn erase_windows(&self, player: &str) -> Result<u64> {
        let (mut changed, mut scan) = (0, Scan::prefix("", PAGE));
        loop {
            let page = self.windows.list(scan.clone()).await?;
            let Some(last) = page.last() else { return Ok(changed) };
            scan.after = Some(last.entity.key());
            let is_its_own = |entity: &InWindow| entity.statistics.player == player;
            for found in page.iter().filter(|found| is_its_own(&found.entity)) {
                self.windows.remove(&found.entity.key(), Expected::Any).await?;
                changed += 1;
            }
        }
    }

    async fn erase_results(&self, player: &str) -> Result<u64> {
        let (mut changed, mut scan) = (0, Scan::prefix("", PAGE));
        loop {
            let page = self.documents.scan(&self.results, scan.clone()).await?;
            let Some(last) = page.last() else { return Ok(changed) };
            scan.after = Some(last.key.clone());
            let mut batch = Batch::new();
            for document in &page {
                let mut result: GameResult = document.decode()?;
                let before = result.players.len();
                result.players.retain(|own| own.player != player);
                if result.players.len() < before {
                    let (key, seen) = (document.key.clone(), Expected::Exactly(document.version));
                    let payload = Payload::json(1, &result)?;
                    batch = batch.put(self.results.clone(), key, seen, payload);
                    changed += 1;
                }
            }
            if !batch.writes.is_empty() {
                self.documents.commit(batch).await?;
            }
        }
    }
}
