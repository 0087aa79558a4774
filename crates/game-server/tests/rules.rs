//! The rules of a round and of a game, each at its own table.

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

use common::room::{PLAIN, SEATS, TestRoom, declare, entropy, names, play};
use game_server::domain::{
    Act, Actor, Awaited, BySeat, Command, Event, Millis, Phase, Piece, PlayType, Refusal, Seat,
    Status, Viewer,
};
use infra_core::machine::StateMachine;

/// Hands where seats 1 and 3 are weak; seat 0 holds both generals.
const WEAK: [[u8; 8]; 4] = [
    [0, 1, 2, 16, 17, 18, 11, 12],
    [5, 6, 7, 8, 9, 10, 19, 20],
    [3, 4, 21, 22, 23, 24, 25, 26],
    [13, 14, 15, 27, 28, 29, 30, 31],
];

fn phase(room: &TestRoom) -> Phase {
    room.game().phase
}

fn awaited(room: &TestRoom) -> Option<Seat> {
    room.game().awaited
}

#[test]
fn the_first_round_starts_with_who_holds_the_red_general() {
    for byte in 0..40 {
        let mut room = TestRoom::with_people(4);
        let events = room.does(0, Act::Start { entropy: entropy(byte) }).unwrap();
        let Some(Event::Dealt { round, multiplier, starter, hands, .. }) =
            events.iter().find(|event| event.name() == "dealt")
        else {
            panic!("no deal")
        };
        assert_eq!((*round, *multiplier), (1, 1));
        assert!(hands.0[*starter].contains(Piece::new(0).unwrap()));
    }
}

#[test]
fn weak_hands_are_asked_in_play_order_until_one_takes_the_redeal() {
    let mut room = TestRoom::dealt(WEAK, Seat::First);
    assert_eq!((phase(&room), awaited(&room)), (Phase::Preparation, Some(Seat::Second)));
    assert_eq!(room.does(3, Act::DeclineRedeal), Err(Refusal::NotYourTurn));
    assert_eq!(room.does(1, declare(1)), Err(Refusal::WrongPhase));

    let events = room.does(1, Act::DeclineRedeal).unwrap();
    assert_eq!(names(&events), ["redeal_declined", "redeal_asked"]);
    assert_eq!((phase(&room), awaited(&room)), (Phase::Preparation, Some(Seat::Fourth)));

    let events = room.does(3, Act::DeclineRedeal).unwrap();
    assert_eq!(names(&events), ["redeal_declined"]);
    assert_eq!((phase(&room), awaited(&room)), (Phase::Declaration, Some(Seat::First)));
}

#[test]
fn a_redeal_makes_its_taker_the_starter_and_raises_the_multiplier_each_time() {
    let mut room = TestRoom::dealt(WEAK, Seat::First);
    let events = room.does(1, Act::AcceptRedeal { entropy: entropy(3) }).unwrap();
    assert_eq!(names(&events)[..2], ["redeal_accepted", "dealt"]);
    let game = room.game();
    assert_eq!((game.round, game.multiplier, game.starter), (1, 2, Seat::Second));

    // The new hands are checked again: a second redeal counts three times.
    room.deal(1, 2, WEAK, Seat::Second);
    assert_eq!((phase(&room), awaited(&room)), (Phase::Preparation, Some(Seat::Second)));
    room.does(1, Act::DeclineRedeal).unwrap();
    room.does(3, Act::AcceptRedeal { entropy: entropy(4) }).unwrap();
    let game = room.game();
    assert_eq!((game.round, game.multiplier, game.starter), (1, 3, Seat::Fourth));
}

#[test]
fn a_hand_without_weakness_is_never_asked() {
    let mut room = TestRoom::dealt(PLAIN, Seat::First);
    assert_eq!(phase(&room), Phase::Declaration);
    let redeal = Act::AcceptRedeal { entropy: entropy(1) };
    assert_eq!(room.does(0, redeal), Err(Refusal::WrongPhase));
    assert_eq!(room.does(0, Act::DeclineRedeal), Err(Refusal::WrongPhase));
}

