//! What nobody may see: two rooms that differ only in what a viewer cannot know look alike.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::allow_attributes,
    reason = "a panic is how a test fails"
)]
#![allow(clippy::wildcard_enum_match_arm, reason = "a test looks at the events it is about")]

use game_server::{
    domain::{
        BySeat, Event, Hands, Piece, Pieces, Room, Seat, Viewed, Viewer, is_shared, is_weak, view,
    },
    simulate::play_game,
};
use infra_core::machine::StateMachine;
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha20Rng;

const VIEWERS: [Viewer; 5] = [
    Viewer::Seat(Seat::First),
    Viewer::Seat(Seat::Second),
    Viewer::Seat(Seat::Third),
    Viewer::Seat(Seat::Fourth),
    Viewer::Spectator,
];

/// Deals anew, in each deal of `events`, what `viewer` has not seen by their end.
fn with_other_secrets(events: &[Event], viewer: Viewer, chance: &mut ChaCha20Rng) -> Vec<Event> {
    let mut changed = events.to_vec();
    for (idx, event) in events.iter().enumerate() {
        let Event::Dealt { round, multiplier, starter, hands, .. } = event else { continue };
        let later = events[idx + 1..].iter().take_while(|e| e.name() != "dealt");
        let later: Vec<&Event> = later.collect();
        let shown = BySeat::from_fn(|seat| shown_of(&later, seat));
        let known = |seat: Seat| match viewer {
            Viewer::Seat(own) if own == seat => hands.0[seat],
            Viewer::Seat(_) | Viewer::Spectator => shown[seat],
        };
        let hands = shuffled(hands, known, *starter, chance);
        // Who was asked is known to all; who is weak besides is not.
        let was_asked: Vec<Seat> = later.iter().copied().filter_map(asked).collect();
        let order = starter.round_the_table();
        let last = was_asked.last().map_or(0, |last| 1 + position(&order, *last));
        let answered_all = later.iter().any(|e| e.name() == "declared");
        let more = order[last..].iter().filter(|seat| !answered_all && is_weak(hands.0[**seat]));
        let more: Vec<Seat> =
            if was_asked.is_empty() { Vec::new() } else { more.copied().collect() };
        let weak = [was_asked, more].concat();
        let (round, multiplier, starter) = (*round, *multiplier, *starter);
        changed[idx] = Event::Dealt { round, multiplier, starter, hands, weak };
    }
    changed
}

fn shown_of(events: &[&Event], seat: Seat) -> Pieces {
    events.iter().fold(Pieces::NONE, |shown, event| match event {
        Event::Played { seat: by, pieces, .. } if *by == seat => shown.or(*pieces),
        _ => shown,
    })
}

const fn asked(event: &Event) -> Option<Seat> {
    match event {
        Event::RedealAsked { seat } => Some(*seat),
        _ => None,
    }
}

fn position(order: &[Seat], seat: Seat) -> usize {
    order.iter().position(|other| *other == seat).unwrap()
}

/// Keeps what is known and the red general of the starter, which the rules give away.
fn shuffled(
    hands: &Hands,
    known: impl Fn(Seat) -> Pieces,
    starter: Seat,
    chance: &mut ChaCha20Rng,
) -> Hands {
    let general: Pieces = Piece::new(0).into_iter().collect();
    let kept = BySeat::from_fn(|seat| {
        let given_away = if seat == starter { general } else { Pieces::NONE };
        known(seat).or(hands.0[seat].and(given_away))
    });
    let all_kept = kept.values().fold(Pieces::NONE, |all, kept| all.or(*kept));
    let mut hidden: Vec<Piece> = Pieces::ALL.without(all_kept).iter().collect();
    hidden.shuffle(chance);
    let mut hidden = hidden.into_iter();
    Hands(BySeat::from_fn(|seat| {
        let missing = 8 - kept[seat].len();
        hidden.by_ref().take(missing).fold(kept[seat], Pieces::with)
    }))
}

fn replay(events: &[Event]) -> Room {
    let mut room = Room::default();
    for event in events {
        room.evolve(event);
    }
    room
}

