//! A referee who knows liap-tui.md and nothing of the domain: it reads a game as lines of JSON
//! and checks every deal, declaration, play, pile and point by the slowest and plainest means.

use std::collections::HashMap;

use serde_json::Value;

/// A play's name in JSON and what it is worth among its like.
type Worth = (&'static str, i64);

/// What a piece is: colour and kind.
type Face = (char, &'static str);

/// The pieces of one colour in order of their ids.
const FACES: [&str; 16] = [
    "general", "advisor", "advisor", "elephant", "elephant", "chariot", "chariot", "horse",
    "horse", "cannon", "cannon", "soldier", "soldier", "soldier", "soldier", "soldier",
];

/// The table of points: kind, red, black.
const POINTS: [(&str, i64, i64); 7] = [
    ("general", 14, 13),
    ("advisor", 12, 11),
    ("elephant", 10, 9),
    ("chariot", 8, 7),
    ("horse", 6, 5),
    ("cannon", 4, 3),
    ("soldier", 2, 1),
];

fn face(id: u64) -> Face {
    let colour = if id < 16 { 'r' } else { 'b' };
    (colour, FACES[usize::try_from(id % 16).unwrap()])
}

fn points((colour, kind): Face) -> i64 {
    let (_, red, black) = POINTS.into_iter().find(|(name, _, _)| *name == kind).unwrap();
    if colour == 'r' { red } else { black }
}

/// Every valid play, written out: sorted faces, and what they are.
#[derive(Debug)]
pub(crate) struct Book(HashMap<Vec<Face>, Worth>);

impl Book {
    pub(crate) fn new() -> Self {
        let mut book = Self(HashMap::new());
        for colour in ['r', 'b'] {
            for (kind, _, _) in POINTS {
                book.write("single", &[kind], &[kind], colour);
                if kind != "general" {
                    book.write("pair", &[kind, kind], &[kind, kind], colour);
                }
            }
            let names = [(3, "three_soldiers"), (4, "four_soldiers"), (5, "five_soldiers")];
            for (count, name) in names {
                let soldiers = vec!["soldier"; count];
                book.write(name, &soldiers, &soldiers, colour);
            }
            for straight in [["general", "advisor", "elephant"], ["chariot", "horse", "cannon"]] {
                book.write_straights(straight, colour);
            }
            let double = ["chariot", "chariot", "horse", "horse", "cannon", "cannon"];
            book.write("double_straight", &double, &double, colour);
        }
        book
    }

    fn write_straights(&mut self, kinds: [&'static str; 3], colour: char) {
        self.write("straight", &kinds, &kinds, colour);
        for first in kinds {
            if first == "general" {
                continue;
            }
            let four = [kinds[0], kinds[1], kinds[2], first];
            self.write("extended_straight", &four, &kinds, colour);
            for second in kinds {
                if second != "general" && second != first {
                    let five = [kinds[0], kinds[1], kinds[2], first, second];
                    self.write("extended_straight_of_five", &five, &kinds, colour);
                }
            }
        }
    }

    fn write(&mut self, name: &'static str, play: &[&'static str], counted: &[&str], colour: char) {
        let mut faces: Vec<Face> = play.iter().map(|kind| (colour, *kind)).collect();
        faces.sort_unstable();
        let in_table = |kind: &&str| POINTS.iter().find(|(name, _, _)| name == kind).unwrap().0;
        let sum = counted.iter().map(|kind| points((colour, in_table(kind)))).sum();
        self.0.insert(faces, (name, sum));
    }

    fn look_up(&self, ids: &[u64]) -> Option<Worth> {
        let mut faces: Vec<Face> = ids.iter().map(|id| face(*id)).collect();
        faces.sort_unstable();
        self.0.get(&faces).copied()
    }

    /// Returns how many different plays there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// What the referee waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Deal,
    Ask,
    AnswerToRedeal,
    Declaration,
    Play,
    TurnEnd,
    Scores,
    AfterScores,
    Nothing,
}

/// Follows one game.
#[derive(Debug)]
pub(crate) struct Referee<'a> {
    book: &'a Book,
    next: Next,
    round: u64,
    multiplier: i64,
    starter: usize,
    must_start: Option<usize>,
    hands: Vec<Vec<u64>>,
    weak: Vec<usize>,
    declared: Vec<(usize, i64)>,
    declared_before: Vec<Vec<i64>>,
    captured: [i64; 4],
    table: Vec<(usize, Vec<u64>)>,
    leader: usize,
    scores: [i64; 4],
    /// How many events of the game the referee has checked.
    pub(crate) n_checked: u64,
}

fn seat(value: &Value) -> Result<usize, String> {
    let number = value.as_u64().filter(|number| *number < 4).ok_or("no seat")?;
    Ok(usize::try_from(number).unwrap())
}

fn ids(value: &Value) -> Result<Vec<u64>, String> {
    let list = value.as_array().ok_or("no list of pieces")?;
    list.iter().map(|id| id.as_u64().filter(|id| *id < 32).ok_or("no piece".into())).collect()
}

fn numbers(value: &Value) -> Result<Vec<i64>, String> {
    let list = value.as_array().ok_or("no list of numbers")?;
    list.iter().map(|number| number.as_i64().ok_or_else(|| "no number".into())).collect()
}

fn must(holds: bool, what: impl Into<String>) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.into()) }
}

