//! What one room tells of itself: figures, picture, live stream, flight recorder.

use std::time::Duration;

use infra_core::{clock::Instant, context::Context};
use infra_observability::{
    game::{Actor, GameResult, Outcome, Seats},
    live::Draft,
    trace,
};
use tracing::Span;

use super::stage::{RoomTelemetry, is_played, stage_of};
use crate::{
    domain::{Event, PlayerId, Room, Seat, Viewer, view},
    protocol::{
        RoomCode,
        admin::{LiveEvent, Stage},
    },
};

/// The key of what all bots do together.
const BOT: &str = "bot_";

/// Tells what happens in one room, after it was stored; the task of the room owns it.
#[derive(Debug)]
pub(crate) struct Diary {
    telemetry: RoomTelemetry,
    code: RoomCode,
    room: String,
    stage: Option<Stage>,
    since: Instant,
    /// The span of the phase that is being played.
    phase: Option<Span>,
}

impl Diary {
    pub(crate) fn new(telemetry: RoomTelemetry, code: RoomCode) -> Self {
        let since = telemetry.clock().now();
        Self { telemetry, code, room: code.to_string(), stage: None, since, phase: None }
    }

    /// Takes up a room as it was read: what happened before was told when it happened.
    pub(crate) fn open(&mut self, room: &Room) {
        let Some(stage) = stage_of(room) else { return };
        self.stage = Some(stage);
        self.since = self.telemetry.clock().now();
        self.phase = self.phase_of(stage);
        noted(self.telemetry.diagram().enter(stage.name()));
        if is_played(stage) {
            self.telemetry.games().resume(&self.room, seats(room));
        }
    }

    /// Tells of an event that is stored and folded into `room`; storing it took `took`.
    pub(crate) fn wrote(&mut self, room: &Room, event: &Event, took: Duration) {
        if let Some(stage) = stage_of(room) {
            self.go(stage, took);
        }
        self.count(room, event);
        self.telemetry.flights().record(&self.room, room.offset(), event.name());
        self.publish(room, event);
    }

    /// Tells that a change was decided that could not be stored: the room is where it was.
    pub(crate) fn failed(&self, to: Option<Stage>, took: Duration, offset: u64) {
        self.telemetry.flights().record(&self.room, offset, "not stored");
        if let (Some(from), Some(to)) = (self.stage, to)
            && from != to
        {
            noted(self.telemetry.diagram().pass(from.name(), to.name(), took, false));
        }
    }

    /// Counts an action of a person, or of a bot.
    pub(crate) fn acted(&self, player: Option<PlayerId>, is_done: bool, took: Duration) {
        let outcome = if is_done { Outcome::Done } else { Outcome::Failed };
        let games = self.telemetry.games();
        match player {
            Some(player) => games.act(&player.to_string(), Actor::Person, outcome, took),
            None => games.act(BOT, Actor::Bot, outcome, took),
        }
    }

    /// Returns a guard that keeps the flight record if the task of the room panics.
    pub(crate) fn guard(&self) -> impl Drop + use<> {
        self.telemetry.flights().guard(&self.room)
    }

    fn go(&mut self, to: Stage, took: Duration) {
        if self.stage == Some(to) {
            return;
        }
        let now = self.telemetry.clock().now();
        let stayed = now.since(self.since);
        let diagram = self.telemetry.diagram();
        match self.stage {
            None => noted(diagram.enter(to.name())),
            Some(from) => {
                noted(diagram.stayed(from.name(), stayed));
                noted(diagram.pass(from.name(), to.name(), took, true));
                self.telemetry.games().phase(from, stayed);
            }
        }
        (self.stage, self.since) = (Some(to), now);
        if let (Some(ended), Some(action)) = (self.phase.take(), Context::current_trace()) {
            trace::link(&ended, action);
        }
        self.phase = self.phase_of(to);
    }

