//! Whatever is asked of a room, by whomever: it never panics, refusals change nothing, and its
//! invariants hold.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::allow_attributes,
    reason = "a panic is how a test fails"
)]

mod common;

use std::sync::LazyLock;

use common::room::{chat, declare, entropy, name, player};
use game_server::{
    domain::{
        AbandonReason, Act, ActionNumber, Actor, Answer, Awaited, Bounds, Command, Event, Millis,
        Piece, Pieces, PlayerId, Room, Seat, Settings, Status, Style, Viewer, choose,
    },
    simulate::{Transcript, play_game},
};
use infra_core::machine::StateMachine;
use proptest::prelude::*;

/// Games whose events are thrown together.
static PLAYED: LazyLock<Vec<Transcript>> =
    LazyLock::new(|| (0..4).map(|number| play_game(5, number).unwrap()).collect());

/// Raw chance, turned into a command by what the room looks like at that moment.
#[derive(Debug, Clone, Copy)]
struct Roll {
    what: u8,
    who: u8,
    number: u8,
    seat: u8,
    bits: u32,
}

fn roll() -> impl Strategy<Value = Roll> {
    (any::<u8>(), any::<u8>(), any::<u8>(), any::<u8>(), any::<u32>())
        .prop_map(|(what, who, number, seat, bits)| Roll { what, who, number, seat, bits })
}

impl Roll {
    fn seat(self) -> Seat {
        Seat::ALL[usize::from(self.seat % 4)]
    }

    fn pieces(self, room: &Room) -> Pieces {
        let viewer = Viewer::Seat(self.seat());
        let hand = room.view(viewer).and_then(|view| view.game).and_then(|game| game.hand);
        let random: Pieces =
            (0..32).filter(|id| self.bits & 1 << id != 0).filter_map(Piece::new).collect();
        let held = hand.unwrap_or_default();
        match self.bits % 3 {
            0 => random,
            1 => random.and(held),
            _ => held.first(usize::from(self.number % 7)),
        }
    }

    fn actor(self) -> Actor {
        match self.who % 10 {
            8 => Actor::Clock,
            9 => Actor::Operator,
            who => Actor::Player(player(u128::from(who % 6))),
        }
    }

    /// Bounds that a game may reach, or may not.
    fn bounds(self) -> Bounds {
        let rounds = Some(1 + self.number % 20);
        let (events, bytes) = (Some(1 + self.bits % 3_000), Some(1 + self.bits % 300_000));
        Bounds { rounds, events, bytes, minutes: Some(1) }
    }

    fn act(self, room: &Room) -> Act {
        let entropy = entropy(self.seat);
        let seat = self.seat();
        let since = match self.bits % 4 {
            0 => u64::from(self.bits),
            _ => room.due().map_or(0, |due| due.since),
        };
        let turn_ms = Millis::new(self.bits);
        let settings = match self.bits % 4 {
            0 => Settings { turn_ms, ..Settings::default() },
            1 => Settings { bounds: self.bounds(), ..Settings::default() },
            _ => Settings::default(),
        };
        match self.what % 24 {
            0 | 1 => Act::Create { name: name("Ann"), settings },
            2 | 3 => Act::Join { name: name(&format!("Player {}", self.number % 5)) },
            4 if self.bits.is_multiple_of(8) => Act::Leave,
            5 => Act::AddBot { style: Style::ALL[usize::from(self.number % 3)] },
            6 => Act::RemoveBot { seat },
            7 => Act::Start { entropy },
            8 => Act::AcceptRedeal { entropy },
            9 => Act::DeclineRedeal,
            10..=12 => declare(self.number % 11),
            13..=15 => Act::Play { pieces: self.pieces(room) },
            16 => Act::Return,
            17 => Act::TimeOut { seat, since },
            18 => Act::PlayFor { seat, since, entropy },
            19 => Act::NextRound { since, entropy },
            21 if self.bits.is_multiple_of(32) => Act::TimeIsUp,
            20 if self.bits.is_multiple_of(32) => Act::Close { reason: AbandonReason::Idle },
            _ => chat("hello"),
        }
    }

    /// Two commands of three further the game; the others are anything at all.
    fn command(self, room: &Room) -> Command {
        if let Some(due) = room.due().filter(|_| !self.what.is_multiple_of(3)) {
            let entropy = entropy(self.number);
            if let (Awaited::Person(seat), true) = (due.awaited, !self.bits.is_multiple_of(5)) {
                let game = room.view(Viewer::Seat(seat)).unwrap().game.unwrap();
                let act = choose(&game, seat, Style::ALL[usize::from(self.seat % 3)])
                    .unwrap()
                    .into_act(entropy);
                return self.by(Actor::Player(room.player_at(seat).unwrap()), act);
            }
            return due.command(entropy);
        }
        self.by(self.actor(), self.act(room))
    }

