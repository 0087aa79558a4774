//! Who may connect: counts of connections, in all, per address and unidentified.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;

use crate::{options::Options, telemetry::OPEN};

/// Counts connections; each holds a [`Seat`] from its handshake to its end.
#[derive(Debug)]
pub(crate) struct Admission {
    options: Arc<Options>,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    unidentified: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A place that is given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    address: IpAddr,
    standing: Arc<Standing>,
}

/// Whether the one on a seat counts as unidentified.
#[derive(Debug)]
pub(crate) struct Standing {
    admission: Arc<Admission>,
    is_unidentified: AtomicBool,
}

impl Admission {
    pub(crate) fn new(options: Arc<Options>) -> Arc<Self> {
        Arc::new(Self { options, taken: Mutex::default() })
    }

    /// Takes a place, unless all of them or all of this address are taken.
    pub(crate) fn admit(self: &Arc<Self>, peer: IpAddr) -> Option<Seat> {
        let address = network(peer);
        let mut taken = self.taken.lock();
        let here = taken.by_address.get(&address).copied().unwrap_or(0);
        let max = self.options.as_ref();
        let is_full = max.connections <= taken.all
            || max.unidentified <= taken.unidentified
            || max.per_address <= here;
        if is_full {
            return None;
        }
        taken.all += 1;
        taken.unidentified += 1;
        taken.by_address.insert(address, here + 1);
        OPEN.add(1.0);
        let standing =
            Standing { admission: Arc::clone(self), is_unidentified: AtomicBool::new(true) };
        Some(Seat { address, standing: Arc::new(standing) })
    }

    pub(crate) fn count(&self) -> usize {
        self.taken.lock().all
    }

    #[cfg(test)]
    pub(crate) fn unidentified(&self) -> usize {
        self.taken.lock().unidentified
    }
}

impl Standing {
    /// Counts no more as unidentified; later calls change nothing.
    pub(crate) fn identified(&self) {
        let mut taken = self.admission.taken.lock();
        // The lock orders it: identification and the end of a connection may race.
        if self.is_unidentified.swap(false, Ordering::Relaxed) {
            taken.unidentified -= 1;
        }
    }
}

impl Seat {
    pub(crate) const fn standing(&self) -> &Arc<Standing> {
        &self.standing
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.standing.identified();
        let mut taken = self.standing.admission.taken.lock();
        taken.all -= 1;
        OPEN.add(-1.0);
        if let Some(here) = taken.by_address.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                taken.by_address.remove(&self.address);
            }
        }
    }
}

/// Returns what counts as one address: an IPv4 address, or an IPv6 /64, which one user holds whole.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::origin::OriginPolicy;

    fn admission(change: impl FnOnce(Options) -> Options) -> Arc<Admission> {
        Admission::new(Arc::new(change(Options::new(OriginPolicy::same_host()))))
    }

    #[test]
    fn places_are_counted_in_all_and_per_address_and_given_back() {
        let admission = admission(|options| options.connections(3, 2));
        let admit = |address: &str| admission.admit(address.parse().unwrap());
        let first = admit("192.0.2.1").unwrap();
        let _second = admit("::ffff:192.0.2.1").unwrap();
        assert!(admit("192.0.2.1").is_none(), "two from one address");
        let _third = admit("2001:db8::1").unwrap();
        assert!(admit("2001:db8::2").is_none(), "three in all");
        drop(first);
        assert!(admit("192.0.2.1").is_some());
        assert_eq!(admission.count(), 2);
    }

    #[test]
    fn an_ipv6_network_counts_as_one_address() {
        let admission = admission(|options| options.connections(10, 1));
        let _first = admission.admit("2001:db8::1".parse().unwrap()).unwrap();
        assert!(admission.admit("2001:db8::ffff".parse().unwrap()).is_none());
        assert!(admission.admit("2001:db8:0:1::1".parse().unwrap()).is_some());
        assert!(admission.taken.lock().by_address.len() == 1, "the refused leave nothing behind");
    }

    #[test]
    fn who_is_identified_makes_room_for_others_once() {
        let patience = Duration::from_secs(1);
        let admission = admission(|options| options.unidentified(2, patience));
        let admit = || admission.admit("192.0.2.1".parse().unwrap());
        let (first, second) = (admit().unwrap(), admit().unwrap());
        assert!(admit().is_none());
        first.standing().identified();
        first.standing().identified();
        assert_eq!(admission.unidentified(), 1);
        let third = admit().unwrap();
        drop((first, second, third));
        assert_eq!((admission.unidentified(), admission.count()), (0, 0));
    }
}
