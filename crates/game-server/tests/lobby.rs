//! Who comes, goes, hosts and talks, and how numbered actions are answered.

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

use common::room::{PLAIN, TestRoom, chat, declare, entropy, name, names, play, player};
use game_server::domain::{
    AbandonReason, Act, ActionNumber, Actor, Answer, Command, Event, Millis, RECENT_CHAT, Refusal,
    Room, Seat, SeatView, Settings, Status, Style, Viewer,
};
use infra_core::machine::StateMachine;

fn join(text: &str) -> Act {
    Act::Join { name: name(text) }
}

fn create(text: &str) -> Act {
    Act::Create { name: name(text), settings: Settings::default() }
}

const fn start() -> Act {
    Act::Start { entropy: game_server::domain::Entropy::new([5; 32]) }
}

const ADD_BOT: Act = Act::AddBot { style: Style::Bold };

#[test]
fn a_room_that_was_not_created_refuses_everything_else() {
    let mut room = TestRoom::default();
    assert_eq!(room.does(0, join("Ann")), Err(Refusal::NoSuchRoom));
    assert_eq!(room.does(0, Act::Leave), Err(Refusal::NoSuchRoom));
    let close = Act::Close { reason: AbandonReason::Operator };
    assert_eq!(room.give(Command::of(Actor::Operator, close)), Err(Refusal::NoSuchRoom));
    assert_eq!((room.room.status(), room.room.view(Viewer::Spectator)), (None, None));
}

#[test]
fn the_host_sits_on_seat_zero_and_others_take_the_first_free_seat() {
    let mut room = TestRoom::with_people(1);
    assert_eq!(room.room.host(), Some(Seat::First));
    room.does(0, ADD_BOT).unwrap();
    room.does(7, join("Mei")).unwrap();
    assert_eq!(room.room.seat_of(player(7)), Some(Seat::Third));
    assert_eq!(room.room.player_at(Seat::Third), Some(player(7)));
    assert_eq!(room.room.status(), Some(Status::Waiting));
    room.does(0, Act::RemoveBot { seat: Seat::Second }).unwrap();
    room.does(8, join("Tao")).unwrap();
    assert_eq!(room.room.seat_of(player(8)), Some(Seat::Second));
    room.does(0, ADD_BOT).unwrap();
    assert_eq!(room.room.status(), Some(Status::Ready));
}

#[test]
fn a_room_is_created_once_and_with_settings_in_range() {
    let mut room = TestRoom::default();
    let settings = Settings { turn_ms: Millis::ZERO, ..Settings::default() };
    let bad = Act::Create { name: name("Ann"), settings };
    assert_eq!(room.does(0, bad), Err(Refusal::InvalidSettings));
    room.does(0, create("Ann")).unwrap();
    assert_eq!(room.does(1, create("Bob")), Err(Refusal::RoomExists));
    assert_eq!(*room.room.settings(), Settings::default());
}

#[test]
fn a_fifth_player_a_taken_name_and_a_second_join_are_refused() {
    let mut room = TestRoom::with_people(3);
    assert_eq!(room.does(1, join("Other")), Err(Refusal::AlreadyJoined));
    assert_eq!(room.does(9, join("PLAYER 1")), Err(Refusal::NameTaken));
    room.does(9, join("Nine")).unwrap();
    assert_eq!(room.does(10, join("Ten")), Err(Refusal::RoomFull));
    assert_eq!(room.does(0, ADD_BOT), Err(Refusal::RoomFull));
}

#[test]
fn only_the_host_adds_and_removes_bots_and_starts() {
    let mut room = TestRoom::with_people(2);
    let remove = |seat| Act::RemoveBot { seat };
    for act in [ADD_BOT, remove(Seat::Third), start()] {
        assert_eq!(room.does(1, act.clone()), Err(Refusal::NotHost));
        assert_eq!(room.does(9, act), Err(Refusal::NotInRoom));
    }
    assert_eq!(room.does(0, remove(Seat::Second)), Err(Refusal::NotABot), "a person");
    assert_eq!(room.does(0, remove(Seat::Third)), Err(Refusal::NotABot), "nobody");
    room.does(0, start()).unwrap();
    for act in [ADD_BOT, remove(Seat::Third), start()] {
        assert_eq!(room.does(0, act), Err(Refusal::WrongPhase));
    }
}

