//! The circuit behind one atomic word, so that a closed circuit takes no lock.
//!
//! The word holds the circuit's turn and whether it is plainly closed. It is written under the
//! lock alone, after the circuit; so who reads "closed, turn 5" got a ticket of a life that was
//! closed. This file and those beside it are checked by loom (`tests/interleavings/breaker.rs`), which
//! brings its own `sync`.

use infra_core::clock::Instant;

use super::{
    circuit::{Change, Circuit, Denial, Mode, Pass, State, Ticket},
    sync::{AtomicU32, AtomicU64, Mutex, Ordering::SeqCst},
    window::{Counts, Sample, Tally},
};

/// When a closed circuit opens.
#[derive(Debug, Clone, Copy)]
pub(super) struct Threshold {
    pub(super) least: u64,
    pub(super) failures: f64,
    pub(super) slow: f64,
    pub(super) consecutive: Option<u32>,
}

impl Threshold {
    /// Returns whether a window with these sums is a reason to open.
    #[inline]
    fn is_met(&self, tally: Tally) -> bool {
        let reaches = |count: u64, share: f64| 0 < count && share <= of(count, tally.calls);
        self.least <= tally.calls
            && (reaches(tally.failures, self.failures) || reaches(tally.slow, self.slow))
    }
}

#[expect(clippy::cast_precision_loss, reason = "windows are far below 2^53")]
fn of(count: u64, all: u64) -> f64 {
    count as f64 / all as f64
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Known(Sample),
    /// It was dropped, or how it ended says nothing about the service.
    Unknown,
}

#[derive(Debug)]
pub(super) struct Gate {
    word: AtomicU64,
    circuit: Mutex<Circuit>,
    counts: Counts,
    in_row: AtomicU32,
    threshold: Threshold,
}

impl Gate {
    pub(super) fn new(circuit: Circuit, counts: Counts, threshold: Threshold) -> Self {
        let word = AtomicU64::new(word(&circuit));
        let (circuit, in_row) = (Mutex::new(circuit), AtomicU32::new(0));
        Self { word, circuit, counts, in_row, threshold }
    }

    /// Lets a call through a closed circuit, without a lock.
    #[inline]
    pub(super) fn admit_closed(&self) -> Option<Ticket> {
        let word = self.word.load(SeqCst);
        (word & GUARDED == 0).then_some(Ticket { turn: word >> 1, pass: Pass::Closed })
    }

    /// Lets a call through, or says why not.
    pub(super) fn admit(
        &self,
        now: impl Fn() -> Instant,
    ) -> (Result<Ticket, Denial>, Option<Change>) {
        match self.admit_closed() {
            Some(ticket) => (Ok(ticket), None),
            None => self.with(|circuit| circuit.admit(now())),
        }
    }

    /// Takes the end of a call into account.
    #[inline]
    pub(super) fn settle(
        &self,
        ticket: Ticket,
        verdict: Verdict,
        now: impl Fn() -> Instant,
    ) -> Option<Change> {
        match (ticket.pass, verdict) {
            (Pass::Free, _) | (Pass::Closed, Verdict::Unknown) => None,
            (Pass::Closed, Verdict::Known(sample)) => self.count(ticket, sample, now),
            (Pass::Probe, Verdict::Known(sample)) => {
                self.with(|circuit| circuit.settle(ticket, Some(sample.is_good()), now()))
            }
            (Pass::Probe, Verdict::Unknown) => {
                self.with(|circuit| circuit.settle(ticket, None, now()))
            }
        }
    }

    pub(super) fn state(&self, now: Instant) -> State {
        self.circuit.lock().state(now)
    }

    pub(super) fn mode(&self) -> Mode {
        self.circuit.lock().mode()
    }

    pub(super) fn force(&self, mode: Mode, now: Instant) -> Option<Change> {
        self.with(|circuit| {
            let change = circuit.force(mode, now);
            if circuit.is_plainly_closed() {
                self.forget();
            }
            change
        })
    }

    pub(super) fn reset(&self, now: Instant) -> Option<Change> {
        self.with(|circuit| {
            self.forget();
            circuit.reset(now)
        })
    }

    pub(super) fn tally(&self, now: impl Fn() -> Instant) -> Tally {
        self.counts.tally(now)
    }

    pub(super) fn recorded(&self) -> u64 {
        self.counts.recorded()
    }

    #[inline]
    fn count(&self, ticket: Ticket, sample: Sample, now: impl Fn() -> Instant) -> Option<Change> {
        if self.word.load(SeqCst) != ticket.turn << 1 {
            return None;
        }
        let tally = self.counts.record(sample, &now);
        let must_open = self.breaks_the_row(sample) || self.threshold.is_met(tally);
        if must_open { self.with(|circuit| circuit.trip(ticket, now())) } else { None }
    }

    /// Counts failures in a row, if that is asked for.
    #[inline]
    fn breaks_the_row(&self, sample: Sample) -> bool {
        let Some(most) = self.threshold.consecutive else { return false };
        if !sample.has_failed() {
            // Mostly there is nothing to forget, and a load costs a fraction of a store.
            if self.in_row.load(SeqCst) != 0 {
                self.in_row.store(0, SeqCst);
            }
            return false;
        }
        most <= self.in_row.fetch_add(1, SeqCst).saturating_add(1)
    }

    fn forget(&self) {
        self.counts.clear();
        self.in_row.store(0, SeqCst);
    }

    /// Works on the circuit under its lock and publishes what has become of it.
    fn with<T>(&self, work: impl FnOnce(&mut Circuit) -> T) -> T {
        let mut circuit = self.circuit.lock();
        let was_closed = circuit.is_plainly_closed();
        let result = work(&mut circuit);
        if circuit.is_plainly_closed() && !was_closed {
            // Nobody counts while the word says "guarded": the new life begins empty.
            self.forget();
        }
        let next = word(&circuit);
        if self.word.load(SeqCst) != next {
            self.word.store(next, SeqCst);
        }
        result
    }
}

/// The bit of the word that says: take the lock and ask the circuit.
const GUARDED: u64 = 1;

fn word(circuit: &Circuit) -> u64 {
    let guarded = if circuit.is_plainly_closed() { 0 } else { GUARDED };
    circuit.turn() << 1 | guarded
}
