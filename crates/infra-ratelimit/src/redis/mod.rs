//! Limits of a cluster: one script in Redis decides over all charges, by the server's time.
//!
//! ```text
//!        decides in Redis                        decides by itself
//!   +---------------------+  slow or gone  +---------------------------+
//!   |         up          | -------------> |           lost            |
//!   | notes what is spent |                | a share of each limit, or |
//!   |  of the share too   | <------------- | all, or nothing           |
//!   +---------------------+  merges spent  +---------------------------+
//! ```
//!
//! When Redis does not answer within the timeout, or cannot be reached, a node decides by itself by
//! the declared [`Outage`] policy. The default, [`Outage::Share`], enforces an n-th of each limit.
//! The share starts from what the node last saw spent, so no node gets a fresh budget. So over all
//! nodes no more passes than the limit and, once for each node, what was spent between its last
//! sight of a key and the outage (at most its share); for a capacity below the number of nodes, one
//! for each node. When Redis answers again, each node adds what it let pass meanwhile and is not
//! given back by time yet, then asks Redis again.
//!
//! All keys of a namespace have one hash tag, so that a decision over several keys is one script in
//! a Redis cluster too.

mod outage;
mod permits;
mod script;
mod store;

use std::{
    num::NonZeroU32,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use async_trait::async_trait;
use infra_core::{
    Clock, Error, ErrorKind, Result,
    health::{Finding, HealthCheck},
    limit::{Charge, Decision, RateLimiter, Reservation, Settle, Verdict},
    random::Random,
};

use self::{
    outage::Share,
    permits::Permit,
    script::{Line, Mode},
    store::Store,
};
use crate::{
    decision::{ACQUIRE, check, sign, worst},
    limit::Limit,
    limiter::Limiter,
    telemetry::{Outcome, SIGNS, count_decision},
    watch::Watch,
};

/// Who decides while Redis is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Outage {
    /// This node, over an n-th of each limit.
    #[default]
    Share,
    /// Nobody: everything passes.
    Open,
    /// Nobody: a decision is an error, [`Unavailable`](infra_core::ErrorKind::Unavailable).
    Closed,
}

/// Whose time a decision is taken by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Time {
    /// The server's, so that nodes need not agree on it.
    #[default]
    Server,
    /// The limiter's clock; for tests, whose nodes share one. Keys still end by the server's time, so
    /// a clock that stands still for longer than a limit takes to fill forgets what was spent.
    Clock,
}

/// How a limiter talks to Redis.
#[derive(Debug, Clone)]
pub struct Options {
    url: String,
    namespace: String,
    nodes: NonZeroU32,
    timeout: Duration,
    lease: Duration,
    probe: Duration,
    outage: Outage,
    time: Time,
}

impl Options {
    /// Creates options for a server, and for keys that begin with a namespace.
    pub fn new(url: impl Into<String>, namespace: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            namespace: namespace.into(),
            nodes: NonZeroU32::MIN,
            timeout: Duration::from_millis(50),
            lease: Duration::from_mins(10),
            probe: Duration::from_millis(250),
            outage: Outage::Share,
            time: Time::Server,
        }
    }

    /// Sets how many nodes share the limits, this one with them; 1 by default.
    #[must_use]
    pub const fn nodes(mut self, nodes: NonZeroU32) -> Self {
        self.nodes = nodes;
        self
    }

    /// Sets how long a decision waits for Redis before it counts as lost; 50 ms by default.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how long a permit counts if its node dies; 10 minutes by default. While the node lives
    /// it renews the leases of all permits that it holds, three times in each.
    #[must_use]
    pub const fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Sets the mean time between two attempts to reach a lost Redis; 250 ms by default. Each is
    /// drawn between half and one and a half of it, so that nodes do not come back at once.
    #[must_use]
    pub const fn probe(mut self, probe: Duration) -> Self {
        self.probe = probe;
        self
    }

    /// Sets who decides while Redis is lost; each node its share by default.
    #[must_use]
    pub const fn outage(mut self, outage: Outage) -> Self {
        self.outage = outage;
        self
    }

    /// Sets whose time decides; the server's by default.
    #[must_use]
    pub const fn time(mut self, time: Time) -> Self {
        self.time = time;
        self
    }
}

