//! One declared limit: its arithmetic, its keys, and the keys that have a limit of their own.

use std::{collections::HashMap, time::Duration};

use infra_core::{
    Error, ErrorKind, Result,
    limit::{Charge, Decision, Verdict},
};

use crate::{
    algorithm::{Answer, Arithmetic, Cell},
    keys::{Keys, Level, Place, Slot},
    limit::Limit,
    table::State,
};

/// How many keys of a limit can have one of their own.
pub(crate) const MOST_ASSIGNED: usize = 1 << 16;

#[derive(Debug)]
pub(crate) struct Declared {
    pub(crate) name: &'static str,
    pub(crate) limit: Limit,
    arithmetic: Arithmetic,
    pub(crate) keys: Keys,
    assigned: HashMap<Box<str>, Assigned>,
}

/// A key with a limit of its own.
#[derive(Debug)]
struct Assigned {
    limit: Limit,
    arithmetic: Arithmetic,
    state: Option<State>,
}

/// What stands for a key: where, how it is counted, and its state.
#[derive(Debug)]
pub(crate) struct Found<'d, 'a> {
    pub(crate) place: Place<'a>,
    pub(crate) limit: &'d Limit,
    pub(crate) arithmetic: &'d Arithmetic,
    pub(crate) state: Option<&'d State>,
}

impl Declared {
    pub(crate) fn new(name: &'static str, limit: Limit) -> Option<Self> {
        let arithmetic = Arithmetic::new(&limit)?;
        let keys = Keys::new(limit.budget, arithmetic.cell_bytes());
        Some(Self { name, limit, arithmetic, keys, assigned: HashMap::new() })
    }

    /// Returns whether this is its name; most often it is the very same constant.
    #[inline]
    pub(crate) fn is_named(&self, name: &'static str) -> bool {
        std::ptr::eq(self.name, name) || self.name == name
    }

    #[inline]
    pub(crate) fn tidy(&mut self, now: u64) {
        self.keys.tidy(&self.arithmetic, now);
    }

