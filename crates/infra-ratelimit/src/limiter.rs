//! The limiter of one process: all charges of a request, in one decision.

use std::sync::Arc;

use async_trait::async_trait;
use infra_core::{
    Clock, Error, Result,
    limit::{Charge, Decision, RateLimiter, Reservation, Settle, Verdict},
};
use parking_lot::Mutex;

use crate::{
    decision::{AllJudged, Purpose, block, check, judge, pay, worst},
    declared::Declared,
    keys::{Level, Place},
    limit::Limit,
    telemetry::{BYTES, KEYS, Outcome, SHARED, SIGNS, count_decision},
    time::nanos,
    watch::Watch,
};

/// The declared limits; there are a handful, so looking through them beats hashing.
#[derive(Debug, Default)]
struct Limits {
    all: Vec<Declared>,
    /// How many keys they keep together, as it was told last.
    told: usize,
}

impl Limits {
    fn get_mut(&mut self, name: &str) -> Result<&mut Declared> {
        let undeclared = || Error::invalid("change limit", format!("limit {name} is not declared"));
        self.all.iter_mut().find(|declared| declared.name == name).ok_or_else(undeclared)
    }

    /// Tells how many keys are kept, if that has changed.
    fn tell(&mut self) {
        let keys = self.all.iter().map(|declared| declared.keys.len()).sum();
        if keys != self.told {
            self.told = keys;
            let bytes: usize = self.all.iter().map(|declared| declared.keys.bytes()).sum();
            #[expect(clippy::cast_precision_loss, reason = "a gauge is a double")]
            {
                KEYS.set(keys as f64);
                BYTES.set(bytes as f64);
            }
        }
    }
}

/// Decides over declared limits in this process.
///
/// The decision is exact: it is taken under one lock, which is held for as long as a handful of
/// additions take and never over an await. Clones are the same limiter.
#[derive(Debug, Clone)]
pub struct Limiter {
    clock: Arc<dyn Clock>,
    limits: Arc<Mutex<Limits>>,
    watch: Option<Arc<dyn Watch>>,
}

impl Limiter {
    /// Creates a limiter without limits; time comes from `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, limits: Arc::default(), watch: None }
    }

    /// Declares a limit; a second one of the same name replaces it, as [`Limiter::change`] does.
    #[must_use]
    pub fn limit(self, name: &'static str, limit: impl Into<Limit>) -> Self {
        let limit = limit.into();
        let now = self.now();
        {
            let mut limits = self.limits.lock();
            match limits.get_mut(name) {
                Ok(declared) => declared.replace(limit, now),
                // A limit has no zero in it, so it can be counted.
                Err(_) => limits.all.extend(Declared::new(name, limit)),
            }
        }
        self
    }

    /// Tells `watch` of near limits, refusals and what limits on trial would refuse.
    #[must_use]
    pub fn watch(mut self, watch: Arc<dyn Watch>) -> Self {
        self.watch = Some(watch);
        self
    }

    /// Replaces a limit while it is used; takes time in proportion to its keys.
    ///
    /// What a key has spent stays spent: one that had nothing left has the difference left if the
    /// capacity grows, and nothing if it shrinks. The budget in bytes stays.
    ///
    /// # Errors
    ///
    /// [`Invalid`](infra_core::ErrorKind::Invalid) if the limit is not declared.
    pub fn change(&self, name: &str, limit: impl Into<Limit>) -> Result<()> {
        let now = self.now();
        self.limits.lock().get_mut(name)?.replace(limit.into(), now);
        Ok(())
    }

    /// Gives one key a limit of its own, as a tier or an exception; what it has spent stays spent.
    ///
    /// # Errors
    ///
    /// [`Invalid`](infra_core::ErrorKind::Invalid) if the limit is not declared;
    /// [`Overloaded`](infra_core::ErrorKind::Overloaded) beyond 65,536 keys of a limit.
    pub fn assign(&self, name: &str, key: &str, limit: impl Into<Limit>) -> Result<()> {
        let now = self.now();
        self.limits.lock().get_mut(name)?.assign(key, limit.into(), now)
    }

    /// Puts a key back under the limit of all others; what it has spent stays spent.
    ///
    /// # Errors
    ///
    /// [`Invalid`](infra_core::ErrorKind::Invalid) if the limit is not declared.
    pub fn unassign(&self, name: &str, key: &str) -> Result<()> {
        let now = self.now();
        self.limits.lock().get_mut(name)?.unassign(key, now);
        Ok(())
    }

    /// Forgets what a key has spent, and that it is blocked.
    ///
    /// # Errors
    ///
    /// [`Invalid`](infra_core::ErrorKind::Invalid) if the limit is not declared.
    pub fn reset(&self, name: &str, key: &str) -> Result<()> {
        self.limits.lock().get_mut(name)?.reset(key);
        Ok(())
    }

    /// Returns how many bytes the keys of all limits take.
    pub fn bytes(&self) -> usize {
        self.limits.lock().all.iter().map(|declared| declared.keys.bytes()).sum()
    }

    /// Pays all charges, or none: [`RateLimiter::acquire`] for code that does not wait.
    ///
    /// # Errors
    ///
    /// As for [`RateLimiter::acquire`].
    #[inline]
    pub fn decide(&self, charges: &[Charge]) -> Result<Decision> {
        let now = self.now();
        if let [charge] = charges
            && let Some(decision) = self.pay_at_once(charge, now)
        {
            return Ok(decision);
        }
        self.judge(charges, Purpose::Acquire, now, |_| ()).map(|(decision, ())| decision)
    }

    /// Pays a charge that is alone by the short way, if it may go it.
    fn pay_at_once(&self, charge: &Charge, now: u64) -> Option<Decision> {
        let mut limits = self.limits.lock();
        let declared = limits.all.iter_mut().find(|limit| limit.is_named(charge.limit))?;
        let decision = declared.pay_at_once(charge, now)?;
        limits.tell();
        drop(limits);
        count_decision(Outcome::Admitted);
        Some(decision)
    }

    /// Returns what is gone of a limit for a key.
    #[cfg(feature = "redis")]
    pub(crate) fn spent(&self, name: &str, key: &str) -> u32 {
        let now = self.now();
        self.limits.lock().get_mut(name).map_or(0, |declared| declared.spent(key, now))
    }

    /// Sets what is gone of a limit for a key.
    #[cfg(feature = "redis")]
    pub(crate) fn set_spent(&self, name: &str, key: &str, spent: u32) {
        let now = self.now();
        if let Ok(declared) = self.limits.lock().get_mut(name) {
            declared.set_spent(key, spent, now);
        }
    }

    pub(crate) fn now(&self) -> u64 {
        nanos(self.clock.now().since_start())
    }

    /// Decides, and passes what was judged to `then`.
    fn judge<T>(
        &self,
        charges: &[Charge],
        purpose: Purpose,
        now: u64,
        then: impl FnOnce(&mut AllJudged<'_>) -> T,
    ) -> Result<(Decision, T)> {
        check(charges)?;
        let mut limits = self.limits.lock();
        let mut judged = AllJudged::new();
        judge(&mut limits.all, charges, purpose, now, &mut judged)?;
        let decision = worst(judged.iter().map(|one| (&one.decision, one.is_shadow)))?;
        if purpose != Purpose::Peek {
            match decision.verdict {
                Verdict::Admitted => {
                    pay(&mut limits.all, &judged, now);
                    limits.tell();
                }
                Verdict::RetryAfter(_) | Verdict::Never => block(&mut limits.all, &judged, now),
            }
            drop(limits);
            self.tell(&judged, &decision);
        }
        Ok((decision, then(&mut judged)))
    }

    fn tell(&self, judged: &AllJudged<'_>, decision: &Decision) {
        count_decision(Outcome::of(decision.verdict));
        for one in judged {
            if !matches!(one.place.level, Level::Own | Level::Assigned) {
                SHARED.add(1);
            }
            // What another limit refused was not paid, so its own limit is no nearer.
            let Some(sign) = one.sign.filter(|sign| sign.is_true_of(decision)) else { continue };
            SIGNS.add_for(sign, 1);
            if let Some(watch) = &self.watch {
                watch.saw(sign, one.charge, &one.decision);
            }
        }
    }
}