/// Decides over limits that are declared here and counted in Redis. Clones are the same limiter.
///
/// A permit of [`Limit::concurrent`] is counted with a lease, see [`Options::lease`]: it is renewed
/// while the permit is held, so none leaks for good and none is lost. A reservation
/// that ends is given back before the next decision of this limiter, or soon if there is none.
#[derive(Debug, Clone)]
pub struct RedisLimiter {
    store: Arc<Store>,
    share: Arc<Share>,
    outage: Outage,
    watch: Option<Arc<dyn Watch>>,
}

/// What Redis said of one charge.
#[derive(Debug)]
struct Told {
    decision: Decision,
    limit: Limit,
    before: u32,
    after: u32,
}

impl RedisLimiter {
    /// Connects; if Redis cannot be reached in time, it starts as lost.
    ///
    /// # Errors
    ///
    /// [`Invalid`](infra_core::ErrorKind::Invalid) if the URL is none.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing behind.
    pub async fn connect(options: Options, clock: Arc<dyn Clock>) -> Result<Self> {
        let outage = options.outage;
        let share = Arc::new(Share::new(Limiter::new(Arc::clone(&clock)), options.nodes));
        let random = Random::from_system();
        let store = Store::connect(options, clock, random, Arc::clone(&share)).await?;
        Ok(Self { store, share, outage, watch: None })
    }

    /// Declares a limit; a second one of the same name replaces it, as [`RedisLimiter::change`] does.
    ///
    /// # Errors
    ///
    /// [`Invalid`](infra_core::ErrorKind::Invalid) if a node's share of it takes more than a year to
    /// fill.
    pub fn limit(self, name: &'static str, limit: impl Into<Limit>) -> Result<Self> {
        self.share.declare(name, limit.into())?;
        Ok(self)
    }

    /// Replaces a limit while it is used, also by one that counts in another way.
    ///
    /// What a key has spent stays spent, as of now: one that had nothing left has the difference left
    /// if the capacity grows, and nothing if it shrinks. The time before counts at the old rate, the
    /// time from now on at the new one.
    ///
    /// It is this limiter that knows of it, so each node is told; until then the others decide by
    /// what they have. Nothing is sent: the script carries a key over when it is next asked for. So of
    /// several changes meanwhile it sees the last, and a key that nobody asks for until a minute after
    /// the old limit would have been full has spent nothing.
    ///
    /// # Errors
    ///
    /// [`Invalid`](infra_core::ErrorKind::Invalid) if the limit is not declared, or if a node's share
    /// of it takes more than a year to fill.
    pub fn change(&self, name: &str, limit: impl Into<Limit>) -> Result<()> {
        self.share.declare(self.share.name(name)?, limit.into())
    }

    /// Tells `watch` of near limits, refusals and what limits on trial would refuse.
    #[must_use]
    pub fn watch(mut self, watch: Arc<dyn Watch>) -> Self {
        self.watch = Some(watch);
        self
    }

    /// Gives one key a limit of its own, as a tier or an exception; it counts in the same way as the
    /// limit of all.
    ///
    /// It is this limiter that knows of it, so each node is told. What the key has spent stays spent.
    ///
    /// # Errors
    ///
    /// [`Invalid`](infra_core::ErrorKind::Invalid) if the limit is not declared, or counts in another
    /// way; [`Overloaded`](infra_core::ErrorKind::Overloaded) beyond 65,536 keys of a limit.
    pub fn assign(&self, name: &str, key: &str, limit: impl Into<Limit>) -> Result<()> {
        self.share.assign(name, key, limit.into())
    }

    /// Puts a key back under the limit of all others.
    ///
    /// # Errors
    ///
    /// [`Invalid`](infra_core::ErrorKind::Invalid) if the limit is not declared.
    pub fn unassign(&self, name: &str, key: &str) -> Result<()> {
        self.share.unassign(name, key)
    }

    /// Forgets what a key has spent, and that it is blocked, for all nodes.
    ///
    /// # Errors
    ///
    /// [`Invalid`](infra_core::ErrorKind::Invalid) if the limit is not declared;
    /// [`Unavailable`](infra_core::ErrorKind::Unavailable) while Redis is lost: then only this node's
    /// share has forgotten it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves it done or not done; it may be repeated.
    pub async fn reset(&self, name: &str, key: &str) -> Result<()> {
        let name = self.share.name(name)?;
        self.share.reset(name, key)?;
        let lines = self.lines(&[Charge::one(name, key)], Mode::Peek)?;
        for line in &lines {
            if !self.store.forget(line).await {
                return Err(Error::new(ErrorKind::Unavailable, "reset limit"));
            }
        }
        Ok(())
    }