    #[inline]
    pub(crate) fn find<'a>(&self, key: &'a str, now: u64) -> Found<'_, 'a> {
        if !self.assigned.is_empty()
            && let Some(Assigned { limit, arithmetic, state }) = self.assigned.get(key)
        {
            let place = Place::new(Level::Assigned, key.into());
            return Found { place, limit, arithmetic, state: state.as_ref() };
        }
        let (place, state) = self.keys.find(key, &self.arithmetic, now);
        Found { place, limit: &self.limit, arithmetic: &self.arithmetic, state }
    }

    /// Pays a charge that is alone, if its key has a bucket of its own with room in it, as most have;
    /// none if there is more to think of, and then nothing is paid.
    ///
    /// It decides as the long way does, without what several charges need.
    #[inline]
    pub(crate) fn pay_at_once(&mut self, charge: &Charge, now: u64) -> Option<Decision> {
        let Arithmetic::Bucket(bucket) = &self.arithmetic else { return None };
        if !self.assigned.is_empty() {
            return None;
        }
        let state = self.keys.own_mut(&charge.key)?;
        let Cell::Bucket(tat) = &mut state.cell else { return None };
        if now < state.blocked_until {
            return None;
        }
        let Answer::Fits(after) = bucket.judge(Some(*tat), charge.cost, now) else { return None };
        let spent = bucket.spent(after, now);
        if self.limit.is_near(spent) && !self.limit.is_near(bucket.spent(*tat, now)) {
            return None;
        }
        *tat = after;
        let capacity = bucket.quota().capacity();
        let decision = Decision {
            verdict: Verdict::Admitted,
            limit: charge.limit,
            capacity,
            remaining: capacity.saturating_sub(spent),
            reset: Duration::from_nanos(after.saturating_sub(now)),
            window: bucket.window(),
        };
        self.tidy(now);
        Some(decision)
    }

    /// Changes the state at the place where a key was found; a new one is made from what is known of
    /// its neighbours.
    #[inline]
    pub(crate) fn change(
        &mut self,
        place: &Place<'_>,
        key: &str,
        now: u64,
        change: impl FnOnce(&Arithmetic, &mut State),
    ) {
        if place.level == Level::Assigned {
            if let Some(own) = self.assigned.get_mut(key) {
                let state = own.state.get_or_insert(State::of(own.arithmetic.pay(None, 0, now)));
                change(&own.arithmetic, state);
            }
            return;
        }
        if let Slot::Free(hash) = place.slot
            && !self.keys.is_pressed()
        {
            let mut state = State::of(self.arithmetic.pay(None, 0, now));
            change(&self.arithmetic, &mut state);
            return self.keys.add(hash, key, state);
        }
        if let Some(state) = self.keys.get_mut(place)
            && (matches!(place.slot, Slot::Taken(_)) || !state.is_idle(&self.arithmetic, now))
        {
            return change(&self.arithmetic, state);
        }
        let known = self.keys.find(key, &self.arithmetic, now).1.cloned();
        let mut state = known.unwrap_or_else(|| State::of(self.arithmetic.pay(None, 0, now)));
        change(&self.arithmetic, &mut state);
        self.keys.set(place, state);
    }

    /// Gives back what was paid at a place, if it is still known there.
    pub(crate) fn refund(&mut self, place: &Place<'_>, unused: u32, paid_at: u64, now: u64) {
        let (arithmetic, state) = match place.level {
            Level::Assigned => match self.assigned.get_mut(&*place.key) {
                Some(own) => (&own.arithmetic, own.state.as_mut()),
                None => return,
            },
            Level::Own
            | Level::Network
            | Level::WiderNetwork
            | Level::Addresses
            | Level::Others => (&self.arithmetic, self.keys.get_mut(place)),
        };
        if let Some(state) = state {
            arithmetic.refund(&mut state.cell, unused, paid_at, now);
        }
    }

    /// Replaces the limit; what its keys have spent stays spent.
    pub(crate) fn replace(&mut self, limit: Limit, now: u64) {
        let Some(arithmetic) = Arithmetic::new(&limit) else { return };
        let old = std::mem::replace(&mut self.arithmetic, arithmetic);
        let new = &self.arithmetic;
        self.keys.change(new.cell_bytes(), |state| carry(state, &old, new, now));
        self.limit = Limit { budget: self.limit.budget, ..limit };
    }

    /// Gives a key a limit of its own; what it has spent stays spent.
    pub(crate) fn assign(&mut self, key: &str, limit: Limit, now: u64) -> Result<()> {
        let is_new = !self.assigned.contains_key(key);
        if is_new && MOST_ASSIGNED <= self.assigned.len() {
            return Err(Error::new(ErrorKind::Overloaded, "assign a limit to a key"));
        }
        let Some(arithmetic) = Arithmetic::new(&limit) else { return Ok(()) };
        let found = self.find(key, now);
        let mut state = found.state.cloned();
        if let Some(state) = &mut state {
            carry(state, found.arithmetic, &arithmetic, now);
        }
        self.keys.forget(key);
        self.assigned.insert(key.into(), Assigned { limit, arithmetic, state });
        Ok(())
    }

    /// Puts a key back under the limit of all; what it has spent stays spent.
    pub(crate) fn unassign(&mut self, key: &str, now: u64) {
        let Some(Assigned { arithmetic, state, .. }) = self.assigned.remove(key) else { return };
        let Some(mut state) = state.filter(|state| !state.is_idle(&arithmetic, now)) else {
            return;
        };
        carry(&mut state, &arithmetic, &self.arithmetic, now);
        let place = self.find(key, now).place.into_owned();
        self.keys.set(&place, state);
    }

    #[cfg(feature = "redis")]
    pub(crate) fn spent(&self, key: &str, now: u64) -> u32 {
        let found = self.find(key, now);
        found.arithmetic.spent(found.state.map(|state| &state.cell), now)
    }

    #[cfg(feature = "redis")]
    pub(crate) fn set_spent(&mut self, key: &str, spent: u32, now: u64) {
        self.tidy(now);
        let place = self.find(key, now).place;
        if matches!(place.level, Level::Own | Level::Assigned) {
            self.change(&place, key, now, |arithmetic, state| {
                state.cell = arithmetic.pay(None, spent, now);
            });
        }
    }

    /// Forgets what a key has spent.
    pub(crate) fn reset(&mut self, key: &str) {
        self.keys.forget(key);
        if let Some(own) = self.assigned.get_mut(key) {
            own.state = None;
        }
    }
}

fn carry(state: &mut State, old: &Arithmetic, new: &Arithmetic, now: u64) {
    let cell = std::mem::replace(&mut state.cell, Cell::Held(0));
    state.cell = new.carry(old, cell, now);
}
