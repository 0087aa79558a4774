//! One call for everything: a transition, an action or a game becomes a span, metrics, an event of
//! the live stream, a record of the flight recorder, and a change of the picture.

use std::{fmt, sync::Arc, time::Duration};

use infra_core::{
    Clock,
    lifecycle::{Ended, Shutdown},
    metric::{Declaration, Label},
};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::json;
use tracing::Span;

use crate::{
    collect::Process,
    diagram::{LiveDiagram, Machine, RoomBoard, RoomRow, View},
    game::{Actor, Analytics, GameResult, Games, Outcome, Pace, Seats},
    live::{Draft, FlightRecorder, Stats, Stream},
    log::rfc3339,
    trace::traced_result,
};

/// How often what is old is forgotten.
const CLEANUP: Duration = Duration::from_hours(1);

/// How often the memory is looked at.
const MEMORY_WATCH: Duration = Duration::from_secs(30);

/// The memory in RAM above which the live stream is told.
const HIGH_MEMORY: u64 = 1_000 << 20;

/// The bounds of what is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// Of games and players.
    pub games: crate::game::Options,
    /// Of the live stream.
    pub stream: crate::live::Options,
}

/// Where something happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// The game.
    pub game: &'a str,
    /// The room.
    pub room: &'a str,
    /// The version of the room's state.
    pub version: u64,
}

/// Everything that is known of a service, as its admin endpoint shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// The service's name.
    pub service: String,
    /// When this was written.
    pub at: String,
    /// The games.
    pub games: Analytics,
    /// The live stream.
    pub stream: Stats,
    /// The state machine.
    pub diagram: View,
    /// The rooms.
    pub rooms: Vec<RoomRow>,
    /// Background tasks that run.
    pub tasks: Vec<&'static str>,
}

struct Shared<P> {
    service: String,
    clock: Arc<dyn Clock>,
    games: Games<P>,
    pace: Pace,
    stream: Stream,
    flights: FlightRecorder,
    diagram: LiveDiagram,
    board: RoomBoard,
    process: Process,
    /// The owner of the background tasks, while they run.
    tasks: Mutex<Option<Shutdown>>,
}

/// Telemetry of a game service whose phases are `P`. Cheap to clone; two of them share nothing.
pub struct Telemetry<P>(Arc<Shared<P>>);

impl<P> Clone for Telemetry<P> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<P> fmt::Debug for Telemetry<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry").field("service", &self.0.service).finish_non_exhaustive()
    }
}

