//! Permits that are out: while somebody holds one its lease is renewed, so that only those of a node
//! that died end by themselves.

use std::collections::HashMap;

use infra_core::limit::Charge;
use parking_lot::Mutex;

/// A permit that is out.
#[derive(Debug, Clone)]
pub(super) struct Permit {
    pub(super) charge: Charge,
    /// When Redis was told of it last, by which it is known there.
    pub(super) paid_at: u64,
}

/// The permits of this node.
#[derive(Debug, Default)]
pub(super) struct Permits(Mutex<Out>);

#[derive(Debug, Default)]
struct Out {
    all: HashMap<u64, Permit>,
    next: u64,
}

impl Permits {
    /// Notes a permit, and returns its number.
    pub(super) fn take(&self, charge: Charge, paid_at: u64) -> u64 {
        let mut out = self.0.lock();
        let number = out.next;
        out.next += 1;
        out.all.insert(number, Permit { charge, paid_at });
        number
    }

    pub(super) fn give_back(&self, number: u64) -> Option<Permit> {
        self.0.lock().all.remove(&number)
    }

    pub(super) fn all(&self) -> Vec<(u64, Permit)> {
        self.0.lock().all.iter().map(|(number, permit)| (*number, permit.clone())).collect()
    }

    /// Notes when a permit was renewed; false if it was given back meanwhile.
    pub(super) fn renewed(&self, number: u64, at: u64) -> bool {
        let mut out = self.0.lock();
        let permit = out.all.get_mut(&number);
        permit.map(|permit| permit.paid_at = at).is_some()
    }
}