impl<'a> Referee<'a> {
    pub(crate) fn new(book: &'a Book) -> Self {
        Self {
            book,
            next: Next::Deal,
            round: 0,
            multiplier: 1,
            starter: 0,
            must_start: None,
            hands: vec![Vec::new(); 4],
            weak: Vec::new(),
            declared: Vec::new(),
            declared_before: Vec::new(),
            captured: [0; 4],
            table: Vec::new(),
            leader: 0,
            scores: [0; 4],
            n_checked: 0,
        }
    }

    /// Checks a whole game; an error says at which line what was wrong.
    pub(crate) fn check_game(mut self, lines: &str) -> Result<u64, String> {
        for (idx, line) in lines.lines().enumerate() {
            let event: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
            self.check(&event).map_err(|what| format!("event {}: {what}: {line}", idx + 1))?;
        }
        must(self.next == Next::Nothing, "the game has no end")?;
        Ok(self.n_checked)
    }

    fn check(&mut self, event: &Value) -> Result<(), String> {
        let name = event["type"].as_str().ok_or("no type")?;
        let expected = match name {
            "dealt" => Next::Deal,
            "redeal_asked" => Next::Ask,
            "redeal_accepted" | "redeal_declined" => Next::AnswerToRedeal,
            "declared" => Next::Declaration,
            "played" => Next::Play,
            "turn_won" => Next::TurnEnd,
            "round_scored" => Next::Scores,
            "game_ended" => Next::AfterScores,
            _ => return Ok(()),
        };
        let goes_on = name == "dealt" && self.next == Next::AfterScores;
        must(self.next == expected || goes_on, format!("{:?} was to come", self.next))?;
        self.n_checked += 1;
        match name {
            "dealt" => self.dealt(event),
            "redeal_asked" => self.asked(event),
            "redeal_accepted" => self.accepted(event),
            "redeal_declined" => self.declined(event),
            "declared" => self.declare(event),
            "played" => self.play(event),
            "turn_won" => self.turn_won(event),
            "round_scored" => self.scored(event),
            _ => self.ended(event),
        }
    }

    fn order_from(first: usize) -> Vec<usize> {
        (0..4).map(|step| (first + step) % 4).collect()
    }

    fn dealt(&mut self, event: &Value) -> Result<(), String> {
        if self.next == Next::AfterScores {
            must(!self.is_over(), "the game was over")?;
            self.multiplier = 1;
            self.must_start = Some(self.leader);
        }
        let is_redeal = self.next == Next::Deal && self.round != 0;
        self.round += u64::from(!is_redeal);
        must(event["round"] == self.round, format!("this is round {}", self.round))?;
        must(event["multiplier"] == self.multiplier, format!("times {}", self.multiplier))?;
        self.hands = (0..4).map(|s| ids(&event["hands"][s])).collect::<Result<_, _>>()?;
        let mut all = self.hands.concat();
        all.sort_unstable();
        must(all == (0..32).collect::<Vec<_>>(), "these are not the 32 pieces")?;
        must(self.hands.iter().all(|hand| hand.len() == 8), "eight each")?;
        let general = self.hands.iter().position(|hand| hand.contains(&0)).unwrap();
        self.starter = self.must_start.unwrap_or(general);
        must(seat(&event["starter"])? == self.starter, format!("{} starts", self.starter))?;
        let is_weak = |s: &usize| self.hands[*s].iter().all(|id| points(face(*id)) <= 9);
        self.weak = Self::order_from(self.starter).into_iter().filter(is_weak).collect();
        let named = numbers(&event["weak"])?;
        let weak: Vec<i64> = self.weak.iter().map(|s| i64::try_from(*s).unwrap()).collect();
        must(named == weak, format!("weak are {weak:?}"))?;
        self.declared.clear();
        self.captured = [0; 4];
        self.leader = self.starter;
        self.next = if self.weak.is_empty() { Next::Declaration } else { Next::Ask };
        Ok(())
    }

    fn asked(&mut self, event: &Value) -> Result<(), String> {
        must(Some(&seat(&event["seat"])?) == self.weak.first(), "another is to be asked")?;
        self.next = Next::AnswerToRedeal;
        Ok(())
    }

    fn accepted(&mut self, event: &Value) -> Result<(), String> {
        let by = seat(&event["seat"])?;
        must(Some(&by) == self.weak.first(), "another was asked")?;
        self.must_start = Some(by);
        self.multiplier += 1;
        self.next = Next::Deal;
        Ok(())
    }

    fn declined(&mut self, event: &Value) -> Result<(), String> {
        must(Some(&seat(&event["seat"])?) == self.weak.first(), "another was asked")?;
        self.weak.remove(0);
        self.next = if self.weak.is_empty() { Next::Declaration } else { Next::Ask };
        Ok(())
    }