#[test]
fn bots_fill_the_free_seats_at_the_start_under_names_of_their_own() {
    let mut room = TestRoom::default();
    room.does(0, create("bot BAI")).unwrap();
    room.does(1, join("Bot Chen")).unwrap();
    let events = room.does(0, start()).unwrap();
    assert_eq!(names(&events)[..4], ["bot_added", "bot_added", "game_started", "dealt"]);
    assert_eq!(room.room.status(), Some(Status::InGame));
    let named = |seat| room.room.name_at(seat).unwrap().as_str();
    assert_eq!((named(Seat::Third), named(Seat::Fourth)), ("Bot Fang", "Bot Hua"));
    assert_eq!(room.does(5, join("Late")), Err(Refusal::GameRunning));
}

#[test]
fn when_the_host_leaves_the_next_person_round_the_table_hosts() {
    let mut room = TestRoom::with_people(1);
    room.does(0, ADD_BOT).unwrap();
    room.does(2, join("Two")).unwrap();
    room.does(3, join("Three")).unwrap();
    let events = room.does(0, Act::Leave).unwrap();
    assert_eq!(names(&events), ["host_changed", "player_left"]);
    assert_eq!(room.room.host(), Some(Seat::Third));
    room.does(2, ADD_BOT).unwrap();
    assert_eq!(names(&room.does(3, Act::Leave).unwrap()), ["player_left"]);
    let events = room.does(2, Act::Leave).unwrap();
    assert_eq!(names(&events), ["player_left", "room_abandoned"]);
    assert_eq!(room.room.status(), Some(Status::Abandoned));
}

#[test]
fn a_silent_person_hosts_only_if_nobody_else_is_left() {
    let mut room = TestRoom::dealt(PLAIN, Seat::Second);
    room.tick(1);
    room.does(0, Act::Leave).unwrap();
    assert_eq!(room.room.host(), Some(Seat::Third), "seat 1 is silent");
    room.does(2, Act::Leave).unwrap();
    room.does(3, Act::Leave).unwrap();
    assert_eq!(room.room.host(), Some(Seat::Second));
}

#[test]
fn in_a_game_a_bot_takes_the_seat_of_who_leaves_for_good() {
    let mut room = TestRoom::dealt(PLAIN, Seat::First);
    let events = room.does(0, Act::Leave).unwrap();
    assert_eq!(names(&events), ["host_changed", "player_left", "bot_added"]);
    let view = room.view(Viewer::Spectator);
    assert!(matches!(view.seats[Seat::First], SeatView::Bot { .. }));
    assert_eq!(room.does(0, declare(1)), Err(Refusal::NotInRoom));
    assert_eq!(room.does(0, join("Player 0")), Err(Refusal::GameRunning));
    assert_eq!(names(&room.tick(1)), ["declared"], "the bot plays on");
    for number in [1, 2] {
        room.does(number, Act::Leave).unwrap();
    }
    let events = room.does(3, Act::Leave).unwrap();
    assert_eq!(names(&events), ["player_left", "room_abandoned"]);
    assert_eq!(room.room.due(), None);
}

#[test]
fn an_abandoned_room_refuses_everything() {
    let mut room = TestRoom::with_people(2);
    let close = Act::Close { reason: AbandonReason::Idle };
    room.give(Command::of(Actor::Clock, close.clone())).unwrap();
    assert_eq!(room.events.last(), Some(&Event::RoomAbandoned { reason: AbandonReason::Idle }));
    for act in [Act::Leave, chat("hello"), start(), join("Ann")] {
        assert_eq!(room.does(0, act), Err(Refusal::RoomAbandoned));
    }
    assert_eq!(room.give(Command::of(Actor::Operator, close)), Err(Refusal::RoomAbandoned));
    // A numbered action is refused too, and leaves no event in a dead room.
    let numbered = Command::numbered(player(0), ActionNumber::new(1), chat("hello"));
    assert_eq!(room.give(numbered), Err(Refusal::RoomAbandoned));
    assert_eq!(room.does(0, create("Ann")), Err(Refusal::RoomExists));
}