#[test]
fn declarations_go_round_the_table_from_the_starter() {
    let mut room = TestRoom::dealt(PLAIN, Seat::Third);
    for seat in [2, 3, 0, 1] {
        for other in (0..4).filter(|other| *other != seat) {
            assert_eq!(room.does(other, declare(1)), Err(Refusal::NotYourTurn));
        }
        room.does(seat, declare(1)).unwrap();
    }
    assert_eq!((phase(&room), awaited(&room)), (Phase::Turn, Some(Seat::Third)));
    assert_eq!(room.does(2, declare(1)), Err(Refusal::WrongPhase));
}

#[test]
fn the_last_declaration_may_not_make_eight_and_none_is_above_eight() {
    let mut room = TestRoom::dealt(PLAIN, Seat::First);
    assert_eq!(room.does(0, declare(9)), Err(Refusal::DeclarationOutOfRange));
    for (number, piles) in [(0, 3), (1, 0), (2, 2)] {
        room.does(number, declare(piles)).unwrap();
    }
    let view = room.view(Viewer::Seat(Seat::Fourth)).game.unwrap();
    assert_eq!(view.may_declare, [0, 1, 2, 4, 5, 6, 7, 8]);
    assert!(room.view(Viewer::Seat(Seat::First)).game.unwrap().may_declare.is_empty());
    assert_eq!(room.does(3, declare(3)), Err(Refusal::DeclarationSumsToEight));
    room.does(3, declare(4)).unwrap();
}

#[test]
fn who_declared_zero_in_two_rounds_must_declare_at_least_one_in_the_next() {
    let mut room = TestRoom::dealt(PLAIN, Seat::First);
    for round in 1..=4 {
        room.does(0, declare(1)).unwrap();
        room.does(1, declare(2)).unwrap();
        room.does(2, declare(1)).unwrap();
        let zero = room.does(3, declare(0));
        if round == 3 {
            assert_eq!(zero, Err(Refusal::MustDeclareAtLeastOne));
            let view = room.view(Viewer::Seat(Seat::Fourth)).game.unwrap();
            assert_eq!(view.may_declare, [1, 2, 3, 5, 6, 7, 8]);
            room.does(3, declare(1)).unwrap();
        } else {
            assert!(zero.is_ok(), "round {round}");
        }
        play_out(&mut room);
        room.deal(round + 1, 1, PLAIN, Seat::First);
    }
}

/// Plays the rest of a round: every seat its first pieces, one by one.
fn play_out(room: &mut TestRoom) {
    while phase(room) == Phase::Turn {
        let seat = awaited(room).unwrap();
        let hand = room.view(Viewer::Seat(seat)).game.unwrap().hand.unwrap();
        let pieces = hand.first(1);
        room.does(u128::from(seat.number()), Act::Play { pieces }).unwrap();
    }
}

#[test]
fn the_starter_of_a_turn_plays_one_to_six_pieces_forming_a_valid_play() {
    let mut room = TestRoom::declared(PLAIN, [1, 1, 1, 1]);
    assert_eq!(room.does(0, play(&[])), Err(Refusal::WrongPieceCount));
    assert_eq!(room.does(0, play(&[0, 3, 5, 7, 9, 11, 27])), Err(Refusal::WrongPieceCount));
    assert_eq!(room.does(0, play(&[1])), Err(Refusal::PieceNotHeld));
    assert_eq!(room.does(0, play(&[0, 1])), Err(Refusal::PieceNotHeld));
    assert_eq!(room.does(0, play(&[0, 3])), Err(Refusal::InvalidPlay));
    assert_eq!(room.does(1, play(&[1])), Err(Refusal::NotYourTurn));
    let events = room.does(0, play(&[5, 7, 9])).unwrap();
    let Event::Played { play, can_win, .. } = &events[0] else { panic!("{events:?}") };
    assert_eq!((*play, *can_win), (Some(PlayType::Straight), true));
}