    fn declare(&mut self, event: &Value) -> Result<(), String> {
        let by = seat(&event["seat"])?;
        let piles = event["piles"].as_i64().ok_or("no piles")?;
        let order = Self::order_from(self.starter);
        must(by == order[self.declared.len()], "another is to declare")?;
        must((0..=8).contains(&piles), "out of range")?;
        let before = self.declared_before.iter().rev().take(2);
        let zeros = before.filter(|round| round[by] == 0).count();
        must(zeros < 2 || 0 < piles, "after two zeros at least one")?;
        self.declared.push((by, piles));
        if self.declared.len() == 4 {
            let sum: i64 = self.declared.iter().map(|(_, piles)| piles).sum();
            must(sum != 8, "the declarations add up to 8")?;
            self.next = Next::Play;
        }
        Ok(())
    }

    fn play(&mut self, event: &Value) -> Result<(), String> {
        let by = seat(&event["seat"])?;
        let played = ids(&event["pieces"])?;
        must(by == (self.leader + self.table.len()) % 4, "another is to play")?;
        for id in &played {
            let at = self.hands[by].iter().position(|held| held == id);
            self.hands[by].remove(at.ok_or_else(|| format!("does not hold {id}"))?);
        }
        let worth = self.book.look_up(&played);
        let named = event["play"].as_str();
        must(named == worth.map(|(name, _)| name), format!("this is {worth:?}"))?;
        let can_win = match self.table.first() {
            None => {
                must((1..=6).contains(&played.len()), "one to six pieces")?;
                must(worth.is_some(), "a turn begins with a valid play")?;
                true
            }
            Some((_, led)) => {
                must(led.len() == played.len(), "as many pieces as the starter")?;
                let led = self.book.look_up(led).map(|(name, _)| name);
                worth.is_some() && worth.map(|(name, _)| name) == led
            }
        };
        must(event["can_win"] == can_win, format!("it can win: {can_win}"))?;
        self.table.push((by, played));
        if self.table.len() == 4 {
            self.next = Next::TurnEnd;
        }
        Ok(())
    }

    fn turn_won(&mut self, event: &Value) -> Result<(), String> {
        let table = std::mem::take(&mut self.table);
        let (led, _) = self.book.look_up(&table[0].1).unwrap();
        let points_of = |played: &[u64]| match self.book.look_up(played) {
            Some((name, sum)) if name == led => sum,
            _ => -1,
        };
        let best = table.iter().map(|(_, played)| points_of(played)).max().unwrap();
        let winner = table.iter().find(|(_, played)| points_of(played) == best).unwrap().0;
        let piles = table[0].1.len();
        must(seat(&event["winner"])? == winner, format!("{winner} wins"))?;
        must(event["piles"] == piles, format!("{piles} piles"))?;
        self.captured[winner] += i64::try_from(piles).unwrap();
        self.leader = winner;
        let is_empty = self.hands.iter().all(Vec::is_empty);
        self.next = if is_empty { Next::Scores } else { Next::Play };
        Ok(())
    }

    fn scored(&mut self, event: &Value) -> Result<(), String> {
        must(self.captured.iter().sum::<i64>() == 8, "eight piles in a round")?;
        let mut declared = vec![0; 4];
        for (by, piles) in &self.declared {
            declared[*by] = *piles;
        }
        let mut change = vec![0; 4];
        for s in 0..4 {
            let (d, c) = (declared[s], self.captured[s]);
            let plain = if d == 0 && c == 0 {
                3
            } else if d == 0 {
                -c
            } else if d == c {
                d + 5
            } else {
                -(d - c).abs()
            };
            change[s] = plain * self.multiplier;
            self.scores[s] += change[s];
        }
        must(event["round"] == self.round, "the number of the round")?;
        must(event["multiplier"] == self.multiplier, "the multiplier")?;
        must(numbers(&event["declared"])? == declared, format!("declared {declared:?}"))?;
        must(numbers(&event["captured"])? == self.captured, "the piles")?;
        must(numbers(&event["change"])? == change, format!("change {change:?}"))?;
        must(numbers(&event["scores"])? == self.scores, format!("scores {:?}", self.scores))?;
        self.declared_before.push(declared);
        self.next = Next::AfterScores;
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.scores.iter().any(|score| *score >= 50) || self.round >= 20
    }

    fn ended(&mut self, event: &Value) -> Result<(), String> {
        must(self.is_over(), "the game is not over")?;
        let highest = self.scores.iter().max().unwrap();
        let winners: Vec<i64> =
            (0..4).filter(|s| self.scores[usize::try_from(*s).unwrap()] == *highest).collect();
        must(event["rounds"] == self.round, "the number of rounds")?;
        must(numbers(&event["scores"])? == self.scores, "the scores")?;
        must(numbers(&event["winners"])? == winners, format!("winners {winners:?}"))?;
        self.next = Next::Nothing;
        Ok(())
    }
}
