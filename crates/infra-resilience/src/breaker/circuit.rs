//! The circuit of a breaker: a pure state machine over instants.
//!
//! ```text
//!            too many failures              open time over
//!   Closed ---------------------> Open -----------------------> HalfOpen
//!     ^                            ^                             |    |
//!     |                            +--- a probe fails or hangs --+    |
//!     +------------------- all probes succeed ------------------------+
//! ```
//!
//! After Nygard, "Release It!", 2007.

use std::time::Duration;

use infra_core::{backoff::Backoff, clock::Instant, random::Random};

/// What a breaker does with calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// They go through.
    Closed,
    /// They are refused.
    Open,
    /// A few go through, as probes.
    HalfOpen,
}

impl State {
    /// Returns the state as a number for a gauge: 0 closed, 1 half-open, 2 open.
    ///
    /// ```
    /// use infra_resilience::State;
    ///
    /// assert_eq!([State::Closed, State::HalfOpen, State::Open].map(State::level), [0.0, 1.0, 2.0]);
    /// ```
    pub const fn level(self) -> f64 {
        match self {
            Self::Closed => 0.0,
            Self::HalfOpen => 1.0,
            Self::Open => 2.0,
        }
    }
}

/// Who decides about a breaker's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Mode {
    /// The outcomes of the calls.
    #[default]
    Automatic,
    /// An operator: all calls are refused.
    ForcedOpen,
    /// An operator: all calls go through, and are counted.
    ForcedClosed,
    /// Nobody: all calls go through, and nothing is counted.
    Disabled,
    /// The outcomes, but nothing is refused: the states are only told.
    MetricsOnly,
}

/// How a call was let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// By a closed circuit.
    Closed,
    /// As a probe.
    Probe,
    /// Without a look at it.
    Free,
}

/// Which life of the circuit let a call through, and how; what an earlier life let through counts no
/// more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket {
    pub(super) turn: u64,
    pub(super) pass: Pass,
}

/// Why a call is not let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denial {
    Open(Duration),
    Probing,
    Forced,
}

/// A change from one state to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Which change of this breaker it is; a listener that is told of two at once orders by it.
    pub turn: u64,
    /// The state before.
    pub from: State,
    /// The state since.
    pub to: State,
    /// When it was, on the breaker's clock.
    pub at: Instant,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Closed,
    Open {
        until: Instant,
    },
    /// `since` is when the last probe began.
    HalfOpen {
        running: u32,
        succeeded: u32,
        since: Instant,
    },
}

/// What the circuit must know of its options.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub(super) open: Backoff,
    pub(super) probes: u32,
    pub(super) probe_patience: Duration,
}

#[derive(Debug)]
pub(super) struct Circuit {
    rules: Rules,
    random: Random,
    phase: Phase,
    mode: Mode,
    turn: u64,
    /// How often it opened since it was last closed, and for how long the last time.
    openings: u32,
    pause: Duration,
}

impl Circuit {
    pub(super) fn new(rules: Rules, random: Random) -> Self {
        let rules = Rules { probes: rules.probes.max(1), ..rules };
        let (phase, mode) = (Phase::Closed, Mode::Automatic);
        Self { rules, random, phase, mode, turn: 0, openings: 0, pause: Duration::ZERO }
    }

    pub(super) const fn turn(&self) -> u64 {
        self.turn
    }

    pub(super) const fn mode(&self) -> Mode {
        self.mode
    }

    /// Returns whether calls go through without asking, except that they are counted.
    pub(super) const fn is_plainly_closed(&self) -> bool {
        match self.mode {
            Mode::Automatic | Mode::MetricsOnly => matches!(self.phase, Phase::Closed),
            Mode::ForcedClosed => true,
            Mode::ForcedOpen | Mode::Disabled => false,
        }
    }

    /// Returns the state at `now`.
    pub(super) fn state(&self, now: Instant) -> State {
        match (self.mode, self.phase) {
            (Mode::ForcedOpen, _) => State::Open,
            (Mode::ForcedClosed | Mode::Disabled, _) | (_, Phase::Closed) => State::Closed,
            (_, Phase::Open { until }) if now < until => State::Open,
            (_, Phase::Open { .. } | Phase::HalfOpen { .. }) => State::HalfOpen,
        }
    }