#[test]
fn the_others_put_down_as_many_pieces_of_any_kind_in_order() {
    let mut room = TestRoom::declared(PLAIN, [1, 1, 1, 1]);
    room.does(0, play(&[27, 28])).unwrap();
    assert_eq!(room.does(2, play(&[13, 14])), Err(Refusal::NotYourTurn));
    assert_eq!(room.does(1, play(&[1])), Err(Refusal::WrongPieceCount));
    assert_eq!(room.does(1, play(&[1, 4, 6])), Err(Refusal::WrongPieceCount));
    assert_eq!(room.does(1, play(&[1, 0])), Err(Refusal::PieceNotHeld));
    // Not a valid play: allowed, but it cannot win.
    let events = room.does(1, play(&[1, 4])).unwrap();
    let Event::Played { play: found, can_win, .. } = &events[0] else { panic!("{events:?}") };
    assert_eq!((*found, *can_win), (None, false));
    assert_eq!(room.game().hand_sizes.values().copied().collect::<Vec<_>>(), [6, 6, 8, 8]);
}

#[test]
fn the_winner_captures_as_many_piles_as_pieces_and_starts_the_next_turn() {
    let mut room = TestRoom::declared(PLAIN, [1, 1, 1, 1]);
    room.does(0, play(&[27, 28])).unwrap();
    room.does(1, play(&[29, 30])).unwrap();
    room.does(2, play(&[13, 14])).unwrap();
    let events = room.does(3, play(&[17, 18])).unwrap();
    assert_eq!(names(&events), ["played", "turn_won"]);
    assert_eq!(events[1], Event::TurnWon { winner: Seat::Fourth, piles: 2 });
    let game = room.game();
    assert_eq!(game.captured[Seat::Fourth], 2);
    assert_eq!((game.leader, game.awaited), (Seat::Fourth, Some(Seat::Fourth)));
    assert_eq!((game.table.len(), game.last_table.len(), game.gone.len()), (0, 4, 8));
}

#[test]
fn on_a_tie_the_play_that_came_first_wins() {
    // Seats 1 and 3 each hold a red advisor.
    let mut room = TestRoom::declared(PLAIN, [1, 1, 1, 1]);
    for (number, piece) in [(0, 5), (1, 1), (2, 21), (3, 2)] {
        room.does(number, play(&[piece])).unwrap();
    }
    assert_eq!(room.events.last(), Some(&Event::TurnWon { winner: Seat::Second, piles: 1 }));
}

#[test]
fn a_stronger_play_of_another_type_does_not_win() {
    let ids = [
        [27, 28, 29, 3, 5, 7, 9, 16],
        [0, 1, 4, 6, 8, 10, 19, 20],
        [11, 12, 13, 17, 18, 21, 22, 23],
        [2, 14, 15, 24, 25, 26, 30, 31],
    ];
    let mut room = TestRoom::declared(ids, [1, 1, 1, 1]);
    room.does(0, play(&[27, 28, 29])).unwrap();
    room.does(1, play(&[0, 1, 4])).unwrap();
    room.does(2, play(&[11, 12, 13])).unwrap();
    room.does(3, play(&[24, 25, 26])).unwrap();
    assert_eq!(room.events.last(), Some(&Event::TurnWon { winner: Seat::Third, piles: 3 }));
}

