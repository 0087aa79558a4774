//! Leases on Redis.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use infra_core::{
    Clock, Error, ErrorKind, Result,
    backoff::Backoff,
    clock::Timestamp,
    id::Scope,
    lease::{Lease, Leases},
    random::Random,
    version::FencingToken,
};
use redis::{Script, ScriptInvocation};
use tokio::sync::watch;

use super::link::{Effect, Line, Link, RedisOptions};

/// `KEYS`: the lease and the scope's highest token. A token is the server's time in microseconds, or one
/// more than the highest if that is more; so it grows also if Redis has lost what it knew.
const ACQUIRE: &str = r"
if redis.call('EXISTS', KEYS[1]) == 1 then return false end
local time = redis.call('TIME')
local token = math.max(time[1] * 1000000 + time[2], tonumber(redis.call('GET', KEYS[2]) or '0') + 1)
local ends = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[2])
token, ends = string.format('%.0f', token), string.format('%.0f', ends)
redis.call('SET', KEYS[2], token)
redis.call('SET', KEYS[1], token .. ' ' .. ends .. ' ' .. ARGV[1], 'NX', 'PX', ARGV[2])
return { token, ends }
";

/// `ARGV`: the token, the new time to live, the owner. Returns the new end, or false.
const RENEW: &str = r"
local held = redis.call('GET', KEYS[1])
if not held or string.match(held, '^%d+') ~= ARGV[1] then return false end
local time = redis.call('TIME')
local ends = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[2]))
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. ends .. ' ' .. ARGV[3], 'XX', 'PX', ARGV[2])
return ends
";

/// `ARGV`: the token. Compares and deletes.
const RELEASE: &str = r"
local held = redis.call('GET', KEYS[1])
if not held or string.match(held, '^%d+') ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
";

/// Grants leases in Redis, to all processes that use the same prefix there.
///
/// A lease that Redis forgets, by a flush or a restart without its data, can be granted again before its
/// end; its token is higher than all before, so a store that checks [fences](infra_core::lease::Fence)
/// refuses the earlier owner. A server that may evict keys is refused at connect.
#[derive(Debug, Clone)]
pub struct RedisLeases {
    link: Arc<Link>,
    scripts: Arc<[Script; 3]>,
}

impl RedisLeases {
    /// Connects.
    ///
    /// # Errors
    ///
    /// As for [`RedisCache::connect`](super::RedisCache::connect), and
    /// [`Unsupported`](ErrorKind::Unsupported) if the server may evict keys.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub async fn connect(options: RedisOptions, clock: Arc<dyn Clock>) -> Result<Self> {
        let link = Arc::new(Link::open(options, clock).await?);
        let leases = Self { link, scripts: Arc::new([ACQUIRE, RENEW, RELEASE].map(Script::new)) };
        leases.link.call("connect to Redis", Effect::Reads, async |line| steady(&line)).await??;
        Ok(leases)
    }

    /// Takes a lease, and waits up to `wait` for it while another one holds.
    ///
    /// # Errors
    ///
    /// [`Timeout`](ErrorKind::Timeout) if another one held it all the time, and as for
    /// [`Leases::acquire`].
    ///
    /// # Cancel safety
    ///
    /// As for [`Leases::acquire`].
    pub async fn acquire_within(
        &self,
        scope: &Scope,
        owner: &str,
        ttl: Duration,
        wait: Duration,
    ) -> Result<Lease> {
        let pause =
            Backoff::exponential(Duration::from_millis(2)).capped_at(Duration::from_millis(100));
        let random = Random::from_system();
        let ask = async {
            for attempt in 1.. {
                if let Some(lease) = self.acquire(scope, owner, ttl).await? {
                    return Ok(lease);
                }
                tokio::time::sleep(pause.jittered(attempt, &random)).await;
            }
            Err(Error::new(ErrorKind::Internal, "wait for lease"))
        };
        let late =
            |_| Err(Error::new(ErrorKind::Timeout, "wait for lease").detail(scope.to_string()));
        tokio::time::timeout(wait, ask).await.unwrap_or_else(late)
    }

    /// Renews a lease in the background, each third of its time, until the guard is dropped or it is lost.
    pub fn guard(&self, lease: Lease, ttl: Duration) -> Guard {
        let (sender, state) = watch::channel(Ok(lease.clone()));
        let leases = self.clone();
        let task = tokio::spawn(async move { leases.keep(lease, ttl, sender).await });
        Guard { leases: self.clone(), state, task: Some(task) }
    }

    async fn keep(self, mut lease: Lease, ttl: Duration, state: watch::Sender<Result<Lease>>) {
        let mut left = ttl;
        loop {
            let pause = (ttl / 3).min(left);
            tokio::time::sleep(pause).await;
            left = left.saturating_sub(pause);
            match self.renew(&lease, ttl).await {
                Ok(renewed) => {
                    (lease, left) = (renewed.clone(), ttl);
                    drop(state.send_replace(Ok(renewed)));
                }
                // It still holds until its end, so it is tried again until then.
                Err(error) if error.is_transient() && !left.is_zero() => {}
                Err(error) => {
                    let lost = Error::new(ErrorKind::LeaseLost, "renew lease").because(error);
                    drop(state.send_replace(Err(lost)));
                    return;
                }
            }
        }
    }

    /// Returns the keys of a scope: that of its lease and that of its highest token.
    fn keys(&self, scope: &Scope) -> (String, String) {
        let prefix = &self.link.options().prefix;
        (format!("{prefix}:lease:{scope}"), format!("{prefix}:token:{scope}"))
    }

    async fn run<T: redis::FromRedisValue>(
        &self,
        what: &'static str,
        script: impl FnOnce(&[Script; 3]) -> ScriptInvocation<'_>,
    ) -> Result<T> {
        let call = async |line: Line| {
            if let Err(refused) = steady(&line)? {
                return Ok(Err(refused));
            }
            let mut connection = line.connection;
            script(&self.scripts).invoke_async(&mut connection).await.map(Ok)
        };
        self.link.call(what, Effect::Writes, call).await?
    }
}