    /// Begins the span of a phase. A phase lasts for many actions, so it is a trace of its own, with
    /// links to the action that began it and the one that ended it.
    fn phase_of(&self, stage: Stage) -> Option<Span> {
        if !is_played(stage) {
            return None;
        }
        let phase = stage.name();
        let span = tracing::info_span!(parent: None, "room.phase", room = %self.code, phase);
        if let Some(action) = Context::current_trace() {
            trace::link(&span, action);
        }
        Some(span)
    }

    fn count(&self, room: &Room, event: &Event) {
        let games = self.telemetry.games();
        if matches!(event, Event::GameStarted { .. }) {
            games.start(&self.room, seats(room));
        } else if let Event::GameEnded { winners, .. } = event {
            games.end(&self.room, GameResult::Completed(winner(room, winners)));
        } else if matches!(event, Event::RoomAbandoned { .. }) && games.is_active(&self.room) {
            // A room whose game had not begun is no game that was given up.
            games.end(&self.room, GameResult::Abandoned);
        }
    }

    /// Publishes an event as a spectator sees it.
    fn publish(&self, room: &Room, event: &Event) {
        let live = LiveEvent {
            room: self.code,
            offset: room.offset(),
            at_ms: self.telemetry.clock().wall().as_millis(),
            event: view(event, Viewer::Spectator),
        };
        let Ok(data) = serde_json::to_value(&live) else { return };
        self.telemetry.stream().publish(Draft::new(event.name()).room(&self.room).data(data));
    }
}

impl Drop for Diary {
    fn drop(&mut self) {
        let Some(stage) = self.stage else { return };
        let stayed = self.telemetry.clock().now().since(self.since);
        noted(self.telemetry.diagram().leave(stage.name(), stayed));
        if is_played(stage) {
            self.telemetry.games().suspend(&self.room);
        }
    }
}

/// A picture that lacks a state or a way is a fault of its declaration, not of the room.
fn noted(result: infra_core::Result<()>) {
    if let Err(error) = result {
        tracing::debug!(error = &error as &dyn std::error::Error, "the picture does not have this");
    }
}

fn seats(room: &Room) -> Seats {
    let people = Seat::ALL.into_iter().filter(|seat| room.player_at(*seat).is_some()).count();
    let people = u32::try_from(people).unwrap_or(u32::MAX);
    Seats { people, bots: u32::try_from(Seat::ALL.len()).unwrap_or(u32::MAX) - people }
}

