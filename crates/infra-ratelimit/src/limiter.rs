//! The limiter: all charges of a request, in one decision.

use std::{sync::Arc, time::Duration};

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

/// The declared limits; there are a handful, so looking through them beats hashing.
#[derive(Debug, Default)]
struct Limits {
    all: Vec<(&'static str, Limit)>,
    /// How many keys they keep together, as it was told last.
    told: usize,
}

impl Limits {
    fn get_mut(&mut self, name: &str) -> Option<&mut Limit> {
        self.all.iter_mut().find(|(own, _)| *own == name).map(|(_, limit)| limit)
    }

    fn declare(&mut self, name: &'static str, limit: Limit) {
        self.all.retain(|(own, _)| *own != name);
        self.all.push((name, limit));
    }

    /// Tells how many keys are kept, if that has changed.
    fn tell(&mut self) {
        let keys = self.all.iter().map(|(_, limit)| limit.keys.len()).sum();
        if keys != self.told {
            self.told = keys;
            #[expect(clippy::cast_precision_loss, reason = "a gauge is a double")]
            KEYS.set(keys as f64);
        }
    }
}

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
#[derive(Debug, Clone, Copy)]
struct Staged<'a> {
    charge: &'a Charge,
    place: Place,
    cell: u64,
}

/// A charge that was paid in advance.
#[derive(Debug)]
struct Paid {
    charge: Charge,
    place: Place,
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
            self.limits.lock().declare(name, Limit { bucket, keys: Keys::new(self.keys) });
        }
        self
    }

    fn decide<'a>(&self, charges: &'a [Charge], pays: bool) -> Result<(Decision, Vec<Staged<'a>>)> {
        check(charges)?;
        let now = nanos(self.clock.now().since_start());
        let mut limits = self.limits.lock();
        let mut staged = Vec::with_capacity(charges.len());
        let mut tightest: Option<Decision> = None;
        for charge in charges {
            let limit = limits.get_mut(charge.limit).ok_or_else(|| undeclared(charge))?;
            let (place, cell) = limit.keys.find(&charge.key, now);
            let bucket = &limit.bucket;
            match bucket.judge(cell, charge.cost, now) {
                Answer::Paid(cell) => {
                    staged.push(Staged { charge, place, cell });
                    let own = decision(charge, bucket, Some(cell), now);
                    tightest = Some(tighter(tightest, own));
                }
                Answer::Wait(pause) => {
                    let decision = decision(charge, bucket, cell, now);
                    let verdict = Verdict::RetryAfter(pause.max(Duration::from_nanos(1)));
                    return Ok((refusal(decision, verdict, Outcome::Refused, pays), Vec::new()));
                }
                Answer::Never => {
                    let decision = decision(charge, bucket, cell, now);
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

fn pay(limits: &mut Limits, staged: &[Staged<'_>]) {
    DECISIONS.add_for(Outcome::Admitted, 1);
    for Staged { charge, place, cell } in staged {
        if let Some(limit) = limits.get_mut(charge.limit) {
            limit.keys.set(*place, &charge.key, *cell);
            if *place == Place::Shared {
                SHARED.add(1);
            }
        }
    }
    limits.tell();
}

/// Describes a limit with this cell, as if the request were admitted.
fn decision(charge: &Charge, bucket: &Bucket, cell: Option<u64>, now: u64) -> Decision {
    Decision {
        verdict: Verdict::Admitted,
        limit: charge.limit,
        capacity: bucket.quota().capacity(),
        remaining: bucket.remaining(cell, now),
        reset: Duration::from_nanos(cell.map_or(0, |cell| cell.saturating_sub(now))),
    }
}

/// Returns the decision with the least left.
fn tighter(one: Option<Decision>, other: Decision) -> Decision {
    one.filter(|one| one.remaining <= other.remaining).unwrap_or(other)
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
    paid: Vec<Paid>,
}

impl Settle for Refund {
    fn settle(&mut self, actual: u32) {
        let mut limits = self.limits.lock();
        for Paid { charge, place } in self.paid.drain(..) {
            let unused = charge.cost.get().saturating_sub(actual);
            if let Some(Limit { bucket, keys }) = limits.get_mut(charge.limit) {
                keys.change(place, &charge.key, |cell| bucket.refund(cell, unused));
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
        let paid =
            staged.iter().map(|staged| Paid { charge: staged.charge.clone(), place: staged.place });
        let refund = Refund { limits: Arc::clone(&self.limits), paid: paid.collect() };
        let reservation = decision.is_admitted().then(|| Reservation::new(Box::new(refund)));
        Ok((decision, reservation))
    }

    async fn peek(&self, charges: &[Charge]) -> Result<Decision> {
        self.decide(charges, false).map(|(decision, _)| decision)
    }
}