/// Refuses a server that may evict keys, also one that was configured so since.
#[expect(clippy::unnecessary_wraps, reason = "it stands where a call to Redis does")]
fn steady(line: &Line) -> Result<Result<()>, redis::RedisError> {
    let refused = Error::new(ErrorKind::Unsupported, "connect to Redis")
        .detail("leases need `maxmemory-policy noeviction` or no `maxmemory`");
    Ok(if line.greeting.evicts { Err(refused) } else { Ok(()) })
}

fn lost(operation: &'static str) -> Error {
    Error::new(ErrorKind::LeaseLost, operation)
}

/// Returns whole milliseconds; none are none.
fn ttl_millis(ttl: Duration) -> Result<u64> {
    let millis = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).min(1 << 52);
    if millis == 0 {
        return Err(Error::invalid("acquire lease", "a time to live of less than a millisecond"));
    }
    Ok(millis)
}

#[async_trait]
impl Leases for RedisLeases {
    async fn acquire(&self, scope: &Scope, owner: &str, ttl: Duration) -> Result<Option<Lease>> {
        let (millis, (lease, token)) = (ttl_millis(ttl)?, self.keys(scope));
        let granted = self.run("acquire lease", |[acquire, _, _]| {
            let mut script = acquire.key(lease);
            script.key(token).arg(owner).arg(millis);
            script
        });
        let granted: Option<(u64, u64)> = granted.await?;
        Ok(granted.map(|(token, ends)| Lease {
            scope: scope.clone(),
            owner: owner.to_owned(),
            token: FencingToken::new(token),
            expires: Timestamp::from_millis(ends),
        }))
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<Lease> {
        let (millis, (key, _)) = (ttl_millis(ttl)?, self.keys(&lease.scope));
        let renewed = self.run("renew lease", |[_, renew, _]| {
            let mut script = renew.key(key);
            script.arg(lease.token.get()).arg(millis).arg(&lease.owner);
            script
        });
        let ends: Option<u64> = renewed.await?;
        let ends = ends.ok_or_else(|| lost("renew lease"))?;
        Ok(Lease { expires: Timestamp::from_millis(ends), ..lease.clone() })
    }

    async fn release(&self, lease: Lease) -> Result<()> {
        let (key, _) = self.keys(&lease.scope);
        let released = self.run("release lease", |[_, _, release]| {
            let mut script = release.key(key);
            script.arg(lease.token.get());
            script
        });
        let count: u64 = released.await?;
        if count == 0 { Err(lost("release lease")) } else { Ok(()) }
    }

    async fn holder(&self, scope: &Scope) -> Result<Option<Lease>> {
        let (key, _) = self.keys(scope);
        let call = async |line: Line| {
            let mut connection = line.connection;
            redis::cmd("GET").arg(key).query_async(&mut connection).await
        };
        let held: Option<String> = self.link.call("read lease", Effect::Reads, call).await?;
        held.map(|text| read(scope, &text)).transpose()
    }
}

/// Reads a lease as it is kept: its token, its end, its owner.
fn read(scope: &Scope, text: &str) -> Result<Lease> {
    let mut parts = text.splitn(3, ' ');
    let mut number = || parts.next().and_then(|text| text.parse::<u64>().ok());
    let (token, ends) = (number(), number());
    match (token, ends, parts.next()) {
        (Some(token), Some(ends), Some(owner)) => Ok(Lease {
            scope: scope.clone(),
            owner: owner.to_owned(),
            token: FencingToken::new(token),
            expires: Timestamp::from_millis(ends),
        }),
        _ => Err(Error::new(ErrorKind::Corrupt, "read lease").detail(format!("{text:?}"))),
    }
}

/// A lease that is renewed while this is held.
#[derive(Debug)]
pub struct Guard {
    leases: RedisLeases,
    state: watch::Receiver<Result<Lease>>,
    task: Option<tokio::task::JoinHandle<()>>,
}

impl Guard {
    /// Returns the lease with its present end.
    ///
    /// # Errors
    ///
    /// [`LeaseLost`](ErrorKind::LeaseLost) if it could not be renewed.
    pub fn lease(&self) -> Result<Lease> {
        self.state.borrow().clone()
    }

    /// Waits until the lease is lost, and returns why.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn lost(&self) -> Error {
        let mut state = self.state.clone();
        match state.wait_for(Result::is_err).await.as_deref() {
            Ok(Err(error)) => error.clone(),
            Ok(Ok(_)) | Err(_) => lost("renew lease"),
        }
    }

    /// Ends the lease before its time.
    ///
    /// # Errors
    ///
    /// As for [`Leases::release`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave the lease to end by itself.
    pub async fn release(mut self) -> Result<()> {
        if let Some(task) = self.task.take() {
            task.abort();
            // A renewal that is on its way has ended when this returns.
            let _ended = task.await.is_ok();
        }
        let lease = self.lease()?;
        self.leases.release(lease).await
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}
