//! Counters that many processes share.

use std::time::Duration;

use infra_core::Result;
use redis::ScriptInvocation;

use super::{
    link::Effect,
    tier::{RedisCache, millis, slot},
};

impl RedisCache {
    /// Adds to the number under a key, atomically, and returns the sum; one that is not there is zero,
    /// and lives for `ttl` from then on, or without end.
    ///
    /// The number is a value like any other: [`get`](infra_core::cache::CacheExt::get) finds its decimal
    /// digits.
    ///
    /// # Errors
    ///
    /// [`Invalid`](infra_core::ErrorKind::Invalid) if the value is no integer, or the sum does not fit
    /// 64 bits; it is left as it is. As for [`put_many`](infra_core::cache::Cache::put_many) otherwise,
    /// except that repeating an [`Indeterminate`](infra_core::ErrorKind::Indeterminate) one may count twice.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the number changed or not.
    pub async fn increment(&self, key: &str, by: i64, ttl: Option<Duration>) -> Result<i64> {
        let add = |script: &mut ScriptInvocation<'_>| {
            script.arg(key).arg(slot(key)).arg(by).arg(millis(ttl));
        };
        self.run("count in Redis", Effect::Counts, &self.scripts.increment, add).await
    }
}
