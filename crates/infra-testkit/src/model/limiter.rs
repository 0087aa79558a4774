//! The limiter as the contract reads: buckets that drip back, and windows, counted in nanoseconds.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use infra_core::{
    Clock, Error, Result,
    limit::{Charge, Decision, RateLimiter, Reservation, Settle, Verdict},
};
use parking_lot::Mutex;

use super::window::{Admitted, Window};
use crate::contract::limit::Counting;

/// How a limit counts.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// A bucket, by the time until one is back.
    Bucket(Duration),
    Window(Window),
}

/// A limit and a key of it.
type At = (&'static str, String);

/// What is known of each key.
#[derive(Debug, Default)]
struct State {
    /// The time until the bucket is full, as of a moment.
    buckets: HashMap<At, (Duration, Duration)>,
    windows: HashMap<At, Admitted>,
}

/// What is left of a limit, and the time until it is full.
type Left = (u32, Duration);

/// A charge that was judged.
struct Judged {
    at: At,
    cost: u32,
    verdict: Verdict,
    capacity: u32,
    window: Duration,
    before: Left,
    after: Left,
}

impl State {
    fn judge(&self, charge: &Charge, (capacity, kind): (u32, Kind), now: Duration) -> Judged {
        let at = (charge.limit, charge.key.clone());
        let cost = charge.cost.get();
        let (wait, before, after) = match kind {
            Kind::Bucket(each) => {
                let owed = self.owed(&at, now);
                let left = |owed: Duration| {
                    let left = (each * capacity).saturating_sub(owed).as_nanos() / each.as_nanos();
                    (u32::try_from(left).unwrap_or(u32::MAX), owed)
                };
                let wait = (owed + each * cost).saturating_sub(each * capacity);
                (wait, left(owed), left(owed + each * cost))
            }
            Kind::Window(window) => {
                let admitted = self.windows.get(&at).cloned().unwrap_or_default();
                let left = |admitted: &Admitted| {
                    let count = window.count(admitted, now);
                    (capacity.saturating_sub(count), window.until(admitted, 0, now))
                };
                let wait = window.until(&admitted, capacity.saturating_sub(cost), now);
                let mut after = admitted.clone();
                after.push((now, cost));
                (wait, left(&admitted), left(&after))
            }
        };
        let verdict = match wait {
            _ if capacity < cost => Verdict::Never,
            Duration::ZERO => Verdict::Admitted,
            wait => Verdict::RetryAfter(wait),
        };
        let window = match kind {
            Kind::Bucket(each) => each * capacity,
            Kind::Window(window) => window.length,
        };
        Judged { at, cost, verdict, capacity, window, before, after }
    }

    /// Returns the time until a bucket is full.
    fn owed(&self, at: &At, now: Duration) -> Duration {
        let full = self.buckets.get(at);
        full.map_or(Duration::ZERO, |(owed, since)| owed.saturating_sub(now.saturating_sub(*since)))
    }

    fn pay(&mut self, at: &At, cost: u32, kind: Kind, now: Duration) {
        match kind {
            Kind::Bucket(each) => {
                let owed = self.owed(at, now) + each * cost;
                self.buckets.insert(at.clone(), (owed, now));
            }
            Kind::Window(_) => self.windows.entry(at.clone()).or_default().push((now, cost)),
        }
    }

    /// Gives back what was paid at a moment and not used.
    fn refund(&mut self, at: &At, unused: u32, kind: Kind, (paid, now): (Duration, Duration)) {
        match kind {
            Kind::Bucket(each) => {
                if let Some((owed, _)) = self.buckets.get_mut(at) {
                    let dripped = now.saturating_sub(paid);
                    *owed = owed.saturating_sub((each * unused).saturating_sub(dripped));
                }
            }
            Kind::Window(_) => {
                let admitted = self.windows.entry(at.clone()).or_default();
                if let Some((_, cost)) = admitted.iter_mut().rfind(|(when, _)| *when == paid) {
                    *cost = cost.saturating_sub(unused);
                }
            }
        }
    }
}

/// Keeps buckets and windows in maps.
#[derive(Debug)]
pub struct ModelLimiter {
    clock: Arc<dyn Clock>,
    limits: HashMap<&'static str, (u32, Kind)>,
    state: Arc<Mutex<State>>,
}

impl ModelLimiter {
    /// Creates a limiter of buckets: name, what it holds, time until one is back. Time comes from
    /// `clock`.
    pub fn new(
        limits: impl IntoIterator<Item = (&'static str, u32, Duration)>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let limits =
            limits.into_iter().map(|(name, capacity, each)| (name, (capacity, Kind::Bucket(each))));
        Self { clock, limits: limits.collect(), state: Arc::default() }
    }

    /// Adds windows: name, how it counts, what it admits, how long it is.
    #[must_use]
    pub fn windows(
        mut self,
        windows: impl IntoIterator<Item = (&'static str, Counting, u32, Duration)>,
    ) -> Self {
        self.limits.extend(windows.into_iter().map(|(name, counting, capacity, length)| {
            (name, (capacity, Kind::Window(Window { counting, length })))
        }));
        self
    }

    fn now(&self) -> Duration {
        self.clock.now().since_start()
    }

    /// Decides; pays if it is asked to and everything fits.
    fn decide(&self, charges: &[Charge], is_paying: bool) -> Result<Decision> {
        let refuse = |what: String| Err(Error::invalid("acquire", what));
        let mut state = self.state.lock();
        let now = self.now();
        let mut seen = HashSet::new();
        let mut judged = Vec::new();
        for charge in charges {
            let Some(limit) = self.limits.get(charge.limit).copied() else {
                return refuse(format!("limit {} is not declared", charge.limit));
            };
            if !seen.insert((charge.limit, &charge.key)) {
                return refuse(format!("limit {} and key {} twice", charge.limit, charge.key));
            }
            judged.push((state.judge(charge, limit, now), limit.1));
        }
        let is_admitted = judged.iter().all(|(one, _)| one.verdict == Verdict::Admitted);
        if is_admitted && is_paying {
            for (one, kind) in &judged {
                state.pay(&one.at, one.cost, *kind, now);
            }
        }
        let told = judged.into_iter().map(|(one, _)| {
            let Judged { at, verdict, capacity, window, before, after, .. } = one;
            let (remaining, reset) = if is_admitted { after } else { before };
            Decision { verdict, limit: at.0, capacity, remaining, reset, window }
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
            let (_, kind) = self.limits.get(charge.limit)?;
            Some(((charge.limit, charge.key.clone()), charge.cost.get(), *kind))
        });
        let paid = Paid {
            state: Arc::clone(&self.state),
            charges: paid.collect(),
            clock: Arc::clone(&self.clock),
            at: self.now(),
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
    state: Arc<Mutex<State>>,
    charges: Vec<(At, u32, Kind)>,
    clock: Arc<dyn Clock>,
    at: Duration,
}

impl Settle for Paid {
    fn settle(&mut self, actual: u32) {
        let now = self.clock.now().since_start();
        let mut state = self.state.lock();
        for (at, cost, kind) in &self.charges {
            state.refund(at, cost.saturating_sub(actual), *kind, (self.at, now));
        }
    }
}
