//! The metrics of games.

use infra_core::metric::{Counter, Declaration, Gauge, Histogram, Label};

use super::actor::{Actor, Ending, Outcome};

/// Upper bounds of the time of a phase in seconds.
pub(super) const PHASE_SECONDS: &[f64] = &[1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0];

/// Upper bounds of the time of a game in seconds.
const GAME_SECONDS: &[f64] =
    &[60.0, 120.0, 300.0, 600.0, 900.0, 1_200.0, 1_800.0, 2_700.0, 3_600.0, 7_200.0];

pub(super) const STARTED: Counter =
    Counter::new("infra_game_started_total", "Games that were started.");
pub(super) const ENDED: Counter<Ending> =
    Counter::labelled("infra_game_ended_total", "Games that ended, by how.");
pub(super) const ACTIVE: Gauge =
    Gauge::new("infra_game_active_games", "", "Games that are being played.");
pub(super) const DURATION: Histogram<Ending> = Histogram::labelled(
    "infra_game_duration_seconds",
    "seconds",
    "Time from the start of a game to its end.",
    GAME_SECONDS,
);
pub(super) const UNKNOWN: Counter = Counter::new(
    "infra_game_unknown_total",
    "Reports of a game that is not active: it ended before, was never started, or was forgotten.",
);
pub(super) const ACTION: Histogram<(Actor, Outcome)> = Histogram::latency_of(
    "infra_game_action_seconds",
    "Time to process an action, by who acted and how it ended.",
);
pub(super) const SEATS: Counter<Actor> =
    Counter::labelled("infra_game_seats_total", "Seats in completed games, by who sat there.");
pub(super) const WINS: Counter<Actor> =
    Counter::labelled("infra_game_wins_total", "Completed games, by who won.");

/// The time in a phase, of a game with these phases.
pub(super) const fn phase<P: Label>() -> Histogram<P> {
    Histogram::labelled(
        "infra_game_phase_seconds",
        "seconds",
        "Time that a game was in a phase.",
        PHASE_SECONDS,
    )
}

/// Every metric of a game with these phases.
pub(super) fn declarations<P: Label>() -> Vec<Declaration> {
    vec![
        STARTED.declaration(),
        ENDED.declaration(),
        ACTIVE.declaration(),
        DURATION.declaration(),
        UNKNOWN.declaration(),
        ACTION.declaration(),
        SEATS.declaration(),
        WINS.declaration(),
        phase::<P>().declaration(),
    ]
}