    /// Lets a call through or says why not; a change that this made comes with it.
    pub(super) fn admit(&mut self, now: Instant) -> (Result<Ticket, Denial>, Option<Change>) {
        match self.mode {
            Mode::ForcedOpen => (Err(Denial::Forced), None),
            Mode::ForcedClosed => (Ok(self.ticket(Pass::Closed)), None),
            Mode::Disabled => (Ok(self.ticket(Pass::Free)), None),
            Mode::Automatic => self.judge(now),
            Mode::MetricsOnly => {
                let (judged, change) = self.judge(now);
                (Ok(judged.unwrap_or(self.ticket(Pass::Free))), change)
            }
        }
    }

    fn judge(&mut self, now: Instant) -> (Result<Ticket, Denial>, Option<Change>) {
        let mut change = None;
        if let Phase::Open { until } = self.phase {
            if now < until {
                return (Err(Denial::Open(until.since(now))), None);
            }
            let phase = Phase::HalfOpen { running: 0, succeeded: 0, since: now };
            change = Some(self.go(phase, State::Open, State::HalfOpen, now));
        }
        let Phase::HalfOpen { running, succeeded, since } = &mut self.phase else {
            return (Ok(self.ticket(Pass::Closed)), change);
        };
        if *running + *succeeded < self.rules.probes {
            *running += 1;
            *since = now;
            return (Ok(self.ticket(Pass::Probe)), change);
        }
        // Probes that never end must not keep the circuit half-open for ever.
        if self.rules.probe_patience <= now.since(*since) {
            let change = self.open(State::HalfOpen, now);
            return (Err(Denial::Open(self.pause)), Some(change));
        }
        (Err(Denial::Probing), change)
    }

    /// Opens a closed circuit, if the life that `ticket` is of still runs and may be ended.
    pub(super) fn trip(&mut self, ticket: Ticket, now: Instant) -> Option<Change> {
        let is_closed = matches!(self.phase, Phase::Closed);
        let may = matches!(self.mode, Mode::Automatic | Mode::MetricsOnly);
        (ticket.turn == self.turn && is_closed && may).then(|| self.open(State::Closed, now))
    }

    /// Takes the end of a probe into account; `None` says that nothing is known of it.
    pub(super) fn settle(
        &mut self,
        ticket: Ticket,
        is_good: Option<bool>,
        now: Instant,
    ) -> Option<Change> {
        let Phase::HalfOpen { running, succeeded, .. } = &mut self.phase else { return None };
        if ticket.turn != self.turn {
            return None;
        }
        *running = running.saturating_sub(1);
        match is_good {
            None => None,
            Some(false) => Some(self.open(State::HalfOpen, now)),
            Some(true) => {
                *succeeded += 1;
                if *succeeded < self.rules.probes {
                    return None;
                }
                Some(self.close(State::HalfOpen, now))
            }
        }
    }

    /// Gives the decision to somebody else; the phase stays, a new life begins.
    pub(super) fn force(&mut self, mode: Mode, now: Instant) -> Option<Change> {
        let from = self.state(now);
        self.mode = mode;
        self.turn += 1;
        if let Phase::HalfOpen { running, .. } = &mut self.phase {
            // The tickets of the probes are of an earlier life now.
            *running = 0;
        }
        let to = self.state(now);
        (from != to).then_some(Change { turn: self.turn, from, to, at: now })
    }

    /// Closes the circuit and forgets everything.
    pub(super) fn reset(&mut self, now: Instant) -> Option<Change> {
        let from = self.state(now);
        self.mode = Mode::Automatic;
        let change = self.close(from, now);
        (from != State::Closed).then_some(change)
    }

    const fn ticket(&self, pass: Pass) -> Ticket {
        Ticket { turn: self.turn, pass }
    }

    fn open(&mut self, from: State, now: Instant) -> Change {
        self.openings = self.openings.saturating_add(1);
        self.pause = self.rules.open.pause(self.openings, self.pause, &self.random);
        self.go(Phase::Open { until: now + self.pause }, from, State::Open, now)
    }

    fn close(&mut self, from: State, now: Instant) -> Change {
        (self.openings, self.pause) = (0, Duration::ZERO);
        self.go(Phase::Closed, from, State::Closed, now)
    }

    const fn go(&mut self, phase: Phase, from: State, to: State, at: Instant) -> Change {
        self.phase = phase;
        self.turn += 1;
        Change { turn: self.turn, from, to, at }
    }
}
