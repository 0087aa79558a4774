//! The limiter as the contract reads: buckets that drip back, counted in nanoseconds.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use infra_core::{
    Clock, Error, Result,
    clock::Instant,
    limit::{Charge, Decision, RateLimiter, Reservation, Settle, Verdict},
};
use parking_lot::Mutex;

/// Limits by name: what one holds when it is full, and the time until one is back.
type Limits = HashMap<&'static str, (u32, Duration)>;

/// For each limit and key, the time until it is full, as of a moment.
type Buckets = HashMap<(&'static str, String), (Duration, Instant)>;

/// Keeps buckets in a map.
#[derive(Debug)]
pub struct ModelLimiter {
    clock: Arc<dyn Clock>,
    limits: Limits,
    buckets: Arc<Mutex<Buckets>>,
}

impl ModelLimiter {
    /// Creates a limiter of `limits`; time comes from `clock`.
    pub fn new(
        limits: impl IntoIterator<Item = (&'static str, u32, Duration)>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let limits = limits.into_iter().map(|(name, capacity, each)| (name, (capacity, each)));
        Self { clock, limits: limits.collect(), buckets: Arc::default() }
    }

    /// Decides; pays if it is asked to and everything fits.
    fn decide(&self, charges: &[Charge], is_paying: bool) -> Result<Decision> {
        let refuse = |what: String| Err(Error::invalid("acquire", what));
        let mut seen = HashSet::new();
        let mut buckets = self.buckets.lock();
        let now = self.clock.now();
        let mut afters = Vec::new();
        let mut decisions = Vec::new();
        for charge in charges {
            let Some((capacity, each)) = self.limits.get(charge.limit).copied() else {
                return refuse(format!("limit {} is not declared", charge.limit));
            };
            let at = (charge.limit, charge.key.clone());
            if !seen.insert(at.clone()) {
                return refuse(format!("limit {} and key {} twice", charge.limit, charge.key));
            }
            let owed = buckets
                .get(&at)
                .map_or(Duration::ZERO, |(owed, since)| owed.saturating_sub(now.since(*since)));
            let (full, cost) = (each * capacity, each * charge.cost.get());
            let verdict = match (owed + cost).checked_sub(full) {
                _ if full < cost => Verdict::Never,
                None | Some(Duration::ZERO) => Verdict::Admitted,
                Some(wait) => Verdict::RetryAfter(wait),
            };
            afters.push((at, owed + cost, now));
            decisions.push((charge.limit, capacity, each, owed, cost, verdict));
        }
        let is_admitted = decisions.iter().all(|decision| decision.5 == Verdict::Admitted);
        if is_admitted && is_paying {
            buckets.extend(afters.into_iter().map(|(at, owed, now)| (at, (owed, now))));
        }
        let told = decisions.into_iter().map(|(limit, capacity, each, owed, cost, verdict)| {
            let owed = if is_admitted { owed + cost } else { owed };
            let remaining = (each * capacity).saturating_sub(owed).as_nanos() / each.as_nanos();
            let remaining = u32::try_from(remaining).unwrap_or(u32::MAX);
            Decision { verdict, limit, capacity, remaining, reset: owed, window: each * capacity }
        });
        // What can never pass comes first, then the longest wait, then the least left.
        let worst = told.min_by_key(|decision| match decision.verdict {
            Verdict::Never => (0, Duration::ZERO, 0),
            Verdict::RetryAfter(wait) => (1, Duration::MAX.saturating_sub(wait), 0),
            Verdict::Admitted => (2, Duration::ZERO, decision.remaining),
        });
        worst.map_or_else(|| refuse("no charge".to_owned()), Ok)
    }
}

#[async_trait]
impl RateLimiter for ModelLimiter {
    async fn acquire(&self, charges: &[Charge]) -> Result<Decision> {
        self.decide(charges, true)
    }

    async fn reserve(&self, charges: &[Charge]) -> Result<(Decision, Option<Reservation>)> {
        let decision = self.decide(charges, true)?;
        let paid = charges.iter().filter_map(|charge| {
            let (_, each) = self.limits.get(charge.limit)?;
            Some(((charge.limit, charge.key.clone()), charge.cost.get(), *each))
        });
        let paid = Paid {
            buckets: Arc::clone(&self.buckets),
            charges: paid.collect(),
            clock: Arc::clone(&self.clock),
            at: self.clock.now(),
        };
        let is_admitted = decision.is_admitted();
        Ok((decision, is_admitted.then(|| Reservation::new(Box::new(paid)))))
    }

    async fn peek(&self, charges: &[Charge]) -> Result<Decision> {
        self.decide(charges, false)
    }
}

/// What was paid in advance.
#[derive(Debug)]
struct Paid {
    buckets: Arc<Mutex<Buckets>>,
    charges: Vec<((&'static str, String), u32, Duration)>,
    clock: Arc<dyn Clock>,
    at: Instant,
}

impl Settle for Paid {
    fn settle(&mut self, actual: u32) {
        let dripped = self.clock.now().since(self.at);
        let mut buckets = self.buckets.lock();
        for (at, cost, each) in &self.charges {
            if let Some((owed, _)) = buckets.get_mut(at) {
                let unused = *each * cost.saturating_sub(actual);
                *owed = owed.saturating_sub(unused.saturating_sub(dripped));
            }
        }
    }
}
