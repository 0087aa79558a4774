//! What is simulated: fixed before any rule was tuned.

/// The seeds of all runs.
pub const SEEDS: [u64; 3] = [1, 2, 3];
/// The fixed limits that are tried.
pub const FIXED: [usize; 12] = [5, 8, 10, 12, 15, 20, 30, 40, 60, 80, 120, 200];
/// After how many seconds an answer helps nobody any more.
pub const DEADLINE: f64 = 1.0;

/// A phase that holds until its end.
#[derive(Debug, Clone, Copy)]
pub struct Phase {
    /// When it ends, in seconds.
    pub until: f64,
    /// Calls per second.
    pub rate: f64,
    /// By how much service takes longer.
    pub slowness: f64,
}

/// Clients and a backend.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// How many calls the backend serves at the same time.
    pub servers: usize,
    /// The mean time of one, in seconds; exponentially distributed.
    pub service: f64,
    /// How long a client waits.
    pub deadline: f64,
    pub phases: Vec<Phase>,
    /// From when to when the backend stands still.
    pub stalls: Vec<(f64, f64)>,
    /// When the last trouble ends.
    pub incident_end: f64,
}

impl Scenario {
    pub fn steady(servers: usize, service: f64, rate: f64, seconds: f64) -> Self {
        let phases = vec![Phase { until: seconds, rate, slowness: 1.0 }];
        let deadline = f64::INFINITY;
        Self { servers, service, deadline, phases, stalls: Vec::new(), incident_end: 0.0 }
    }

    /// Ten places of 50 ms: 200 calls a second.
    fn of(phases: Vec<Phase>, stalls: Vec<(f64, f64)>, incident_end: f64) -> Self {
        Self { servers: 10, service: 0.05, deadline: DEADLINE, phases, stalls, incident_end }
    }
}

const fn phase(until: f64, rate: f64, slowness: f64) -> Phase {
    Phase { until, rate, slowness }
}

/// From 60 % of what the backend bears to twice as much, and back.
pub fn step_overload() -> Scenario {
    let phases = vec![phase(15.0, 120.0, 1.0), phase(55.0, 400.0, 1.0), phase(75.0, 120.0, 1.0)];
    Scenario::of(phases, Vec::new(), 55.0)
}

/// The backend takes three times as long for a while, under a load of 80 %.
pub fn brown_out() -> Scenario {
    let phases = vec![phase(15.0, 160.0, 1.0), phase(55.0, 160.0, 3.0), phase(75.0, 160.0, 1.0)];
    Scenario::of(phases, Vec::new(), 55.0)
}

/// Half a second of standstill each five seconds, under a load of 70 %.
pub fn stalls() -> Scenario {
    let stalls = (3..10).map(|turn| (f64::from(turn) * 5.0, f64::from(turn) * 5.0 + 0.5));
    Scenario::of(vec![phase(70.0, 140.0, 1.0)], stalls.collect(), 45.5)
}

/// Five seconds of standstill under a load of 70 %, with clients that try again.
pub fn storm() -> Scenario {
    Scenario::of(vec![phase(100.0, 140.0, 1.0)], vec![(20.0, 25.0)], 25.0)
}