fn seen(events: &[Event], viewer: Viewer) -> (String, Vec<String>) {
    let json = |viewed: &Viewed| serde_json::to_string(viewed).unwrap();
    let room = replay(events).view(viewer).unwrap();
    let events = events.iter().map(|event| json(&view(event, viewer))).collect();
    (serde_json::to_string(&room).unwrap(), events)
}

#[test]
fn rooms_that_differ_only_in_unseen_hands_look_alike_to_every_viewer() {
    let mut chance = ChaCha20Rng::seed_from_u64(7);
    let (mut n_compared, mut n_different) = (0, 0);
    for number in 0..14 {
        let game = play_game(11, number).unwrap();
        let step = if number == 0 { 1 } else { 23 };
        for end in (1..game.events.len()).step_by(step).take(70) {
            // Not in the middle of a batch: the question to a weak hand follows its deal at once.
            let end = end + usize::from(asked(&game.events[end]).is_some());
            let events = &game.events[..end];
            for viewer in VIEWERS {
                let other = with_other_secrets(events, viewer, &mut chance);
                n_different += u32::from(other != events);
                assert_eq!(seen(&other, viewer), seen(events, viewer), "{viewer:?} at {end}");
                n_compared += 1;
            }
        }
    }
    assert!(1_000 < n_compared && 900 < n_different, "{n_compared} {n_different}");
}

#[test]
fn a_changed_hand_is_seen_by_its_own_seat_and_by_no_other() {
    // The control: the comparison above does see a hand that is shown.
    let is_dealt = |pair: &[Event]| pair[0].name() == "dealt" && asked(&pair[1]).is_none();
    let game = play_game(11, 0).unwrap();
    let dealt = game.events.windows(2).position(is_dealt).unwrap();
    let events = &game.events[..=dealt];
    let mut chance = ChaCha20Rng::seed_from_u64(1);
    let other = with_other_secrets(events, Viewer::Spectator, &mut chance);
    for viewer in VIEWERS {
        let is_alike = seen(&other, viewer) == seen(events, viewer);
        assert_eq!(is_alike, viewer == Viewer::Spectator, "{viewer:?}");
    }
}

#[test]
fn every_event_has_one_view_for_every_viewer_and_only_secret_ones_differ() {
    let game = play_game(11, 7).unwrap();
    for event in &game.events {
        let views = VIEWERS.map(|viewer| view(event, viewer));
        let are_equal = views.iter().all(|view| *view == views[0]);
        assert_eq!(are_equal, is_shared(event), "{}", event.name());
        for viewed in views {
            let json = serde_json::to_string(&viewed).unwrap();
            assert_eq!(serde_json::from_str::<Viewed>(&json).unwrap(), viewed);
            assert!(
                !json.contains("player\"") && !json.contains("cause") && !json.contains("weak")
            );
        }
    }
}

#[test]
fn a_spectator_sees_no_hand_before_during_and_after_the_deal() {
    let game = play_game(11, 3).unwrap();
    let mut room = Room::default();
    for event in &game.events {
        room.evolve(event);
        if let Some(game) = room.view(Viewer::Spectator).unwrap().game {
            assert_eq!(game.hand, None);
            assert!(game.may_declare.is_empty());
        }
        if let Viewed::Dealt { hand, .. } = view(event, Viewer::Spectator) {
            assert_eq!(hand, None);
        }
    }
}

#[test]
fn hands_and_seeds_are_not_in_what_a_log_would_print() {
    let game = play_game(11, 0).unwrap();
    let dealt = game.events.iter().find(|event| event.name() == "dealt").unwrap();
    let Event::Dealt { hands, .. } = dealt else { panic!() };
    let piece = hands.0[Seat::First].iter().next().unwrap();
    for printed in [format!("{dealt:?}"), format!("{:?}", replay(&game.events[..10]))] {
        assert!(printed.contains("Hands(hidden"), "{printed}");
        assert!(!printed.contains(&format!("{piece:?}")), "{printed}");
    }
    let entropy = game_server::domain::Entropy::new([171; 32]);
    assert_eq!(format!("{entropy:?}"), "Entropy(hidden)");
}