impl<P: Label + 'static> Telemetry<P> {
    /// Creates the telemetry of a service; the states of `machine` should be those of `P`.
    ///
    /// Nothing runs in the background before [`start`](Self::start).
    pub fn new(service: &str, machine: Machine, options: Options, clock: Arc<dyn Clock>) -> Self {
        Self::reading(service, machine, options, clock, Process::default())
    }

    /// Like [`new`](Self::new), with a reader of the process's figures of your own.
    pub fn reading(
        service: &str,
        machine: Machine,
        options: Options,
        clock: Arc<dyn Clock>,
        process: Process,
    ) -> Self {
        Self(Arc::new(Shared {
            service: service.to_owned(),
            games: Games::new(options.games, Arc::clone(&clock)),
            pace: Pace::new(Arc::clone(&clock)),
            stream: Stream::new(options.stream, Arc::clone(&clock)),
            flights: FlightRecorder::new(10_000, 64, Arc::clone(&clock)),
            diagram: LiveDiagram::new(machine),
            board: RoomBoard::new(10_000, CLEANUP, Arc::clone(&clock)),
            process,
            clock,
            tasks: Mutex::new(None),
        }))
    }

    /// Returns the metrics of such a service.
    pub fn declarations() -> Vec<Declaration> {
        Games::<P>::declarations()
    }

    /// Returns the clock that times come from.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.clock
    }

    /// Returns the games.
    pub fn games(&self) -> &Games<P> {
        &self.0.games
    }

    /// Returns the pace of play.
    pub fn pace(&self) -> &Pace {
        &self.0.pace
    }

    /// Returns the live stream.
    pub fn stream(&self) -> &Stream {
        &self.0.stream
    }

    /// Returns the flight recorder.
    pub fn flights(&self) -> &FlightRecorder {
        &self.0.flights
    }

    /// Returns the picture of the state machine.
    pub fn diagram(&self) -> &LiveDiagram {
        &self.0.diagram
    }

    /// Returns the board of rooms.
    pub fn board(&self) -> &RoomBoard {
        &self.0.board
    }

    /// A game started, in a phase.
    pub fn game_started(&self, place: Place<'_>, seats: Seats, phase: P) {
        let shared = &self.0;
        if !shared.games.start(place.game, seats) {
            return;
        }
        note(shared.diagram.enter(phase.value()));
        shared.board.update(place.room, place.game, phase.value(), seats.people + seats.bots);
        shared.flights.record(place.room, place.version, "game started");
        let seats = json!({"people": seats.people, "bots": seats.bots});
        shared.stream.publish(draft("game.started", place).data(seats));
    }

    /// A game ended, after a time in its last phase.
    pub fn game_ended(&self, place: Place<'_>, result: GameResult, phase: P, stayed: Duration) {
        let shared = &self.0;
        if !shared.games.end(place.game, result) {
            return;
        }
        note(shared.diagram.leave(phase.value(), stayed));
        shared.games.phase(phase, stayed);
        shared.board.remove(place.room);
        let kind = match result {
            GameResult::Completed(_) => "game.ended",
            GameResult::Abandoned => "game.abandoned",
        };
        shared.flights.record(place.room, place.version, kind);
        shared.stream.publish(draft(kind, place));
    }

    /// Runs a transition of a game: a span `state.transition`, the figures of the way, and an event
    /// of how it ended. A transition that fails leaves the game where it was.
    ///
    /// # Errors
    ///
    /// That of the transition.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the transition; it counts as failed.
    pub async fn transition<T, E: std::error::Error>(
        &self,
        place: Place<'_>,
        from: P,
        to: P,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let (from, to) = (from.value(), to.value());
        let span = tracing::info_span!(
            "state.transition",
            "game.id" = place.game,
            "room.id" = place.room,
            "state.from" = from,
            "state.to" = to,
        );
        let mut ending = Ending::new(self, span.clone(), place, Step::Transition { from, to });
        let result = traced_result(span, work).await;
        ending.end(result.is_ok());
        result
    }

    /// Runs an action of a player: a span `action.process`, its latency, and events of its way.
    ///
    /// # Errors
    ///
    /// That of the action.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the action; it counts as failed.
    pub async fn action<T, E: std::error::Error>(
        &self,
        place: Place<'_>,
        player: &str,
        action: &'static str,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let span = tracing::info_span!(
            "action.process",
            "game.id" = place.game,
            "room.id" = place.room,
            "player.id" = player,
            "action.type" = action,
        );
        let step = Step::Action { player, action };
        self.0.stream.publish(step.draft("action.queued", place));
        let mut ending = Ending::new(self, span.clone(), place, step);
        self.0.stream.publish(step.draft("action.processing", place));
        let result = traced_result(span, work).await;
        ending.end(result.is_ok());
        result
    }

    /// Returns everything that is known.
    pub fn status(&self) -> Status {
        let shared = &self.0;
        let running = shared.tasks.lock().is_some();
        Status {
            service: shared.service.clone(),
            at: rfc3339(shared.clock.wall()),
            games: shared.games.analytics(),
            stream: shared.stream.stats(),
            diagram: shared.diagram.view(),
            rooms: shared.board.rows(),
            tasks: if running { vec!["cleanup", "memory_watch"] } else { Vec::new() },
        }
    }

    /// Starts the background tasks: what is old is forgotten each hour, and each 30 s the memory is
    /// looked at. Started twice it is as if started once.
    pub fn start(&self) {
        let mut tasks = self.0.tasks.lock();
        if tasks.is_some() {
            return;
        }
        let shutdown = Shutdown::new();
        self.every(&shutdown, CLEANUP, Self::clean_up);
        self.every(&shutdown, MEMORY_WATCH, Self::watch_memory);
        *tasks = Some(shutdown);
    }

    /// Ends the background tasks and waits for their end; stopped twice is as if stopped once.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future aborts the tasks.
    pub async fn stop(&self) -> Ended {
        let tasks = self.0.tasks.lock().take();
        match tasks {
            Some(tasks) => tasks.close(Duration::from_secs(1)).await,
            None => Ended::default(),
        }
    }

    fn every(&self, shutdown: &Shutdown, period: Duration, work: fn(&Self)) {
        // A task must not keep alive what stops it.
        let (shared, stop) = (Arc::downgrade(&self.0), shutdown.stop());
        shutdown.spawn(async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(period) => {}
                    () = stop.requested() => return,
                }
                let Some(shared) = shared.upgrade() else { return };
                work(&Self(shared));
            }
        });
    }

    fn clean_up(&self) {
        self.0.board.sweep();
        self.0.games.forget_hours();
        self.0.stream.publish(Draft::new("telemetry.cleaned"));
    }

    fn watch_memory(&self) {
        let Some(usage) = self.0.process.usage() else { return };
        if HIGH_MEMORY < usage.resident_bytes {
            let data = json!({"resident_bytes": usage.resident_bytes});
            self.0.stream.publish(Draft::new("system.memory_high").data(data));
        }
    }
}