#[test]
fn a_round_ends_with_its_scores_and_the_winner_of_its_last_turn_starts_the_next() {
    let mut room = TestRoom::declared(PLAIN, [8, 1, 0, 0]);
    play_out(&mut room);
    assert_eq!(phase(&room), Phase::Scoring);
    let game = room.game();
    let captured = game.captured;
    assert_eq!(captured.values().sum::<u8>(), 8);
    let Some(Event::RoundScored { round, multiplier, declared, change, scores, .. }) =
        room.events.last()
    else {
        panic!("{:?}", room.events.last())
    };
    assert_eq!((*round, *multiplier), (1, 1));
    assert_eq!(declared.values().copied().collect::<Vec<_>>(), [8, 1, 0, 0]);
    assert_eq!(change, scores);
    assert_eq!(*scores, game.scores);

    let last_winner = game.leader;
    assert_eq!(room.room.due().map(|due| due.awaited), Some(Awaited::NextRound));
    let events = room.tick(9);
    let Event::Dealt { round, multiplier, starter, .. } = &events[0] else { panic!("{events:?}") };
    assert_eq!((*round, *multiplier, *starter), (2, 1, last_winner));
    assert_eq!(room.game().scores, game.scores);
}

#[test]
fn a_redeal_multiplies_what_the_round_wins_and_loses() {
    let mut room = TestRoom::dealt(PLAIN, Seat::First);
    room.deal(1, 3, PLAIN, Seat::First);
    for (number, piles) in [(0, 8), (1, 8), (2, 0), (3, 0)] {
        room.does(number, declare(piles)).unwrap();
    }
    play_out(&mut room);
    let captured = room.game().captured;
    for (seat, score) in room.game().scores.iter() {
        let captured = i32::from(captured[seat]);
        let expected = match seat {
            Seat::First | Seat::Second if captured == 8 => 13,
            Seat::First | Seat::Second => captured - 8,
            Seat::Third | Seat::Fourth if captured == 0 => 3,
            Seat::Third | Seat::Fourth => -captured,
        };
        assert_eq!(*score, 3 * expected, "{seat}");
    }
}

/// Plays a round in which seat 0 declares and captures all eight piles.
fn sweep(room: &mut TestRoom, round: u8) {
    let ids = [
        [0, 1, 2, 3, 4, 16, 17, 18],
        [5, 6, 7, 8, 9, 11, 12, 19],
        [10, 20, 21, 22, 23, 13, 14, 27],
        [15, 24, 25, 26, 28, 29, 30, 31],
    ];
    room.deal(round, 1, ids, Seat::First);
    // Seat 0 holds every piece above 9: the three others are weak, and keep their hands.
    for number in 1..4 {
        room.does(number, Act::DeclineRedeal).unwrap();
    }
    room.put_declarations([8, 1, 1, 1]);
    // An extended straight of five, then the black general and the two black advisors.
    for turn in [
        [&[0, 1, 2, 3, 4][..], &[5, 6, 7, 8, 9], &[10, 20, 21, 22, 23], &[15, 24, 25, 26, 28]],
        [&[16], &[11], &[13], &[29]],
        [&[17, 18], &[12, 19], &[14, 27], &[30, 31]],
    ] {
        for (number, ids) in (0..).zip(turn) {
            room.does(number, play(ids)).unwrap();
        }
    }
}

impl TestRoom {
    fn put_declarations(&mut self, piles: [u8; 4]) {
        for (seat, piles) in SEATS.into_iter().zip(piles) {
            self.put(Event::Declared { seat, piles, cause: None });
        }
    }
}

#[test]
fn the_game_ends_when_someone_has_fifty_points() {
    let mut room = TestRoom::with_people(4);
    room.put(Event::GameStarted { cause: None });
    for round in 1..=3 {
        sweep(&mut room, round);
        assert_eq!(room.room.status(), Some(Status::InGame));
        assert_eq!(room.game().scores[Seat::First], 13 * i32::from(round));
    }
    sweep(&mut room, 4);
    assert_eq!(room.room.status(), Some(Status::Completed));
    let result = room.view(Viewer::Spectator).result.unwrap();
    assert_eq!((result.rounds, result.winners), (4, vec![Seat::First]));
    assert_eq!(result.scores[Seat::First], 52);
    assert_eq!(result.names[Seat::Second].as_ref().unwrap().as_str(), "Player 1");
    assert_eq!(room.room.due(), None);
    let next = Act::NextRound { since: room.room.offset(), entropy: entropy(1) };
    assert_eq!(room.give(Command::of(Actor::Clock, next)), Err(Refusal::NotDue));
    assert_eq!(room.does(0, play(&[0])), Err(Refusal::WrongPhase));
}

