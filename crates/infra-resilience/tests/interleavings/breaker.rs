//! The lock-free core of the breaker: every interleaving of a few threads.

#[path = "../../src/breaker/circuit.rs"]
mod circuit;
#[path = "../../src/breaker/gate.rs"]
mod gate;
#[path = "../../src/breaker/window.rs"]
mod window;

/// Loom's own, with the lock as the crate's files call it.
mod sync {
    pub(super) use loom::sync::atomic::{AtomicI64, AtomicU8, AtomicU32, AtomicU64, Ordering};

    #[derive(Debug)]
    pub(super) struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(super) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(super) fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
            self.0.lock().unwrap()
        }
    }
}

use std::{num::NonZeroU32, time::Duration};

use circuit::{Circuit, Mode, Pass, Rules, State};
use gate::{Gate, Threshold, Verdict};
use infra_core::{
    backoff::{Backoff, Jitter},
    clock::Instant,
    random::Random,
};
use loom::{sync::Arc, thread};
use window::{Counts, Sample, Window};

const START: Instant = Instant::START;
const GOOD: Verdict = Verdict::Known(Sample::new(false, false));
const BAD: Verdict = Verdict::Known(Sample::new(true, false));

fn later() -> Instant {
    START + Duration::from_secs(1)
}

/// A breaker of two calls, which opens at one failure of at least `least` for a second.
fn gate(least: u64, probes: u32) -> Gate {
    let open = Backoff::fixed(Duration::from_secs(1)).jitter(Jitter::None);
    let rules = Rules { open, probes, probe_patience: Duration::from_hours(1) };
    let threshold = Threshold { least, failures: 0.5, slow: f64::INFINITY, consecutive: None };
    let counts = Counts::new(Window::Calls(NonZeroU32::new(2).unwrap()));
    Gate::new(Circuit::new(rules, Random::seeded(1)), counts, threshold)
}

fn opened(probes: u32) -> Gate {
    let gate = gate(1, probes);
    let ticket = gate.admit(|| START).0.unwrap();
    assert!(gate.settle(ticket, BAD, || START).is_some());
    assert_eq!(gate.state(START), State::Open);
    gate
}

/// Two calls fail at once in a closed circuit: it opens exactly once.
#[test]
fn of_two_failures_at_once_exactly_one_opens_it() {
    loom::model(|| {
        let gate = Arc::new(gate(1, 1));
        let call = |gate: Arc<Gate>| {
            let Ok(ticket) = gate.admit(|| START).0 else { return 0 };
            u32::from(gate.settle(ticket, BAD, || START).is_some())
        };
        let other = thread::spawn({
            let gate = Arc::clone(&gate);
            move || call(gate)
        });
        let opened = call(Arc::clone(&gate)) + other.join().unwrap();
        assert_eq!((opened, gate.state(START)), (1, State::Open));
    });
}

/// The sums of the window are those of its cells, whatever the order of the threads.
#[test]
fn no_outcome_is_lost_or_counted_twice() {
    loom::model(|| {
        let gate = Arc::new(gate(u64::MAX, 1));
        let call = |gate: &Gate, verdict| {
            let ticket = gate.admit(|| START).0.unwrap();
            assert!(gate.settle(ticket, verdict, || START).is_none());
        };
        let other = thread::spawn({
            let gate = Arc::clone(&gate);
            move || call(&gate, BAD)
        });
        call(&gate, GOOD);
        other.join().unwrap();
        let tally = gate.tally(|| START);
        assert_eq!((tally.calls, tally.failures, gate.recorded()), (2, 1, 2));
    });
}

/// Of three threads that ask a circuit whose open time is over, as many get through as there are
/// probes; and when one is dropped its place is there for another.
#[test]
fn half_open_no_more_than_the_probes_get_through_and_dropped_ones_come_back() {
    loom::model(|| {
        let gate = Arc::new(opened(1));
        let probe = |gate: &Gate| {
            let admitted = gate.admit(later).0.ok();
            if let Some(ticket) = admitted {
                assert_eq!(ticket.pass, Pass::Probe);
                assert!(gate.settle(ticket, Verdict::Unknown, later).is_none());
            }
            admitted.is_some()
        };
        let other = thread::spawn({
            let gate = Arc::clone(&gate);
            move || probe(&gate)
        });
        let mine = probe(&gate);
        assert!(other.join().unwrap() || mine, "at least one is let through");
        assert!(gate.admit(later).0.is_ok(), "both places are back");
        assert!(gate.admit(later).0.is_err(), "there is one place");
    });
}

/// A late failure of the closed life meets the probe that closes the circuit: it opens nothing.
#[test]
fn what_an_earlier_life_let_through_opens_nothing_in_the_next() {
    loom::model(|| {
        let gate = gate(1, 1);
        let late = gate.admit(|| START).0.unwrap();
        let first = gate.admit(|| START).0.unwrap();
        assert!(gate.settle(first, BAD, || START).is_some());
        let gate = Arc::new(gate);
        let other = thread::spawn({
            let gate = Arc::clone(&gate);
            move || gate.settle(late, BAD, later)
        });
        let probe = gate.admit(later).0.unwrap();
        assert!(gate.settle(probe, GOOD, later).is_some());
        assert_eq!(other.join().unwrap(), None);
        assert_eq!((gate.state(later()), gate.tally(later).calls), (State::Closed, 0));
    });
}

/// An operator opens it while a call fails: it is open, and stays so.
#[test]
fn an_operator_and_a_failure_at_once_leave_it_forced_open() {
    loom::model(|| {
        let gate = Arc::new(gate(1, 1));
        let ticket = gate.admit(|| START).0.unwrap();
        let other = thread::spawn({
            let gate = Arc::clone(&gate);
            move || gate.force(Mode::ForcedOpen, START)
        });
        let _either = gate.settle(ticket, BAD, || START);
        let _either = other.join().unwrap();
        assert_eq!(gate.state(later() + Duration::from_hours(1)), State::Open);
        assert!(gate.admit(later).0.is_err());
    });
}
