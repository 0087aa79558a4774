//! Giving memory back.

use infra_core::Result;
use redis::ScriptInvocation;

use super::{link::Effect, tier::RedisCache};

impl RedisCache {
    /// Takes away what is still in Redis but not found any more: what was cleared, what carries a removed
    /// tag, what is of an earlier life. Returns how many values that were.
    ///
    /// It goes through all keys of the server's database, 500 at a time.
    ///
    /// # Errors
    ///
    /// As for [`look`](infra_core::cache::Cache::look).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the rest for the next time.
    pub async fn purge(&self) -> Result<u64> {
        let (mut purged, mut cursor) = (0, 0);
        loop {
            let add = |script: &mut ScriptInvocation<'_>| {
                script.arg(cursor).arg(self.pattern(""));
            };
            let page = self.run("purge Redis", Effect::Writes, &self.scripts.purge, add).await?;
            let (next, dropped): (u64, u64) = page;
            purged += dropped;
            cursor = next;
            if cursor == 0 {
                return Ok(purged);
            }
        }
    }
}