#[test]
fn the_game_ends_after_round_twenty_and_the_highest_score_wins() {
    let mut room = TestRoom::with_people(4);
    room.put(Event::GameStarted { cause: None });
    for round in 1..=20 {
        assert_eq!(room.room.status(), Some(Status::InGame), "round {round}");
        room.deal(round, 1, PLAIN, Seat::First);
        // Nobody gets what it declares: everybody loses.
        room.put_declarations([8, 8, 8, 8]);
        play_out(&mut room);
    }
    assert_eq!(room.room.status(), Some(Status::Completed));
    let result = room.view(Viewer::Spectator).result.unwrap();
    assert_eq!(result.rounds, 20);
    let best = *result.scores.values().max().unwrap();
    assert!(best < 0);
    assert!(result.winners.iter().all(|seat| result.scores[*seat] == best));
}

#[test]
fn equal_highest_scores_share_the_win() {
    let mut room = TestRoom::with_people(4);
    room.put(Event::GameStarted { cause: None });
    for round in 1..20 {
        room.deal(round, 1, PLAIN, Seat::First);
        room.put(Event::RoundScored {
            round,
            multiplier: 1,
            declared: BySeat::new([1; 4]),
            captured: BySeat::new([2; 4]),
            change: BySeat::default(),
            scores: BySeat::new([20, -5, 0, 34]),
        });
    }
    // The last round: seat 0 wins 13, the others lose one point each.
    sweep(&mut room, 20);
    let result = room.view(Viewer::Spectator).result.unwrap();
    assert_eq!(result.scores, BySeat::new([33, -6, -1, 33]));
    assert_eq!(result.winners, [Seat::First, Seat::Fourth]);
}

#[test]
fn each_phase_gives_the_awaited_its_own_time() {
    let mut room = TestRoom::dealt(WEAK, Seat::First);
    let due = |room: &TestRoom| {
        let due = room.room.due().unwrap();
        assert_eq!(due.earliest, due.latest);
        (due.awaited, due.latest)
    };
    let seconds = |count: u32| Millis::new(count * 1_000);
    assert_eq!(due(&room), (Awaited::Person(Seat::Second), seconds(60)));
    room.does(1, Act::DeclineRedeal).unwrap();
    room.does(3, Act::DeclineRedeal).unwrap();
    assert_eq!(due(&room), (Awaited::Person(Seat::First), seconds(120)));
    for number in 0..4 {
        room.does(number, declare(1)).unwrap();
    }
    assert_eq!(due(&room), (Awaited::Person(Seat::First), seconds(300)));
    play_out(&mut room);
    assert_eq!(due(&room), (Awaited::NextRound, seconds(4)));
    assert_eq!(TestRoom::with_people(4).room.due(), None);
}

#[test]
fn a_player_who_does_not_answer_is_played_by_a_bot_until_it_acts_again() {
    let mut room = TestRoom::dealt(PLAIN, Seat::First);
    let timed_out = room.tick(1);
    assert_eq!(timed_out, [Event::PlayerWentSilent { seat: Seat::First }]);
    let due = room.room.due().unwrap();
    assert_eq!(due.awaited, Awaited::Bot(Seat::First));
    assert_eq!((due.earliest, due.latest), (Millis::new(500), Millis::new(1_500)));
    assert_eq!(names(&room.tick(2)), ["declared"]);

    // It is seat 1's turn now: the silence of seat 0 does not touch it.
    assert_eq!(room.room.due().unwrap().awaited, Awaited::Person(Seat::Second));
    for number in 1..4 {
        room.does(number, declare(4)).unwrap();
    }
    assert_eq!(room.room.due().unwrap().awaited, Awaited::Bot(Seat::First));
    // A refused action does not bring it back, a good one does.
    assert_eq!(room.does(0, play(&[1])), Err(Refusal::PieceNotHeld));
    assert_eq!(room.room.due().unwrap().awaited, Awaited::Bot(Seat::First));
    let events = room.does(0, play(&[0])).unwrap();
    assert_eq!(names(&events), ["player_came_back", "played"]);
}