fn draft(kind: &'static str, place: Place<'_>) -> Draft {
    Draft::new(kind).game(place.game).room(place.room)
}

/// A picture that lacks a state or a way is a fault of the declaration, not of the game.
fn note(result: infra_core::Result<()>) {
    if let Err(error) = result {
        tracing::debug!(error = %error, "the picture does not have this");
    }
}

/// What is being done.
#[derive(Debug, Clone, Copy)]
enum Step<'a> {
    Transition { from: &'static str, to: &'static str },
    Action { player: &'a str, action: &'static str },
}

impl Step<'_> {
    fn draft(self, kind: &'static str, place: Place<'_>) -> Draft {
        match self {
            Self::Transition { from, to } => {
                draft(kind, place).data(json!({"from": from, "to": to}))
            }
            Self::Action { player, action } => {
                draft(kind, place).player(player).data(json!({"action": action}))
            }
        }
    }
}

/// Counts how something ended, however it ends: done, failed, cancelled or by a panic.
struct Ending<'a, P: Label + 'static> {
    telemetry: &'a Telemetry<P>,
    place: Place<'a>,
    step: Step<'a>,
    begun: infra_core::clock::Instant,
    /// So that exemplars name the span.
    span: Span,
    has_ended: bool,
}

impl<'a, P: Label + 'static> Ending<'a, P> {
    fn new(telemetry: &'a Telemetry<P>, span: Span, place: Place<'a>, step: Step<'a>) -> Self {
        let begun = telemetry.0.clock.now();
        Self { telemetry, place, step, begun, span, has_ended: false }
    }

    fn end(&mut self, is_done: bool) {
        self.has_ended = true;
        let context = infra_core::context::Context::current();
        match crate::trace::context_of(&self.span) {
            Some(trace) => context.trace(trace).sync_scope(|| self.count(is_done)),
            None => self.count(is_done),
        }
    }

    fn count(&self, is_done: bool) {
        let shared = &self.telemetry.0;
        let place = self.place;
        let took = shared.clock.now().since(self.begun);
        let (kind, record) = match self.step {
            Step::Transition { from, to } => {
                note(shared.diagram.pass(from, to, took, is_done));
                if is_done {
                    shared.board.moved(place.room, to);
                }
                let kind = if is_done { "state.transition" } else { "state.transition.failed" };
                (kind, format!("{from} to {to}"))
            }
            Step::Action { player, action } => {
                let outcome = if is_done { Outcome::Done } else { Outcome::Failed };
                shared.games.act(player, Actor::of(player), outcome, took);
                let kind = if is_done { "action.completed" } else { "action.failed" };
                (kind, action.to_owned())
            }
        };
        if !is_done {
            shared.board.error(place.room);
        }
        shared.flights.record(place.room, place.version, format!("{kind}: {record}"));
        shared.stream.publish(self.step.draft(kind, place));
    }
}

impl<P: Label + 'static> Drop for Ending<'_, P> {
    fn drop(&mut self) {
        if !self.has_ended {
            self.end(false);
        }
    }
}
