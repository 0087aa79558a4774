//! The cache port over Redis.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use infra_core::{
    Clock, Error, Result,
    cache::{Cache, Found, Looked, Put, Ticket},
    health::{Finding, HealthCheck},
};
use redis::{FromRedisValue, Script, ScriptInvocation};

use super::{
    link::{Effect, Link, RedisOptions},
    script::Scripts,
};

/// Into how many slots the keys are divided, of each of which the last change is remembered. A fill is
/// refused as well if another key of its slot changed meanwhile, which costs a load and is never wrong.
const SLOTS: u32 = 8_192;

/// How many removed tags are remembered; one more begins the cache anew.
const TAGS: u32 = 10_000;

/// Keeps bytes in Redis, for all processes that use the same prefix there.
///
/// Every operation is one script, so one round trip, and atomic. It works with a single server of
/// version 7 or later, whatever its `maxmemory-policy`, with or without persistence; a cluster is refused by
/// name. A server that is restarted begins with an empty cache, since it may have lost the last
/// removals. Clearing is a change of one number; the memory comes back as values end, by the server's
/// eviction, or by [`purge`](Self::purge).
#[derive(Debug, Clone)]
pub struct RedisCache {
    pub(super) link: Arc<Link>,
    pub(super) scripts: Arc<Scripts>,
    /// The prefix in braces, so that all keys belong together.
    pub(super) prefix: Arc<str>,
}

impl RedisCache {
    /// Connects.
    ///
    /// # Errors
    ///
    /// [`Invalid`](infra_core::ErrorKind::Invalid) for the URL,
    /// [`Unsupported`](infra_core::ErrorKind::Unsupported) for a server that does not do, and
    /// [`Unavailable`](infra_core::ErrorKind::Unavailable) if there is none.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub async fn connect(options: RedisOptions, clock: Arc<dyn Clock>) -> Result<Self> {
        let prefix = options.prefix.as_str();
        if prefix.is_empty() || prefix.contains(['{', '}']) {
            return Err(Error::invalid("connect to Redis", format!("prefix {prefix:?}")));
        }
        let prefix = Arc::from(format!("{{{prefix}}}:"));
        let link = Arc::new(Link::open(options, clock).await?);
        Ok(Self { link, scripts: Arc::new(Scripts::new()), prefix })
    }

    /// Runs a script with what they all begin with.
    pub(super) async fn run<T: FromRedisValue>(
        &self,
        what: &'static str,
        effect: Effect,
        script: &Script,
        add: impl FnOnce(&mut ScriptInvocation<'_>),
    ) -> Result<T> {
        let call = async |line: super::link::Line| {
            let mut connection = line.connection;
            let mut invocation = script.key(format!("{}root", self.prefix));
            invocation.arg(&line.greeting.run).arg(&*self.prefix).arg(self.link.options().capacity);
            add(&mut invocation);
            invocation.invoke_async(&mut connection).await
        };
        self.link.call(what, effect, call).await
    }

    async fn store(&self, ticket: Option<Ticket>, puts: Vec<Put>) -> Result<u64> {
        let add = |script: &mut ScriptInvocation<'_>| {
            match ticket {
                Some(ticket) => script.arg(ticket.life).arg(ticket.tick),
                None => script.arg("").arg(0),
            };
            for put in &puts {
                let tags: BTreeSet<&String> = put.tags.iter().collect();
                script.arg(&put.key).arg(slot(&put.key)).arg(millis(put.ttl)).arg(tags.len());
                for tag in tags {
                    script.arg(tag);
                }
                script.arg(&put.value[..]);
            }
        };
        self.run("put into Redis", Effect::Writes, &self.scripts.store, add).await
    }

    /// Returns the pattern of the keys of values that begin with `prefix`.
    pub(super) fn pattern(&self, prefix: &str) -> String {
        let mut pattern = String::new();
        for part in [&*self.prefix, "v:", prefix] {
            for letter in part.chars() {
                if matches!(letter, '*' | '?' | '[' | ']' | '\\' | '^' | '-') {
                    pattern.push('\\');
                }
                pattern.push(letter);
            }
        }
        pattern.push('*');
        pattern
    }
}