#[test]
fn a_silent_player_can_take_its_seat_back_and_has_all_its_time_again() {
    let mut room = TestRoom::dealt(PLAIN, Seat::First);
    assert_eq!(room.does(0, Act::Return), Err(Refusal::NotSilent));
    room.tick(1);
    let stale = room.room.due().unwrap().command(entropy(2));
    assert_eq!(names(&room.does(0, Act::Return).unwrap()), ["player_came_back"]);
    assert_eq!(room.give(stale), Err(Refusal::NotDue), "the bot comes too late");
    let due = room.room.due().unwrap();
    assert_eq!((due.awaited, due.since), (Awaited::Person(Seat::First), room.room.offset()));
}

#[test]
fn a_time_out_that_comes_too_late_or_for_another_seat_is_not_due() {
    let mut room = TestRoom::dealt(PLAIN, Seat::First);
    let stale = room.room.due().unwrap().command(entropy(1));
    room.does(0, declare(2)).unwrap();
    assert_eq!(room.give(stale), Err(Refusal::NotDue));
    let since = room.room.due().unwrap().since;
    for (seat, since) in [(Seat::First, since), (Seat::Second, since - 1), (Seat::Third, since)] {
        let time_out = Act::TimeOut { seat, since };
        assert_eq!(room.give(Command::of(Actor::Clock, time_out)), Err(Refusal::NotDue));
        let play_for = Act::PlayFor { seat, since, entropy: entropy(1) };
        assert_eq!(room.give(Command::of(Actor::Clock, play_for)), Err(Refusal::NotDue));
    }
    let next = Act::NextRound { since, entropy: entropy(1) };
    assert_eq!(room.give(Command::of(Actor::Clock, next)), Err(Refusal::NotDue));
}

#[test]
fn chat_and_another_seats_silence_do_not_prolong_the_time_to_answer() {
    let mut room = TestRoom::dealt(PLAIN, Seat::First);
    let before = room.room.due();
    room.does(2, common::room::chat("hurry")).unwrap();
    room.put(Event::PlayerWentSilent { seat: Seat::Third });
    room.does(2, Act::Return).unwrap();
    assert_eq!(room.room.due(), before);
}

#[test]
fn a_second_redeal_question_to_the_same_seat_gives_it_all_its_time() {
    let mut room = TestRoom::dealt(WEAK, Seat::Second);
    let before = room.room.due().unwrap();
    assert_eq!(before.awaited, Awaited::Person(Seat::Second));
    room.put(Event::RedealAccepted { seat: Seat::Second, cause: None });
    room.deal(1, 2, WEAK, Seat::Second);
    let after = room.room.due().unwrap();
    assert_eq!(after.awaited, before.awaited);
    assert!(before.since < after.since);
}

#[test]
fn a_replayed_stream_gives_the_same_room() {
    let mut room = TestRoom::declared(PLAIN, [1, 1, 1, 1]);
    room.does(0, play(&[27, 28])).unwrap();
    assert_eq!(room.replayed(), room.room);
    let json = serde_json::to_string(&room.room).unwrap();
    assert_eq!(serde_json::from_str::<game_server::domain::Room>(&json).unwrap(), room.room);
    assert_eq!(room.room.check(), Ok(()));
}
