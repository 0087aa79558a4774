//! The limiter: all charges of a request, in one decision.

use std::{collections::BTreeMap, num::NonZeroU32, sync::Arc, time::Duration};

use async_trait::async_trait;
use infra_core::{
    Clock, Error, Result,
    limit::{Charge, Decision, RateLimiter, Reservation, Settle, Verdict},
};
use parking_lot::Mutex;

use crate::{
    bucket::{Answer, Bucket, nanos},
    keys::{Keys, Place},
    quota::Quota,
    telemetry::{DECISIONS, KEYS, Outcome, SHARED},
};

/// How many keys one limit keeps by default.
const DEFAULT_KEYS: usize = 100_000;

#[derive(Debug)]
struct Limit {
    bucket: Bucket,
    keys: Keys,
}

type Limits = BTreeMap<&'static str, Limit>;

/// Decides over declared limits in this process.
///
/// The decision is exact: it is taken under one lock, which is held for as long as a handful of
/// additions take and never over an await.
#[derive(Debug, Clone)]
pub struct Limiter {
    clock: Arc<dyn Clock>,
    limits: Arc<Mutex<Limits>>,
    keys: usize,
}

/// A charge that was judged and not paid yet.
#[derive(Debug, Clone)]
struct Staged {
    limit: &'static str,
    key: String,
    place: Place,
    cell: u64,
    cost: NonZeroU32,
}

impl Limiter {
    /// Creates a limiter without limits; time comes from `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, limits: Arc::default(), keys: DEFAULT_KEYS }
    }

    /// Sets how many keys the limits declared after it keep, each; 100,000 by default.
    #[must_use]
    pub const fn keys(mut self, keys: usize) -> Self {
        self.keys = keys;
        self
    }

    /// Declares a limit; a second one of the same name replaces it.
    #[must_use]
    pub fn limit(self, name: &'static str, quota: Quota) -> Self {
        // A quota has no zero in it, so there is a bucket for it.
        if let Some(bucket) = Bucket::new(quota) {
            self.limits.lock().insert(name, Limit { bucket, keys: Keys::new(self.keys) });
        }
        self
    }

    fn decide(&self, charges: &[Charge], pays: bool) -> Result<(Decision, Vec<Staged>)> {
        check(charges)?;
        let now = nanos(self.clock.now().since_start());
        let mut limits = self.limits.lock();
        let mut staged = Vec::with_capacity(charges.len());
        let mut tightest: Option<Decision> = None;
        for charge in charges {
            let limit = limits.get_mut(charge.limit).ok_or_else(|| undeclared(charge))?;
            let (place, cell) = limit.keys.find(&charge.key, now);
            match limit.bucket.judge(cell, charge.cost, now) {
                Answer::Paid(after) => {
                    let cost = charge.cost;
                    let (limit, key) = (charge.limit, charge.key.clone());
                    staged.push(Staged { limit, key, place, cell: after, cost });
                    tightest = Some(tighter(tightest, decision(charge, &limits, Some(after), now)));
                }
                Answer::Wait(pause) => {
                    let decision = decision(charge, &limits, cell, now);
                    let verdict = Verdict::RetryAfter(pause.max(Duration::from_nanos(1)));
                    return Ok((refusal(decision, verdict, Outcome::Refused, pays), Vec::new()));
                }
                Answer::Never => {
                    let decision = decision(charge, &limits, cell, now);
                    let never = refusal(decision, Verdict::Never, Outcome::Never, pays);
                    return Ok((never, Vec::new()));
                }
            }
        }
        if pays {
            pay(&mut limits, &staged);
        }
        // There is at least one charge, and every one of them was admitted.
        let decision = tightest.ok_or_else(|| Error::invalid(ACQUIRE, "no charge"))?;
        Ok((decision, staged))
    }
}

const ACQUIRE: &str = "acquire from rate limiter";

fn check(charges: &[Charge]) -> Result<()> {
    if charges.is_empty() {
        return Err(Error::invalid(ACQUIRE, "no charge"));
    }
    for (place, charge) in charges.iter().enumerate() {
        let same = |other: &&Charge| other.limit == charge.limit && other.key == charge.key;
        if charges.iter().skip(place + 1).any(|other| same(&other)) {
            let detail = format!("limit {} is charged twice for {:?}", charge.limit, charge.key);
            return Err(Error::invalid(ACQUIRE, detail));
        }
    }
    Ok(())
}

fn undeclared(charge: &Charge) -> Error {
    Error::invalid(ACQUIRE, format!("limit {} is not declared", charge.limit))
}

fn pay(limits: &mut Limits, staged: &[Staged]) {
    DECISIONS.add_for(Outcome::Admitted, 1);
    for charge in staged {
        if let Some(limit) = limits.get_mut(charge.limit) {
            limit.keys.set(charge.place, &charge.key, charge.cell);
            SHARED.add(u64::from(charge.place == Place::Shared));
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a double")]
    KEYS.set(limits.values().map(|limit| limit.keys.len()).sum::<usize>() as f64);
}

/// Describes a limit with this cell, as if the request were admitted.
fn decision(charge: &Charge, limits: &Limits, cell: Option<u64>, now: u64) -> Decision {
    let bucket = limits.get(charge.limit).map(|limit| &limit.bucket);
    Decision {
        verdict: Verdict::Admitted,
        limit: charge.limit,
        capacity: bucket.map_or(0, |bucket| bucket.quota().capacity()),
        remaining: bucket.map_or(0, |bucket| bucket.remaining(cell, now)),
        reset: Duration::from_nanos(cell.map_or(0, |cell| cell.saturating_sub(now))),
    }
}

/// Returns the decision with the least left.
fn tighter(one: Option<Decision>, other: Decision) -> Decision {
    one.into_iter()
        .chain([other.clone()])
        .min_by_key(|decision| decision.remaining)
        .unwrap_or(other)
}

fn refusal(mut decision: Decision, verdict: Verdict, outcome: Outcome, pays: bool) -> Decision {
    if pays {
        DECISIONS.add_for(outcome, 1);
    }
    decision.verdict = verdict;
    decision
}

/// Gives back what a reservation did not use.
#[derive(Debug)]
struct Refund {
    limits: Arc<Mutex<Limits>>,
    staged: Vec<Staged>,
}

impl Settle for Refund {
    fn settle(&mut self, actual: u32) {
        let mut limits = self.limits.lock();
        for charge in self.staged.drain(..) {
            let unused = charge.cost.get().saturating_sub(actual);
            if let Some(Limit { bucket, keys }) = limits.get_mut(charge.limit) {
                keys.change(charge.place, &charge.key, |cell| bucket.refund(cell, unused));
            }
        }
    }
}

#[async_trait]
impl RateLimiter for Limiter {
    async fn acquire(&self, charges: &[Charge]) -> Result<Decision> {
        self.decide(charges, true).map(|(decision, _)| decision)
    }

    async fn reserve(&self, charges: &[Charge]) -> Result<(Decision, Option<Reservation>)> {
        let (decision, staged) = self.decide(charges, true)?;
        let refund = Refund { limits: Arc::clone(&self.limits), staged };
        let reservation = decision.is_admitted().then(|| Reservation::new(Box::new(refund)));
        Ok((decision, reservation))
    }

    async fn peek(&self, charges: &[Charge]) -> Result<Decision> {
        self.decide(charges, false).map(|(decision, _)| decision)
    }
}
