//! The keys of one limit: each by itself while there is room, by network or all together beyond.
//!
//! No key that has something to say is ever put out. When there is no room, a key is counted
//! together with its neighbours: under its network if it is an address (/24; /64, /48, /32), with
//! all addresses beyond; with all other keys if it is none. A key that gets a slot of its own later takes over what was counted
//! for it and its neighbours meanwhile. So a flood of keys never makes a fresh budget for a key
//! that had spent some, and a newcomer from elsewhere is admitted.

use std::borrow::Cow;

use crate::{
    algorithm::Arithmetic,
    prefix::networks,
    table::{State, Table},
};

/// How many slots are looked at in each decision.
const STEPS: usize = 2;

/// How many are when there is no room.
const STEPS_WHEN_FULL: usize = 16;

/// Where a key is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// By a limit of its own.
    Assigned,
    Own,
    Network,
    WiderNetwork,
    /// With all addresses whose networks cannot be kept.
    Addresses,
    /// With all keys that are no addresses and cannot be kept.
    Others,
}

/// Which cell stands for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place<'a> {
    pub(crate) level: Level,
    /// The key or network in that level's table.
    pub(crate) key: Cow<'a, str>,
    /// What is known of the slot of its own; good within one decision.
    pub(crate) slot: Slot,
}

/// Whether a key has a slot of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slot {
    Taken(usize),
    /// It has none; its hash is this.
    Free(u64),
    Unknown,
}

impl<'a> Place<'a> {
    pub(crate) const fn new(level: Level, key: Cow<'a, str>) -> Self {
        Self { level, key, slot: Slot::Unknown }
    }

    pub(crate) fn into_owned(self) -> Place<'static> {
        Place::new(self.level, self.key.into_owned().into())
    }
}

/// The states of all keys of one limit.
#[derive(Debug)]
pub(crate) struct Keys {
    own: Table,
    network: Table,
    wider: Table,
    addresses: Option<State>,
    others: Option<State>,
}

impl Keys {
    pub(crate) fn new(budget: usize, cell_bytes: usize) -> Self {
        Self {
            own: Table::new(budget / 4 * 3, cell_bytes),
            network: Table::new(budget / 8, cell_bytes),
            wider: Table::new(budget / 8, cell_bytes),
            addresses: None,
            others: None,
        }
    }

    /// Returns the cell of a key and where it is.
    #[inline]
    pub(crate) fn find<'a>(
        &self,
        key: &'a str,
        arithmetic: &Arithmetic,
        now: u64,
    ) -> (Place<'a>, Option<&State>) {
        let hash = self.own.hash(key);
        let own = |slot| Place { level: Level::Own, key: key.into(), slot };
        if let Some((slot, state)) = self.own.find(hash, key) {
            return (own(Slot::Taken(slot)), Some(state));
        }
        if self.own.has_room(key) && !self.is_pressed() {
            return (own(Slot::Free(hash)), None);
        }
        self.find_among_neighbours(key, arithmetic, now)
    }

    /// Returns the nearest level where a key that is new can be counted, and what is known of it or
    /// its neighbours there or beyond.
    fn find_among_neighbours<'a>(
        &self,
        key: &'a str,
        arithmetic: &Arithmetic,
        now: u64,
    ) -> (Place<'a>, Option<&State>) {
        let [network, wider] = networks(key);
        let (beyond, all) = match network {
            Some(_) => (Level::Addresses, &self.addresses),
            None => (Level::Others, &self.others),
        };
        let steps = [
            (Level::Own, Some(Cow::Borrowed(key)), &self.own),
            (Level::Network, network.map(Cow::Owned), &self.network),
            (Level::WiderNetwork, wider.map(Cow::Owned), &self.wider),
        ];
        let mut place = None;
        for (level, key, table) in steps {
            let Some(key) = key else { continue };
            let state = table.get(&key);
            let known = state.filter(|state| !state.is_idle(arithmetic, now));
            if place.is_none() && (state.is_some() || table.has_room(&key)) {
                place = Some(Place::new(level, key));
            }
            if let (Some(place), Some(known)) = (&place, known) {
                return (place.clone(), Some(known));
            }
        }
        let all = all.as_ref().filter(|state| !state.is_idle(arithmetic, now));
        (place.unwrap_or_else(|| Place::new(beyond, "".into())), all)
    }

    /// Whether anything is counted for neighbours together.
    #[inline]
    pub(crate) fn is_pressed(&self) -> bool {
        let n_networks = self.network.len() + self.wider.len();
        0 < n_networks || self.addresses.is_some() || self.others.is_some()
    }

    pub(crate) fn set(&mut self, place: &Place<'_>, state: State) {
        let table = match place.level {
            Level::Own => &mut self.own,
            Level::Network => &mut self.network,
            Level::WiderNetwork => &mut self.wider,
            Level::Addresses => {
                self.addresses = Some(state);
                return;
            }
            Level::Others => {
                self.others = Some(state);
                return;
            }
            Level::Assigned => return,
        };
        match table.get_mut(&place.key) {
            Some(own) => *own = state,
            None => table.insert(table.hash(&place.key), &place.key, state),
        }
    }

    /// Returns the state of a key that has a slot of its own, to change it.
    #[inline]
    pub(crate) fn own_mut(&mut self, key: &str) -> Option<&mut State> {
        self.own.get_mut(key)
    }

    /// Gives a key that has none a slot of its own.
    pub(crate) fn add(&mut self, hash: u64, key: &str, state: State) {
        self.own.insert(hash, key, state);
    }

    /// Returns what is kept at a place, to change it.
    #[inline]
    pub(crate) fn get_mut(&mut self, place: &Place<'_>) -> Option<&mut State> {
        if let Slot::Taken(slot) = place.slot {
            return self.own.slot_mut(slot);
        }
        match place.level {
            Level::Assigned => None,
            Level::Own => self.own.get_mut(&place.key),
            Level::Network => self.network.get_mut(&place.key),
            Level::WiderNetwork => self.wider.get_mut(&place.key),
            Level::Addresses => self.addresses.as_mut(),
            Level::Others => self.others.as_mut(),
        }
    }

    /// Forgets a few keys that are idle, so that all of them are looked at in time.
    #[inline]
    pub(crate) fn tidy(&mut self, arithmetic: &Arithmetic, now: u64) {
        let is_idle = |state: &State| state.is_idle(arithmetic, now);
        let tidy = |table: &mut Table| {
            let n_slots = if table.has_room("") { STEPS } else { STEPS_WHEN_FULL };
            table.tidy(n_slots, is_idle);
        };
        tidy(&mut self.own);
        if !self.is_pressed() {
            return;
        }
        tidy(&mut self.network);
        tidy(&mut self.wider);
        self.addresses.take_if(|state| is_idle(state));
        self.others.take_if(|state| is_idle(state));
    }

    pub(crate) fn forget(&mut self, key: &str) {
        self.own.remove(key);
    }

    /// Changes every state, as a limit that is changed asks for.
    pub(crate) fn change(&mut self, cell_bytes: usize, change: impl Fn(&mut State)) {
        for table in [&mut self.own, &mut self.network, &mut self.wider] {
            table.change(cell_bytes, &change);
        }
        self.addresses.iter_mut().chain(&mut self.others).for_each(change);
    }

    pub(crate) fn len(&self) -> usize {
        self.own.len() + self.network.len() + self.wider.len()
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.own.bytes() + self.network.bytes() + self.wider.bytes()
    }
}