/// Returns the slot of a key (FNV-1a, 32 bits; it has to be the same in every process).
pub(super) fn slot(key: &str) -> u32 {
    let mix = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(16_777_619);
    key.bytes().fold(2_166_136_261, mix) % SLOTS
}

/// Returns whole milliseconds, never more than there are; -1 for no end.
pub(super) fn millis(ttl: Option<Duration>) -> i64 {
    ttl.map_or(-1, |ttl| i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX).min(1 << 52))
}

/// A value as a script returns it.
type Answer = (Vec<u8>, i64, Vec<String>);

fn found((body, left, tags): Answer) -> Found {
    let left = u64::try_from(left).ok().map(Duration::from_millis);
    Found { value: Bytes::from(body), left, tags }
}

#[async_trait]
impl Cache for RedisCache {
    async fn look(&self, keys: &[&str]) -> Result<Looked> {
        let add = |script: &mut ScriptInvocation<'_>| {
            for key in keys {
                script.arg(*key);
            }
        };
        let answer = self.run("look in Redis", Effect::Reads, &self.scripts.look, add).await?;
        let (life, tick, values): (u64, u64, Vec<Option<Answer>>) = answer;
        let found = values.into_iter().map(|value| value.map(found)).collect();
        Ok(Looked { found, ticket: Ticket { life, tick } })
    }

    async fn put_many(&self, puts: Vec<Put>) -> Result<()> {
        self.store(None, puts).await.map(|_| ())
    }

    async fn fill(&self, ticket: Ticket, puts: Vec<Put>) -> Result<u64> {
        self.store(Some(ticket), puts).await
    }

    async fn remove_many(&self, keys: &[&str]) -> Result<u64> {
        let add = |script: &mut ScriptInvocation<'_>| {
            for key in keys.iter().collect::<BTreeSet<_>>() {
                script.arg(*key).arg(slot(key));
            }
        };
        self.run("remove from Redis", Effect::Writes, &self.scripts.remove, add).await
    }

    async fn tagged(&self, tag: &str) -> Result<Vec<String>> {
        let add = |script: &mut ScriptInvocation<'_>| {
            script.arg(tag);
        };
        self.run("look for a tag in Redis", Effect::Reads, &self.scripts.tagged, add).await
    }

    async fn remove_tag(&self, tag: &str) -> Result<u64> {
        let add = |script: &mut ScriptInvocation<'_>| {
            script.arg(tag).arg(TAGS);
        };
        self.run("remove a tag from Redis", Effect::Writes, &self.scripts.remove_tag, add).await
    }

    async fn scan(&self, prefix: &str, cursor: u64) -> Result<(Vec<String>, u64)> {
        let add = |script: &mut ScriptInvocation<'_>| {
            script.arg(cursor).arg(self.pattern(prefix));
        };
        let page = self.run("scan Redis", Effect::Reads, &self.scripts.scan, add).await?;
        let (next, keys): (u64, Vec<String>) = page;
        Ok((keys, next))
    }

    async fn clear(&self) -> Result<()> {
        let clear = self.run("clear in Redis", Effect::Writes, &self.scripts.clear, |_| {});
        clear.await.map(|_: u64| ())
    }
}

#[async_trait]
impl HealthCheck for RedisCache {
    fn name(&self) -> &'static str {
        "cache"
    }

    async fn check(&self) -> Finding {
        match self.look(&[]).await {
            Ok(_) => Finding::up(),
            // Without its second tier a cache is slower; what that means is for its user to say.
            Err(error) => Finding::degraded(format!("the second tier does not answer: {error}")),
        }
    }
}