/// Returns who has won; nobody alone where people and bots share the highest score.
fn winner(room: &Room, winners: &[Seat]) -> Option<Actor> {
    let people = winners.iter().filter(|seat| room.player_at(**seat).is_some()).count();
    match people {
        0 if !winners.is_empty() => Some(Actor::Bot),
        all if all == winners.len() && 0 < all => Some(Actor::Person),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use infra_core::{Clock, machine::StateMachine as _, random::Random, trace::TraceContext};
    use infra_observability::{
        live::Filter,
        telemetry::Options,
        trace::{Buffer, Sampler, Spans},
    };
    use infra_testkit::clock::ManualClock;
    use tracing_subscriber::{Registry, layer::SubscriberExt as _};

    use super::*;
    use crate::{observe::ROOM, simulate::play_game};

    #[test]
    fn a_whole_game_is_counted_drawn_recorded_and_streamed_without_a_hand() {
        let clock = Arc::new(ManualClock::new());
        let telemetry =
            RoomTelemetry::new("test", ROOM, Options::default(), Arc::<ManualClock>::clone(&clock));
        let code = RoomCode::from_number(7);
        let mut diary = Diary::new(telemetry.clone(), code);
        let mut room = Room::default();
        let events = play_game(3, 1).unwrap().events;
        for event in &events {
            room.evolve(event);
            clock.advance(Duration::from_secs(1));
            diary.wrote(&room, event, Duration::from_millis(2));
        }
        let games = telemetry.games().analytics();
        assert_eq!((games.started, games.completed, games.active), (1, 1, 0));
        assert_eq!(games.people.seats + games.bots.seats, 4);
        let view = telemetry.diagram().view();
        let active = |view: &infra_observability::diagram::View, id| {
            view.nodes.iter().find(|node| node.id == id).unwrap().active
        };
        assert_eq!((active(&view, "completed"), active(&view, "turn")), (1, 0));
        assert!(view.nodes.iter().any(|node| node.average_seconds.is_some()));
        assert_eq!(telemetry.flights().tape(&code.to_string()).last().unwrap().what, "game_ended");
        let streamed = telemetry.stream().history(&Filter::default(), 0, usize::MAX);
        assert_eq!(streamed.len(), events.len());
        assert!(streamed.iter().all(|event| !event.to_sse().contains("\"hands\"")));
        drop(diary);
        assert_eq!(active(&telemetry.diagram().view(), "completed"), 0);
    }

    #[test]
    fn each_phase_is_a_span_that_lasts_and_links_to_what_began_and_ended_it() {
        let clock = Arc::new(ManualClock::new());
        let time: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
        let (spans, random) = (Buffer::new(999), Arc::new(Random::seeded(1)));
        let layer =
            Spans::new(Sampler::all(), Arc::clone(&time), Arc::clone(&random), spans.clone());
        let _default = tracing::subscriber::set_default(Registry::default().with(layer));
        let telemetry = RoomTelemetry::new("test", ROOM, Options::default(), time);
        let mut diary = Diary::new(telemetry, RoomCode::from_number(7));
        let (mut room, mut stages) = (Room::default(), Vec::new());
        for event in &play_game(3, 1).unwrap().events {
            room.evolve(event);
            clock.advance(Duration::from_secs(1));
            let action = TraceContext::root(&random, true);
            let took = Duration::from_millis(2);
            Context::default().trace(action).sync_scope(|| diary.wrote(&room, event, took));
            let stage = stage_of(&room).unwrap();
            match stages.last_mut() {
                Some((last, lasted, _)) if *last == stage => *lasted += Duration::from_secs(1),
                _ => stages.push((stage, Duration::from_secs(1), action)),
            }
        }
        let next = stages.iter().skip(1);
        let wanted: Vec<_> = stages
            .iter()
            .zip(next)
            .filter(|((stage, _, _), _)| is_played(*stage))
            .map(|((stage, lasted, began), (_, _, ended))| {
                (Some(stage.name().to_owned()), *lasted, vec![*began, *ended])
            })
            .collect();
        let told = spans.take(999);
        assert!(told.iter().all(|span| span.name == "room.phase" && span.parent.is_none()));
        let told: Vec<_> =
            told.into_iter().map(|s| (s.attribute("phase"), s.duration, s.links)).collect();
        assert_eq!(told, wanted);
        assert!(3 < told.len());
    }

    #[test]
    fn a_game_that_is_taken_up_again_is_active_and_not_counted_as_started() {
        let clock = Arc::new(ManualClock::new());
        let telemetry = RoomTelemetry::new("test", ROOM, Options::default(), clock);
        let mut room = Room::default();
        let events = play_game(3, 1).unwrap().events;
        for event in events.iter().take(events.len() / 2) {
            room.evolve(event);
        }
        let mut diary = Diary::new(telemetry.clone(), RoomCode::from_number(7));
        diary.open(&room);
        let games = telemetry.games().analytics();
        assert_eq!((games.started, games.active), (0, 1));
        diary.failed(Some(Stage::Abandoned), Duration::ZERO, room.offset());
        let view = telemetry.diagram().view();
        assert_eq!(view.edges.iter().map(|edge| edge.failed).sum::<u64>(), 1);
        diary.acted(None, true, Duration::ZERO);
        drop(diary);
        assert_eq!(telemetry.games().analytics().active, 0);
    }

    #[test]
    fn who_shares_a_win_with_the_other_kind_has_not_won_alone() {
        let room = Room::default();
        assert_eq!(winner(&room, &[Seat::First]), Some(Actor::Bot));
        assert_eq!(winner(&room, &[]), None);
    }
}