#[test]
fn a_completed_room_keeps_its_chat_until_everybody_has_left() {
    let transcript = game_server::simulate::play_game(7, 0).unwrap();
    let host = transcript.room.player_at(Seat::First).unwrap();
    let mut room = TestRoom { room: transcript.room, events: transcript.events };
    let mut does = |act| room.give(Command::of(Actor::Player(host), act));
    assert_eq!(names(&does(chat("well played")).unwrap()), ["chat"]);
    let close = Command::of(Actor::Operator, Act::Close { reason: AbandonReason::Operator });
    assert_eq!(names(&does(Act::Leave).unwrap()), ["player_left"]);
    assert_eq!(room.give(close), Err(Refusal::WrongPhase));
    assert_eq!(room.room.status(), Some(Status::Completed));
}

#[test]
fn nobody_gives_commands_that_are_not_theirs() {
    let mut room = TestRoom::dealt(PLAIN, Seat::First);
    let since = room.room.due().unwrap().since;
    for act in [
        Act::TimeOut { seat: Seat::First, since },
        Act::PlayFor { seat: Seat::First, since, entropy: entropy(1) },
        Act::NextRound { since, entropy: entropy(1) },
        Act::Close { reason: AbandonReason::Idle },
    ] {
        assert_eq!(room.does(0, act), Err(Refusal::NotAllowed));
    }
    for actor in [Actor::Clock, Actor::Operator] {
        for act in [declare(1), play(&[0]), Act::Leave, join("X"), chat("x"), ADD_BOT, Act::Return]
        {
            assert_eq!(room.give(Command::of(actor, act)), Err(Refusal::NotAllowed));
        }
        assert_eq!(room.give(Command::of(actor, create("X"))), Err(Refusal::RoomExists));
        let mut nothing = TestRoom::default();
        assert_eq!(nothing.give(Command::of(actor, create("X"))), Err(Refusal::NotAllowed));
    }
}

#[test]
fn the_chat_is_kept_with_the_room_and_its_last_messages_in_the_view() {
    let mut room = TestRoom::with_people(2);
    for number in 0..RECENT_CHAT + 5 {
        room.does(1, chat(&format!("message {number}"))).unwrap();
    }
    let view = room.view(Viewer::Spectator);
    assert_eq!(view.chat.len(), RECENT_CHAT);
    assert_eq!(view.chat[0].text.as_str(), "message 5");
    let last = view.chat.last().unwrap();
    assert_eq!((last.seat, last.name.as_str(), last.offset), (Seat::Second, "Player 1", 27));
    assert_eq!(room.does(9, chat("let me in")), Err(Refusal::NotInRoom));
}

#[test]
fn a_retry_of_an_accepted_action_gets_the_first_answer_and_does_nothing_again() {
    let mut room = TestRoom::dealt(PLAIN, Seat::First);
    let first = room.acts(0, 5, declare(2)).unwrap();
    let offset = room.room.offset();
    assert_eq!(first, Answer::Accepted { offset });
    let before = room.room.clone();
    // The number counts, not what is asked with it.
    assert_eq!(room.acts(0, 5, declare(2)), Some(first));
    assert_eq!(room.acts(0, 5, chat("something else")), Some(first));
    assert_eq!(room.room, before);
}

