//! Keys that wait behind their dead letters.

use infra_core::{clock::Instant, queue::Cause};

use super::{Lane, Parked, State};
use crate::queue::entry::Number;

impl Lane {
    /// Returns whether the key's next delivery is this entry.
    pub(super) fn is_turn_of(&self, number: Number) -> bool {
        self.n_held == 0 && self.numbers.first() == Some(&number)
    }
}

impl State {
    /// Holds the key of an entry that is about to die, if it is to wait behind it.
    pub(super) fn hold_key(&mut self, place: Number, cause: Cause) -> Option<Parked> {
        let entry = self.entries.get(&place).filter(|_| self.options.parks(cause))?;
        let key = entry.message.key.clone()?;
        self.lanes.get_mut(&key)?.n_held += 1;
        Some(Parked { key, place })
    }

    /// Lets a key go on whose dead letter is gone.
    pub(super) fn unpark(&mut self, letter: Number, now: Instant) {
        let Some(Parked { key, .. }) = self.parked.remove(&letter) else { return };
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        lane.n_held = lane.n_held.saturating_sub(1);
        self.go_on_with(&key, now);
    }

    /// Takes dead letters that hold up their keys in again, before the messages of the keys.
    pub(crate) fn restore_parked(&mut self, parked: &[(Number, Number)]) {
        for (letter, place) in parked {
            let Some(key) = self.dead.key_of(*letter) else { continue };
            self.lanes.entry(key.clone()).or_default().n_held += 1;
            self.parked.insert(*letter, Parked { key, place: *place });
        }
    }
}
