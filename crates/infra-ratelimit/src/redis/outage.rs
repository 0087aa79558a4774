//! A node by itself: its share of each limit, and what it let pass meanwhile.

use std::{collections::HashMap, num::NonZeroU32};

use infra_core::{
    Result,
    limit::{Charge, Decision, RateLimiter as _, Reservation},
};
use parking_lot::Mutex;

use super::script::Mode;
use crate::{limit::Limit, limiter::Limiter, telemetry::UNSETTLED};

/// For how many keys it is remembered what passed during an outage.
const MOST_KEYS: usize = 1 << 17;

/// What a key had spent of its share when that was last reconciled with Redis.
type Ledger = HashMap<(&'static str, String), Seed>;

/// A spent amount and when, by which it is known what time gave back of it.
#[derive(Debug, Clone, Copy)]
struct Seed {
    spent: u32,
    at: u64,
}

/// The shares of this node.
#[derive(Debug)]
pub(super) struct Share {
    limiter: Mutex<Limiter>,
    nodes: NonZeroU32,
    limits: Mutex<Vec<(&'static str, Limit)>>,
    ledger: Mutex<Ledger>,
}

impl Share {
    pub(super) fn new(limiter: Limiter, nodes: NonZeroU32) -> Self {
        Self {
            limiter: Mutex::new(limiter),
            nodes,
            limits: Mutex::default(),
            ledger: Mutex::default(),
        }
    }

    pub(super) fn declare(&self, name: &'static str, limit: Limit) -> Result<()> {
        let share = limit.share(self.nodes)?;
        let mut limiter = self.limiter.lock();
        *limiter = limiter.clone().limit(name, share);
        let mut limits = self.limits.lock();
        limits.retain(|(own, _)| *own != name);
        limits.push((name, limit));
        Ok(())
    }

    pub(super) fn limit(&self, name: &str) -> Option<Limit> {
        self.limits.lock().iter().find(|(own, _)| *own == name).map(|(_, limit)| *limit)
    }

    fn limiter(&self) -> Limiter {
        self.limiter.lock().clone()
    }

    /// Notes what Redis said is spent of the whole limit: an n-th of it is spent of the share.
    pub(super) fn note(&self, charge: &Charge, spent: u32) {
        self.limiter().set_spent(charge.limit, &charge.key, spent.div_ceil(self.nodes.get()));
    }

    pub(super) async fn decide(
        &self,
        charges: &[Charge],
        mode: Mode,
    ) -> Result<(Decision, Option<Reservation>)> {
        let limiter = self.limiter();
        if mode == Mode::Peek {
            return Ok((limiter.peek(charges).await?, None));
        }
        self.remember(&limiter, charges);
        if mode == Mode::Reserve {
            return limiter.reserve(charges).await;
        }
        Ok((limiter.decide(charges)?, None))
    }

    fn remember(&self, limiter: &Limiter, charges: &[Charge]) {
        let mut ledger = self.ledger.lock();
        for charge in charges {
            let at = (charge.limit, charge.key.clone());
            if ledger.contains_key(&at) {
                continue;
            }
            if MOST_KEYS <= ledger.len() {
                UNSETTLED.add(1);
                continue;
            }
            let spent = limiter.spent(charge.limit, &charge.key);
            ledger.insert(at, Seed { spent, at: limiter.now() });
        }
    }

    /// Returns what passed since the last reconciliation and is not given back by time yet.
    pub(super) fn passed(&self) -> Vec<(Charge, Limit)> {
        let limiter = self.limiter();
        let mut passed = Vec::new();
        for ((name, key), seed) in &mut *self.ledger.lock() {
            let Some(limit) = self.limit(name) else { continue };
            let now = limiter.now();
            let spent = limiter.spent(name, key);
            let left = seed.left(limit, self.nodes, now);
            *seed = Seed { spent, at: now };
            if let Some(cost) = NonZeroU32::new(spent.saturating_sub(left)) {
                passed.push((Charge { limit: name, key: key.clone(), cost }, limit));
            }
        }
        passed
    }

    pub(super) fn forget(&self) {
        self.ledger.lock().clear();
    }
}

impl Seed {
    /// Returns what time has left of a spent amount, in whole tokens.
    fn left(self, limit: Limit, nodes: NonZeroU32, now: u64) -> u32 {
        let window = crate::time::nanos(limit.window()).max(1);
        let elapsed = u128::from(now.saturating_sub(self.at));
        let capacity = u128::from(limit.capacity() / nodes).max(1);
        let back = elapsed * capacity / u128::from(window);
        self.spent.saturating_sub(u32::try_from(back).unwrap_or(u32::MAX))
    }
}