#[test]
fn a_retry_of_a_refused_action_gets_the_first_refusal_even_if_it_would_succeed_now() {
    let mut room = TestRoom::dealt(PLAIN, Seat::First);
    let refused = room.acts(1, 1, declare(2)).unwrap();
    let Answer::Refused { offset, reason: Refusal::NotYourTurn } = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(offset, room.room.offset());
    room.acts(0, 1, declare(2));
    assert_eq!(room.acts(1, 1, declare(2)), Some(refused));
    assert_eq!(room.game().awaited, Some(Seat::Second), "it has not declared");
    assert!(matches!(room.acts(1, 2, declare(2)), Some(Answer::Accepted { .. })));
}

#[test]
fn answers_survive_a_restart() {
    let mut room = TestRoom::dealt(PLAIN, Seat::First);
    let accepted = room.acts(0, 1, declare(2)).unwrap();
    let refused = room.acts(2, 7, declare(2)).unwrap();
    let mut restarted = TestRoom { room: room.replayed(), events: Vec::new() };
    assert_eq!(restarted.room, room.room);
    assert_eq!(restarted.acts(0, 1, declare(2)), Some(accepted));
    assert_eq!(restarted.acts(2, 7, declare(2)), Some(refused));
    assert!(restarted.events.is_empty());
}

#[test]
fn an_older_number_is_stale_and_a_gap_is_allowed() {
    let mut room = TestRoom::with_people(2);
    room.acts(1, 3, chat("three"));
    let older = Command::numbered(player(1), ActionNumber::new(2), chat("two"));
    assert_eq!(room.give(older), Err(Refusal::StaleAction));
    assert!(room.acts(1, 900, chat("nine hundred")).is_some());
    assert_eq!(room.room.last_action(player(1)), Some(ActionNumber::new(900)));
    let seen = room.view(Viewer::Seat(Seat::Second)).last_action;
    assert_eq!(seen, Some(ActionNumber::new(900)));
    assert_eq!(room.view(Viewer::Seat(Seat::First)).last_action, None);
}

#[test]
fn the_answer_to_leaving_outlives_the_seat_and_a_return_goes_on_counting() {
    let mut room = TestRoom::with_people(3);
    let left = room.acts(1, 4, Act::Leave).unwrap();
    assert_eq!(room.room.seat_of(player(1)), None);
    assert_eq!(room.acts(1, 4, Act::Leave), Some(left));
    let late = Command::numbered(player(1), ActionNumber::new(5), chat("still here"));
    assert_eq!(room.give(late), Err(Refusal::NotInRoom));
    // Somebody else takes the seat: that player's numbers are its own.
    room.does(8, join("Eight")).unwrap();
    assert!(room.acts(8, 1, chat("hello")).is_some());
    assert_eq!(room.acts(1, 4, Act::Leave), Some(left));
    // Who comes back, on another seat, cannot repeat what was done before.
    room.does(1, join("One")).unwrap();
    assert_eq!(room.room.seat_of(player(1)), Some(Seat::Fourth));
    assert_eq!(room.acts(1, 4, chat("again")), Some(left));
    assert!(matches!(room.acts(1, 5, chat("new")), Some(Answer::Accepted { .. })));
}

#[test]
fn each_event_that_answers_an_action_names_it() {
    let mut room = TestRoom::with_people(1);
    let mut action = 0;
    for act in [ADD_BOT, Act::RemoveBot { seat: Seat::Second }, chat("go"), start()] {
        action += 1;
        let before = room.events.len();
        let answer = room.acts(0, action, act).unwrap();
        let Answer::Accepted { offset } = answer else { panic!("{answer:?}") };
        let own: Vec<_> = room.events[before..].iter().filter_map(Event::cause).collect();
        assert_eq!(own.len(), 1);
        assert_eq!((own[0].seat, own[0].action.get()), (Seat::First, action));
        let idx = usize::try_from(offset).unwrap() - 1;
        assert_eq!(room.events[idx].cause(), Some(own[0]));
    }
}

#[test]
fn a_room_without_events_is_the_default_one() {
    assert_eq!(Room::NAME, "room");
    assert_eq!(Room::SCHEMA_VERSION, 1);
    assert_eq!(Room::default().offset(), 0);
    assert_eq!(Room::default().check(), Ok(()));
}