    /// Returns whether Redis is lost at the moment.
    pub fn is_lost(&self) -> bool {
        self.store.is_lost.load(Ordering::Acquire)
    }

    fn lines(&self, charges: &[Charge], purpose: Mode) -> Result<Vec<Line>> {
        check(charges)?;
        charges.iter().map(|charge| self.line(charge, purpose)).collect()
    }

    fn line(&self, charge: &Charge, purpose: Mode) -> Result<Line> {
        let refuse = |why| Error::invalid(ACQUIRE, format!("limit {} is {why}", charge.limit));
        let current = self.share.current(charge.limit, &charge.key);
        let current = current.ok_or_else(|| refuse("not declared"))?;
        if purpose == Mode::Acquire && current.limit.is_held() {
            return Err(refuse("held, so it is reserved"));
        }
        Ok(self.store.line(charge, current))
    }

    /// Asks Redis; none if it is lost.
    async fn ask(&self, lines: &[Line], mode: Mode) -> Option<(u64, Vec<Told>)> {
        let answer = self.store.ask(lines, mode).await?;
        let told = lines.iter().zip(&answer.lines).map(|(line, said)| {
            let (verdict, after) = match said.code {
                0 => (Verdict::Admitted, said.spent.saturating_add(line.cost)),
                1 => (Verdict::RetryAfter(said.wait.max(Duration::from_nanos(1))), said.spent),
                _ => (Verdict::Never, said.spent),
            };
            let decision = Decision {
                verdict,
                limit: line.name,
                capacity: line.limit.capacity(),
                remaining: line.limit.capacity().saturating_sub(after),
                reset: said.reset,
                window: line.limit.window(),
            };
            Told { decision, limit: line.limit, before: said.spent, after }
        });
        Some((answer.now, told.collect()))
    }

    async fn decide(&self, charges: &[Charge], mode: Mode) -> Result<Option<(u64, Decision)>> {
        let lines = self.lines(charges, mode)?;
        if self.is_lost() {
            return Ok(None);
        }
        let Some((now, told)) = self.ask(&lines, mode).await else { return Ok(None) };
        let decision = worst(told.iter().map(|one| (&one.decision, one.limit.is_shadow)))?;
        if mode != Mode::Peek {
            self.note(charges, &told, &decision);
        }
        Ok(Some((now, decision)))
    }

    /// Notes what is spent for an outage to come, and tells what is worth telling.
    fn note(&self, charges: &[Charge], told: &[Told], decision: &Decision) {
        count_decision(Outcome::of(decision.verdict));
        for (charge, one) in charges.iter().zip(told) {
            let is_paid = decision.is_admitted() && one.decision.is_admitted();
            // Permits come and go without a decision, so what was seen of them says nothing.
            if !one.limit.is_held() {
                self.share.note(charge, if is_paid { one.after } else { one.before });
            }
            let sign = sign(&one.limit, one.decision.verdict, one.before, one.after);
            let Some(sign) = sign.filter(|sign| sign.is_true_of(decision)) else { continue };
            SIGNS.add_for(sign, 1);
            if let Some(watch) = &self.watch {
                watch.saw(sign, charge, &one.decision);
            }
        }
    }

    /// Returns what gives back what was paid at a time.
    fn refund(&self, charges: &[Charge], paid_at: u64) -> Refund {
        let is_permit = |charge: &&Charge| self.share.is_held(charge);
        let (permits, charges): (Vec<&Charge>, Vec<&Charge>) = charges.iter().partition(is_permit);
        let take = |charge: &Charge| self.store.permits().take(charge.clone(), paid_at);
        Refund {
            alone: None,
            store: Arc::clone(&self.store),
            share: Arc::clone(&self.share),
            charges: charges.into_iter().cloned().collect(),
            paid_at,
            permits: permits.into_iter().map(take).collect(),
        }
    }

