//! A node by itself: its share of each limit, and what it let pass meanwhile.

use std::{collections::HashMap, num::NonZeroU32, time::Duration};

use infra_core::{
    Error, ErrorKind, Result,
    limit::{Charge, Decision, RateLimiter as _, Reservation},
};
use parking_lot::{Mutex, RwLock};

use super::script::{Current, Mode};
use crate::{declared::MOST_ASSIGNED, limit::Limit, limiter::Limiter, telemetry::UNSETTLED};

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

/// A limit as it was declared or changed.
#[derive(Debug, Clone, Copy)]
struct Known {
    limit: Limit,
    /// When it became so; none if it has always been so.
    changed_at: Option<u64>,
}

/// The limits, and this node's share of each.
#[derive(Debug)]
pub(super) struct Share {
    limiter: Limiter,
    nodes: NonZeroU32,
    limits: RwLock<Vec<(&'static str, Known)>>,
    /// The keys of each limit that have one of their own.
    assigned: RwLock<HashMap<&'static str, HashMap<Box<str>, Known>>>,
    ledger: Mutex<Ledger>,
}

impl Share {
    pub(super) fn new(limiter: Limiter, nodes: NonZeroU32) -> Self {
        Self {
            limiter,
            nodes,
            limits: RwLock::default(),
            assigned: RwLock::default(),
            ledger: Mutex::default(),
        }
    }

    /// Declares a limit, or replaces the one of this name.
    pub(super) fn declare(&self, name: &'static str, limit: Limit) -> Result<()> {
        let share = limit.share(self.nodes)?;
        let mut limits = self.limits.write();
        match limits.iter_mut().find(|(own, _)| *own == name) {
            Some((_, known)) => *known = self.changed(limit),
            None => limits.push((name, Known { limit, changed_at: None })),
        }
        drop(self.limiter.clone().limit(name, share));
        Ok(())
    }

    fn changed(&self, limit: Limit) -> Known {
        Known { limit, changed_at: Some(self.limiter.now()) }
    }

    /// Returns a key's limit: one of its own, or that of all.
    pub(super) fn current(&self, name: &str, key: &str) -> Option<Current> {
        let own = || self.assigned.read().get(name)?.get(key).copied();
        let Known { limit, changed_at } = own().or_else(|| Some(self.declared(name)?.1))?;
        let ago = |at| Duration::from_nanos(self.limiter.now().saturating_sub(at));
        Some(Current { limit, changed_ago: changed_at.map(ago) })
    }

    /// Returns whether a charge is for a permit.
    pub(super) fn is_held(&self, charge: &Charge) -> bool {
        self.current(charge.limit, &charge.key).is_some_and(|current| current.limit.is_held())
    }

    fn declared(&self, name: &str) -> Option<(&'static str, Known)> {
        self.limits.read().iter().find(|(own, _)| *own == name).copied()
    }

    /// Gives a key a limit of its own, of the same algorithm as that of all.
    pub(super) fn assign(&self, name: &str, key: &str, limit: Limit) -> Result<()> {
        let refuse = |detail| Error::invalid("assign a limit to a key", detail);
        let (name, of_all) =
            self.declared(name).ok_or_else(|| refuse(format!("limit {name} is not declared")))?;
        let algorithm = |limit: &Limit| std::mem::discriminant(&limit.algorithm);
        if algorithm(&of_all.limit) != algorithm(&limit) {
            return Err(refuse(format!("limit {name} counts in another way")));
        }
        let share = limit.share(self.nodes)?;
        let mut assigned = self.assigned.write();
        let keys = assigned.entry(name).or_default();
        if MOST_ASSIGNED <= keys.len() && !keys.contains_key(key) {
            return Err(Error::new(ErrorKind::Overloaded, "assign a limit to a key"));
        }
        keys.insert(key.into(), self.changed(limit));
        drop(assigned);
        self.limiter.assign(name, key, share)
    }

    /// Puts a key back under the limit of all.
    pub(super) fn unassign(&self, name: &str, key: &str) -> Result<()> {
        if let Some(keys) = self.assigned.write().get_mut(name) {
            keys.remove(key);
        }
        self.limiter.unassign(name, key)
    }

    /// Forgets what a key has spent.
    pub(super) fn reset(&self, name: &'static str, key: &str) -> Result<()> {
        self.ledger.lock().remove(&(name, key.to_owned()));
        self.limiter.reset(name, key)
    }

    /// Returns a declared limit's own name.
    pub(super) fn name(&self, name: &str) -> Result<&'static str> {
        let undeclared = || Error::invalid("change limit", format!("limit {name} is not declared"));
        self.declared(name).map(|(name, _)| name).ok_or_else(undeclared)
    }

    /// Notes what Redis said is spent of the whole limit: an n-th of it is spent of the share.
    pub(super) fn note(&self, charge: &Charge, spent: u32) {
        self.limiter.set_spent(charge.limit, &charge.key, spent.div_ceil(self.nodes.get()));
    }

    pub(super) async fn decide(
        &self,
        charges: &[Charge],
        mode: Mode,
    ) -> Result<(Decision, Option<Reservation>)> {
        if mode == Mode::Peek {
            return Ok((self.limiter.peek(charges).await?, None));
        }
        self.remember(charges);
        if mode == Mode::Reserve {
            return self.limiter.reserve(charges).await;
        }
        Ok((self.limiter.decide(charges)?, None))
    }

    fn remember(&self, charges: &[Charge]) {
        let mut ledger = self.ledger.lock();
        for charge in charges {
            let at = (charge.limit, charge.key.clone());
            // Permits are told by who holds them.
            if ledger.contains_key(&at) || self.is_held(charge) {
                continue;
            }
            if MOST_KEYS <= ledger.len() {
                UNSETTLED.add(1);
                continue;
            }
            let spent = self.limiter.spent(charge.limit, &charge.key);
            ledger.insert(at, Seed { spent, at: self.limiter.now() });
        }
    }

    /// Returns what passed since the last reconciliation and is not given back by time yet.
    pub(super) fn passed(&self) -> Vec<(Charge, Current)> {
        let mut passed = Vec::new();
        for ((name, key), seed) in &mut *self.ledger.lock() {
            let Some(current) = self.current(name, key) else { continue };
            let now = self.limiter.now();
            let spent = self.limiter.spent(name, key);
            let left = seed.left(current.limit, self.nodes, now);
            *seed = Seed { spent, at: now };
            if let Some(cost) = NonZeroU32::new(spent.saturating_sub(left)) {
                passed.push((Charge { limit: name, key: key.clone(), cost }, current));
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