    fn by(self, actor: Actor, act: Act) -> Command {
        let action =
            (!self.number.is_multiple_of(4)).then(|| ActionNumber::new(u64::from(self.bits % 512)));
        Command { actor, action, act }
    }
}

/// Opens a new room now and then when the last one is over.
fn reopen(room: &mut Room, roll: Roll) {
    let is_over = matches!(room.status(), Some(Status::Abandoned | Status::Completed));
    if is_over && roll.bits.is_multiple_of(8) {
        *room = Room::default();
    }
}

/// What there is to see of a room, apart from the bookkeeping of actions.
fn essence(room: &Room) -> String {
    let mut views = Vec::new();
    for viewer in Seat::ALL.into_iter().map(Viewer::Seat).chain([Viewer::Spectator]) {
        if let Some(mut view) = room.view(viewer) {
            (view.offset, view.last_action) = (0, None);
            views.push(view);
        }
    }
    serde_json::to_string(&(views, room.due().map(|due| due.since))).unwrap()
}

/// Gives one command and checks all that must hold.
fn give(room: &mut Room, command: &Command) {
    let before = room.clone();
    let decided = room.decide(command.clone());
    let Ok(events) = decided else {
        assert_eq!(*room, before, "deciding changes nothing");
        return;
    };
    for event in &events {
        room.evolve(event);
        assert_eq!(room.check(), Ok(()), "after {event:?}");
        let json = serde_json::to_vec(event).unwrap();
        assert_eq!(serde_json::from_slice::<Event>(&json).unwrap(), *event);
    }
    let is_refused = events.iter().any(|event| event.name() == "action_refused");
    if is_refused || events.is_empty() {
        assert_eq!(essence(room), essence(&before), "a refusal changed something");
        assert!(events.len() <= 1);
    }
    if let (Actor::Player(player), Some(action)) = (command.actor, command.action) {
        check_answer(room, &before, command, (player, action));
    }
}

/// Checks that a numbered action has the answer that its event gives, and keeps it.
fn check_answer(
    room: &Room,
    before: &Room,
    command: &Command,
    (player, action): (PlayerId, ActionNumber),
) {
    let Some(answer) = room.answer(player, action) else {
        assert_eq!(before.seat_of(player), None, "who sits is answered");
        return;
    };
    let (Answer::Accepted { offset } | Answer::Refused { offset, .. }) = answer;
    assert!(0 < offset && offset <= room.offset());
    assert_eq!(room.decide(command.clone()), Ok(Vec::new()), "a retry is harmless");
    let older = ActionNumber::new(action.get().saturating_sub(1));
    if older < action && room.last_action(player) == Some(action) {
        let stale = Command { action: Some(older), ..command.clone() };
        assert!(room.decide(stale).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_commands_of_anybody_keep_the_invariants_and_refusals_change_nothing(
        rolls in prop::collection::vec(roll(), 1..400),
    ) {
        let mut room = Room::default();
        for roll in rolls {
            reopen(&mut room, roll);
            let command = roll.command(&room);
            give(&mut room, &command);
        }
        let json = serde_json::to_string(&room).unwrap();
        prop_assert_eq!(serde_json::from_str::<Room>(&json).unwrap(), room);
    }

    #[test]
    fn any_events_in_any_order_never_make_a_room_panic(
        picks in prop::collection::vec((0_u64..4, 0_usize..600), 1..150),
    ) {
        let mut room = Room::default();
        for (game, idx) in picks {
            let events = &PLAYED[usize::try_from(game).unwrap()].events;
            room.evolve(&events[idx % events.len()]);
            // Whatever came out may be broken, and says so; it can still be asked for anything.
            let _broken: Result<(), String> = room.check();
            let _view = room.view(Viewer::Spectator);
            if let Some(due) = room.due() {
                let _decided = room.decide(due.command(entropy(1)));
            }
        }
    }
}

#[test]
fn random_commands_reach_every_kind_of_event_and_most_refusals() {
    // The control: the commands above are not all refused at the door.
    use proptest::{strategy::ValueTree, test_runner::TestRunner};

    let mut runner = TestRunner::deterministic();
    let mut names = std::collections::BTreeSet::new();
    let mut refusals = std::collections::BTreeSet::new();
    for _ in 0..60 {
        let mut room = Room::default();
        let rolls = prop::collection::vec(roll(), 500).new_tree(&mut runner).unwrap().current();
        for roll in rolls {
            reopen(&mut room, roll);
            match room.decide(roll.command(&room)) {
                Ok(events) => {
                    for event in events {
                        names.insert(event.name());
                        if let Event::ActionRefused { reason, .. } = event {
                            refusals.insert(reason.code());
                        }
                        room.evolve(&event);
                    }
                }
                Err(refusal) => {
                    refusals.insert(refusal.code());
                }
            }
        }
    }
    assert_eq!(names.len(), 21, "{names:?}");
    assert!(20 <= refusals.len(), "{refusals:?}");
}