    /// Decides while Redis is lost.
    async fn decide_alone(
        &self,
        charges: &[Charge],
        mode: Mode,
    ) -> Result<(Decision, Option<Reservation>)> {
        match self.outage {
            Outage::Closed => Err(Error::new(ErrorKind::Unavailable, ACQUIRE)),
            Outage::Open => {
                let free = charges.first().map(|charge| Decision {
                    verdict: Verdict::Admitted,
                    limit: charge.limit,
                    capacity: 0,
                    remaining: 0,
                    reset: Duration::ZERO,
                    window: Duration::ZERO,
                });
                let free = free.ok_or_else(|| Error::invalid(ACQUIRE, "no charge"))?;
                Ok((free, Some(Reservation::new(Box::new(Free)))))
            }
            Outage::Share => {
                let (decision, reservation) = self.share.decide(charges, mode).await?;
                // Redis is told of the permits when it is back, if they are still out.
                let permits: Vec<_> =
                    charges.iter().filter(|charge| self.share.is_held(charge)).cloned().collect();
                let both = |alone| {
                    let told = Refund { alone: Some(alone), ..self.refund(&permits, 0) };
                    Reservation::new(Box::new(told))
                };
                Ok((decision, reservation.map(both)))
            }
        }
    }
}

/// A reservation of nothing.
#[derive(Debug)]
struct Free;

impl Settle for Free {
    fn settle(&mut self, _actual: u32) {}
}

/// Gives back to Redis what a reservation did not use, by the limits as they are then.
#[derive(Debug)]
struct Refund {
    /// What was paid while Redis was lost.
    alone: Option<Reservation>,
    store: Arc<Store>,
    share: Arc<Share>,
    /// What is no permit.
    charges: Vec<Charge>,
    paid_at: u64,
    /// The numbers of the permits.
    permits: Vec<u64>,
}

impl Refund {
    fn end(&mut self, unused: impl Fn(u32) -> u32) {
        for charge in std::mem::take(&mut self.charges) {
            self.give_back(&charge, unused(charge.cost.get()), self.paid_at);
        }
        for number in std::mem::take(&mut self.permits) {
            if let Some(Permit { charge, paid_at }) = self.store.permits().give_back(number) {
                self.give_back(&charge, charge.cost.get(), paid_at);
            }
        }
    }

    fn give_back(&self, charge: &Charge, unused: u32, paid_at: u64) {
        if let Some(current) = self.share.current(charge.limit, &charge.key)
            && 0 < unused
        {
            let line = self.store.line(charge, current);
            self.store.settle_later(Line { unused, paid_at, ..line });
        }
    }
}

impl Settle for Refund {
    fn settle(&mut self, actual: u32) {
        if let Some(alone) = self.alone.take() {
            alone.settle(actual);
        }
        self.end(|cost| cost.saturating_sub(actual));
    }

    fn keep(&mut self) {
        if let Some(alone) = self.alone.take() {
            alone.keep();
        }
        self.end(|_| 0);
    }
}

#[async_trait]
impl RateLimiter for RedisLimiter {
    async fn acquire(&self, charges: &[Charge]) -> Result<Decision> {
        match self.decide(charges, Mode::Acquire).await? {
            Some((_, decision)) => Ok(decision),
            None => Ok(self.decide_alone(charges, Mode::Acquire).await?.0),
        }
    }

    async fn reserve(&self, charges: &[Charge]) -> Result<(Decision, Option<Reservation>)> {
        let Some((paid_at, decision)) = self.decide(charges, Mode::Reserve).await? else {
            return self.decide_alone(charges, Mode::Reserve).await;
        };
        if !decision.is_admitted() {
            return Ok((decision, None));
        }
        Ok((decision, Some(Reservation::new(Box::new(self.refund(charges, paid_at))))))
    }

    async fn peek(&self, charges: &[Charge]) -> Result<Decision> {
        match self.decide(charges, Mode::Peek).await? {
            Some((_, decision)) => Ok(decision),
            None => Ok(self.decide_alone(charges, Mode::Peek).await?.0),
        }
    }
}

#[async_trait]
impl HealthCheck for RedisLimiter {
    fn name(&self) -> &'static str {
        "limiter"
    }

    async fn check(&self) -> Finding {
        if self.store.is_there().await {
            return Finding::up();
        }
        match self.outage {
            Outage::Share => Finding::degraded("Redis is lost: this node enforces its share"),
            Outage::Open => Finding::degraded("Redis is lost: everything passes"),
            Outage::Closed => Finding::down("Redis is lost: nothing passes"),
        }
    }
}