/// A charge that was paid in advance.
#[derive(Debug)]
struct Paid {
    limit_idx: usize,
    place: Place<'static>,
    cost: u32,
    /// Whether it is a permit, which comes back whatever was used.
    is_held: bool,
}

/// Gives back what a reservation did not use.
#[derive(Debug)]
struct Refund {
    limiter: Limiter,
    paid: Vec<Paid>,
    paid_at: u64,
}

impl Refund {
    fn end(&mut self, unused: impl Fn(&Paid) -> u32) {
        let now = self.limiter.now();
        let mut limits = self.limiter.limits.lock();
        for paid in self.paid.drain(..) {
            if let Some(declared) = limits.all.get_mut(paid.limit_idx) {
                declared.refund(&paid.place, unused(&paid), self.paid_at, now);
            }
        }
    }
}

impl Settle for Refund {
    fn settle(&mut self, actual: u32) {
        self.end(|paid| if paid.is_held { paid.cost } else { paid.cost.saturating_sub(actual) });
    }

    fn keep(&mut self) {
        self.end(|paid| if paid.is_held { paid.cost } else { 0 });
    }
}

#[async_trait]
impl RateLimiter for Limiter {
    async fn acquire(&self, charges: &[Charge]) -> Result<Decision> {
        self.decide(charges)
    }

    async fn reserve(&self, charges: &[Charge]) -> Result<(Decision, Option<Reservation>)> {
        let now = self.now();
        let (decision, refund) = self.judge(charges, Purpose::Reserve, now, |judged| {
            let paid = judged.drain(..).filter(|one| one.decision.is_admitted()).map(|one| Paid {
                limit_idx: one.limit_idx,
                is_held: one.is_held,
                place: one.place.into_owned(),
                cost: one.charge.cost.get(),
            });
            Refund { limiter: self.clone(), paid: paid.collect(), paid_at: now }
        })?;
        let reservation = decision.is_admitted().then(|| Reservation::new(Box::new(refund)));
        Ok((decision, reservation))
    }

    async fn peek(&self, charges: &[Charge]) -> Result<Decision> {
        self.judge(charges, Purpose::Peek, self.now(), |_| ()).map(|(decision, ())| decision)
    }
}
