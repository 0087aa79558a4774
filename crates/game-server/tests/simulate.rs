//! Whole games between bots: the laws that hold in each, and a referee who agrees.

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

mod common;

use std::collections::BTreeSet;

use common::referee::{Book, Referee};
use game_server::{
    domain::{BySeat, Event, LAST_ROUND, Pieces, PlayType, Status, Style, WINNING_SCORE},
    simulate::{Transcript, contest, export, play_game, simulate},
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// The games that everything is shown on.
const GAMES: u64 = 1_000;
const SEED: u64 = 7;

fn games() -> impl Iterator<Item = Transcript> {
    (0..GAMES).map(|number| play_game(SEED, number).unwrap())
}

#[test]
fn in_every_game_pieces_are_conserved_and_piles_declarations_and_end_obey_the_rules() {
    for game in games() {
        let mut laws = Laws::default();
        for event in &game.events {
            laws.check(event).unwrap_or_else(|what| panic!("game {}: {what}", game.number));
        }
        assert!(laws.has_ended, "game {} has no end", game.number);
        assert_eq!(game.room.status(), Some(Status::Completed));
        assert_eq!(game.room.offset(), u64::try_from(game.events.len()).unwrap());
    }
}

/// The laws of conservation, seen on the events alone.
#[derive(Default)]
struct Laws {
    hands: BySeat<Pieces>,
    gone: Pieces,
    declared: Vec<u8>,
    piles: u8,
    round: u8,
    scores: BySeat<i32>,
    has_ended: bool,
}

impl Laws {
    fn check(&mut self, event: &Event) -> Result<(), String> {
        let is_over = self.round == LAST_ROUND || self.best() >= WINNING_SCORE;
        match event {
            Event::Dealt { round, hands, .. } => {
                *self =
                    Self { hands: hands.0, round: *round, scores: self.scores, ..Self::default() };
                self.conserve()?;
                law(*round <= LAST_ROUND && self.best() < WINNING_SCORE, "dealt after the end")
            }
            Event::Declared { piles, .. } => {
                self.declared.push(*piles);
                let sum: u8 = self.declared.iter().sum();
                law(self.declared.len() < 4 || sum != 8, "declarations of 8")
            }
            Event::Played { seat, pieces, .. } => {
                law(pieces.is_subset(self.hands[*seat]), "a piece from nowhere")?;
                self.hands[*seat] = self.hands[*seat].without(*pieces);
                self.gone = self.gone.or(*pieces);
                self.conserve()
            }
            Event::TurnWon { piles, .. } => {
                self.piles += piles;
                law(self.gone.len() == 4 * usize::from(self.piles), "piles of four")
            }
            Event::RoundScored { captured, scores, .. } => {
                self.scores = *scores;
                law(self.piles == 8 && captured.values().sum::<u8>() == 8, "eight piles")?;
                law(self.gone == Pieces::ALL, "all pieces are played")
            }
            Event::GameEnded { rounds, .. } => {
                self.has_ended = true;
                law(is_over && *rounds == self.round, "ended too early")
            }
            _ => Ok(()),
        }
    }

    fn best(&self) -> i32 {
        *self.scores.values().max().unwrap()
    }

    fn conserve(&self) -> Result<(), String> {
        let all = self.hands.values().fold(self.gone, |all, hand| all.or(*hand));
        let count = self.gone.len() + self.hands.values().map(|hand| hand.len()).sum::<usize>();
        law(all == Pieces::ALL && count == 32, "not 32 different pieces")
    }
}

fn law(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}

#[test]
fn an_independent_referee_agrees_with_all_thousand_games() {
    let book = Book::new();
    let mut n_checked = 0;
    for game in games() {
        let lines = game.to_json_lines().unwrap();
        let checked = Referee::new(&book).check_game(&lines);
        n_checked += checked.unwrap_or_else(|what| panic!("game {}: {what}", game.number));
    }
    assert!(300_000 < n_checked, "only {n_checked} events were checked");
}

#[test]
fn the_referee_knows_every_play_of_the_table() {
    // 7 singles, 6 pairs, 3 of soldiers, 2 straights, 2 + 3 and 1 + 3 extended, 1 double.
    assert_eq!(Book::new().len(), 2 * (7 + 6 + 3 + 2 + 5 + 4 + 1));
}

#[test]
fn the_referee_sees_every_falsified_event() {
    let book = Book::new();
    // A game in which a redeal was taken and one was declined.
    let named = |game: &Transcript, name: &str| game.events.iter().any(|e| e.name() == name);
    let game = games()
        .find(|game| named(game, "redeal_accepted") && named(game, "redeal_declined"))
        .unwrap();
    let lines = game.to_json_lines().unwrap();
    assert!(Referee::new(&book).check_game(&lines).is_ok());
    let mut falsified = BTreeSet::new();
    for (idx, event) in game.events.iter().enumerate() {
        for (field, wrong) in falsifications(event) {
            let mut values: Vec<Value> =
                lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            assert_ne!(values[idx][field], wrong);
            values[idx][field] = wrong;
            let text: Vec<String> = values.iter().map(Value::to_string).collect();
            let verdict = Referee::new(&book).check_game(&text.join("\n"));
            assert!(verdict.is_err(), "{field} of {} passed", values[idx]);
            falsified.insert((event.name(), field));
        }
    }
    assert_eq!(falsified.len(), 22, "{falsified:?}");
}

/// Returns wrong values for the fields of an event that the referee judges.
fn falsifications(event: &Event) -> Vec<(&'static str, Value)> {
    match event {
        Event::Dealt { round, multiplier, starter, weak, .. } => vec![
            ("round", json!(round + 1)),
            ("multiplier", json!(multiplier + 1)),
            ("starter", json!(starter.next())),
            ("weak", if weak.is_empty() { json!([0]) } else { json!([]) }),
        ],
        Event::RedealAsked { seat }
        | Event::RedealAccepted { seat, .. }
        | Event::RedealDeclined { seat, .. } => vec![("seat", json!(seat.next()))],
        Event::Declared { seat, .. } => vec![("seat", json!(seat.next())), ("piles", json!(9))],
        Event::Played { seat, can_win, .. } => vec![
            ("seat", json!(seat.next())),
            ("play", json!("royal_flush")),
            ("can_win", json!(!can_win)),
            ("pieces", json!([])),
        ],
        Event::TurnWon { winner, piles } => {
            vec![("winner", json!(winner.next())), ("piles", json!(piles + 1))]
        }
        Event::RoundScored { multiplier, .. } => vec![
            ("multiplier", json!(multiplier + 1)),
            ("declared", json!([9, 9, 9, 9])),
            ("captured", json!([9, 9, 9, 9])),
            ("change", json!([9, 9, 9, 9])),
            ("scores", json!([9, 9, 9, 9])),
        ],
        Event::GameEnded { rounds, .. } => {
            vec![("rounds", json!(rounds + 1)), ("winners", json!([]))]
        }
        _ => Vec::new(),
    }
}

#[test]
fn every_play_type_tie_redeal_and_the_two_zeros_rule_occur() {
    let tally = simulate(GAMES, SEED).unwrap().tally;
    assert_eq!(tally.games, GAMES);
    for play_type in PlayType::ALL {
        assert!(tally.led.contains_key(&play_type), "no turn began with {play_type:?}");
    }
    assert!(0 < tally.ties && 0 < tally.redeals && 0 < tally.kept, "{tally:?}");
    assert!(0 < tally.after_two_zeros && 0 < tally.silences && 0 < tally.shared_wins, "{tally:?}");
    assert!(tally.rounds.contains_key(&LAST_ROUND), "{tally:?}");
    // No seat is favoured: each wins about a quarter of the games.
    assert!(tally.wins.values().all(|wins| (200..300).contains(wins)), "{tally:?}");
}

#[test]
fn exported_events_are_the_lines_that_the_digest_is_of() {
    let mut lines = Vec::new();
    let report = export(9, SEED, &mut lines).unwrap();
    assert_eq!(report, simulate(9, SEED).unwrap());
    let digest = Sha256::digest(&lines);
    assert_eq!(
        digest.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}")),
        report.digest
    );
    let text = String::from_utf8(lines).unwrap();
    let begun = text.lines().filter(|line| line.starts_with(r#"{"type":"room_created""#)).count();
    assert_eq!(begun, 9);
}

#[test]
fn the_same_seed_gives_the_same_digest_and_another_seed_another() {
    let first = simulate(60, SEED).unwrap();
    assert_eq!(first, simulate(60, SEED).unwrap());
    assert_ne!(first.digest, simulate(60, SEED + 1).unwrap().digest);
    assert_ne!(first.digest, simulate(59, SEED).unwrap().digest);
    assert_eq!(first.digest.len(), 64);
}

#[test]
fn our_bot_beats_one_that_plays_random_legal_moves() {
    let steady = contest(500, SEED, Style::Steady).unwrap();
    assert_eq!(steady.games, 500);
    assert!(0.6 <= steady.share_won(), "{steady:?}");
    for style in [Style::Bold, Style::Cautious] {
        let contest = contest(60, SEED, style).unwrap();
        assert!(0.6 <= contest.share_won(), "{style:?}: {contest:?}");
    }
}
