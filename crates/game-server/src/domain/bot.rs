//! A bot: chooses a legal, sensible move from what its own seat can see.

use std::cmp::Ordering;

use super::{
    moves::Move,
    odds::{Odds, worth},
    pieces::Pieces,
    play::{PlayType, classify, plays_of},
    player::Style,
    room_view::{GameView, Phase},
    seat::{SEATS, Seat},
    turn::to_beat,
};

/// Chances from which a bot counts on a play, or tries it.
const LIKELY: f64 = 0.6;
const POSSIBLE: f64 = 0.3;

/// Chooses the move of `seat`, whose view of the game is `view`; none if it is not to act.
///
/// The choice depends on nothing but the arguments, so it can be repeated.
pub fn choose(view: &GameView, seat: Seat, style: Style) -> Option<Move> {
    if view.awaited != Some(seat) {
        return None;
    }
    let mind = Mind { view, seat, hand: view.hand?, style };
    match view.phase {
        Phase::Preparation => Some(mind.redeal()),
        Phase::Declaration => mind.declare(),
        Phase::Turn => Some(Move::Play(mind.play())),
        Phase::Scoring => None,
    }
}

/// What a bot thinks about.
struct Mind<'a> {
    view: &'a GameView,
    seat: Seat,
    hand: Pieces,
    style: Style,
}

impl Mind<'_> {
    fn redeal(&self) -> Move {
        match self.style {
            Style::Steady | Style::Bold => Move::AcceptRedeal,
            Style::Cautious => Move::DeclineRedeal,
        }
    }

    /// Declares the allowed number that is nearest to what the hand is worth.
    fn declare(&self) -> Option<Move> {
        let target = self.hand_worth() + self.leaning() - self.pressure();
        let distance = |piles: &u8| (f64::from(*piles) - target).abs();
        let nearest = |a: &u8, b: &u8| distance(a).total_cmp(&distance(b));
        self.view.may_declare.iter().copied().min_by(nearest).map(Move::Declare)
    }

    /// Estimates how many piles the hand will capture: disjoint plays, the most valuable first.
    fn hand_worth(&self) -> f64 {
        let lead = self.chance_to_lead();
        let mut plays: Vec<(f64, Pieces)> = Vec::new();
        for (set, chance) in self.plays() {
            let to_lead = if set.len() == 1 { 1.0 } else { lead };
            plays.push((chance * to_lead * len(set), set));
        }
        plays.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut used = Pieces::NONE;
        let mut sum = 0.0;
        for (value, set) in plays {
            if set.and(used).is_empty() {
                used = used.or(set);
                sum += value;
            }
        }
        sum
    }

    /// Estimates the chance to start a turn early, as plays of several pieces need.
    fn chance_to_lead(&self) -> f64 {
        if self.view.starter == self.seat {
            return 1.0;
        }
        let singles = plays_of(self.hand, PlayType::Single).into_iter();
        let best = singles.map(|set| self.chance_to_lead_with(set)).fold(0.0, f64::max);
        if LIKELY <= best { 0.8 } else { 0.35 }
    }

    /// How far the style leans from the estimate, in piles.
    const fn leaning(&self) -> f64 {
        match self.style {
            Style::Steady => 0.0,
            Style::Bold => 0.8,
            Style::Cautious => -0.8,
        }
    }

    /// How many piles less to expect because the others want many, or more if they want few.
    fn pressure(&self) -> f64 {
        let made: Vec<u8> = self.view.declared.values().copied().flatten().collect();
        made.iter().map(|piles| (f64::from(*piles) - 2.0) * 0.15).sum()
    }

    fn play(&self) -> Pieces {
        match to_beat(&self.view.table) {
            None => self.lead(),
            Some((play_type, points)) => self.follow(play_type, points),
        }
    }

    /// Starts a turn: with what wins most if piles are wanted, else with what nobody would want.
    fn lead(&self) -> Pieces {
        let plays = self.plays();
        let by_chance = |a: &(Pieces, f64), b: &(Pieces, f64)| a.1.total_cmp(&b.1);
        let singles = plays.iter().copied().filter(|(set, _)| set.len() == 1);
        let weakest = singles.min_by(by_chance).map_or(self.hand.first(1), |(set, _)| set);
        let useful = plays.iter().copied().filter(|(set, _)| set.len() <= self.wanted());
        match useful.max_by(by_gain) {
            Some((set, chance)) if POSSIBLE <= chance || self.is_desperate() => set,
            Some(_) | None => weakest,
        }
    }

    /// Answers a turn: wins it as cheaply as is likely to hold, or sheds.
    fn follow(&self, play_type: PlayType, points: u32) -> Pieces {
        let count = play_type.n_pieces();
        let beats = |set: Pieces| {
            classify(set).is_some_and(|play| play.play_type == play_type && points < play.points)
        };
        if count <= self.wanted() {
            let plays = plays_of(self.hand, play_type).into_iter();
            let mut winning: Vec<Pieces> = plays.filter(|set| beats(*set)).collect();
            winning.sort_by_key(|set| worth(*set));
            let holds = |set: &&Pieces| LIKELY <= self.chance_to_hold(**set);
            let is_possible = |set: Pieces| POSSIBLE <= self.chance_to_hold(set);
            let try_it = |set: &&Pieces| is_possible(**set) || self.is_desperate();
            let choice = winning.iter().find(holds).or_else(|| winning.last().filter(try_it));
            if let Some(set) = choice {
                return *set;
            }
        }
        self.shed(count, beats)
    }

    /// Puts down `count` pieces that do not win: the least useful ones if piles are wanted, the
    /// most dangerous ones if not.
    fn shed(&self, count: usize, beats: impl Fn(Pieces) -> bool) -> Pieces {
        if self.hand.len() == count {
            return self.hand;
        }
        let plan = self.plan();
        let mut pieces: Vec<_> = self.hand.iter().collect();
        pieces.sort_by_key(|piece| (plan.contains(*piece), piece.points()));
        if self.wanted() == 0 {
            pieces.reverse();
        }
        let sets = || pieces.windows(count).map(|window| window.iter().copied().collect());
        let harmless = sets().find(|set: &Pieces| !beats(*set));
        harmless.or_else(|| sets().min_by_key(|set| worth(*set))).unwrap_or(self.hand.first(count))
    }

    /// Returns the pieces to save: the play that shall win the most of the wanted piles.
    fn plan(&self) -> Pieces {
        let wanted = self.wanted();
        if wanted == 0 {
            return Pieces::NONE;
        }
        let useful = |(set, chance): &(Pieces, f64)| set.len() <= wanted && LIKELY <= *chance;
        let plays = self.plays().into_iter().filter(useful);
        plays.max_by(by_gain).map_or(Pieces::NONE, |(set, _)| set)
    }

    /// Returns how many piles are still wanted.
    fn wanted(&self) -> usize {
        let declared = self.view.declared[self.seat].unwrap_or(0);
        usize::from(declared.saturating_sub(self.view.captured[self.seat]))
    }

    /// Returns whether every pile that is left is wanted.
    fn is_desperate(&self) -> bool {
        self.hand.len() <= self.wanted()
    }

    /// Returns every play of the hand, equal ones once, with its chance to win a turn it starts.
    fn plays(&self) -> Vec<(Pieces, f64)> {
        let types = PlayType::ALL.into_iter();
        let sets = types.flat_map(|play_type| plays_of(self.hand, play_type));
        sets.map(|set| (set, self.chance_to_lead_with(set))).collect()
    }

    fn chance_to_lead_with(&self, set: Pieces) -> f64 {
        self.chance(set, SEATS - 1)
    }

    /// Returns the chance that `set`, put down now, is not beaten by those who are still to play.
    fn chance_to_hold(&self, set: Pieces) -> f64 {
        self.chance(set, SEATS.saturating_sub(self.view.table.len() + 1))
    }

    fn chance(&self, set: Pieces, n_rivals: usize) -> f64 {
        let unseen = Pieces::ALL.without(self.hand).without(self.view.gone);
        let n_held = u32::try_from(self.hand.len()).unwrap_or(0);
        let odds = Odds { unseen, n_rivals: u32::try_from(n_rivals).unwrap_or(0), n_held };
        classify(set).map_or(0.0, |play| odds.chance(play))
    }
}

/// Orders plays by how many piles they win on average.
fn by_gain(a: &(Pieces, f64), b: &(Pieces, f64)) -> Ordering {
    (a.1 * len(a.0)).total_cmp(&(b.1 * len(b.0)))
}

fn len(set: Pieces) -> f64 {
    f64::from(u32::try_from(set.len()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{piece::Piece, room_view::Laid, seat::BySeat, turn};

    fn set(ids: &[u8]) -> Pieces {
        ids.iter().copied().filter_map(Piece::new).collect()
    }

    /// The view of seat 0, which is to act; all others hold as many pieces as it does.
    fn view(phase: Phase, hand: &[u8], declared: Option<u8>) -> GameView {
        let mut all_declared = BySeat::default();
        all_declared[Seat::First] = declared;
        GameView {
            phase,
            awaited: Some(Seat::First),
            round: 1,
            multiplier: 1,
            starter: Seat::Second,
            hand: Some(set(hand)),
            hand_sizes: BySeat::default(),
            declared: all_declared,
            may_declare: (0..=8).collect(),
            captured: BySeat::default(),
            zeros: BySeat::default(),
            scores: BySeat::default(),
            leader: Seat::Second,
            table: Vec::new(),
            last_table: Vec::new(),
            gone: Pieces::NONE,
        }
    }

    fn laid(seat: Seat, ids: &[u8]) -> Laid {
        turn::lay(seat, set(ids), None)
    }

    /// Plays the last of a turn of singles after `before`.
    fn follows(hand: &[u8], declared: u8, before: [u8; 3]) -> Option<Move> {
        let mut view = view(Phase::Turn, hand, Some(declared));
        let seats = [Seat::Second, Seat::Third, Seat::Fourth];
        view.table = seats.into_iter().zip(before).map(|(seat, id)| laid(seat, &[id])).collect();
        view.gone = set(&before);
        choose(&view, Seat::First, Style::Steady)
    }

    fn declares(hand: &[u8], style: Style) -> u8 {
        let mut view = view(Phase::Declaration, hand, None);
        view.starter = Seat::First;
        match choose(&view, Seat::First, style) {
            Some(Move::Declare(piles)) => piles,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_bot_that_is_not_to_act_does_nothing() {
        let view = view(Phase::Turn, &[0, 5], Some(1));
        assert_eq!(choose(&view, Seat::Second, Style::Steady), None);
        let mut scoring = view.clone();
        scoring.phase = Phase::Scoring;
        assert_eq!(choose(&scoring, Seat::First, Style::Steady), None);
    }

    #[test]
    fn the_last_to_play_wins_as_cheaply_as_it_can_when_it_wants_piles() {
        assert_eq!(follows(&[0, 1, 5, 31], 1, [7, 24, 25]), Some(Move::Play(set(&[5]))));
    }

    #[test]
    fn who_wants_no_pile_gives_away_the_strongest_piece_that_loses() {
        assert_eq!(follows(&[0, 5, 8, 31], 0, [3, 24, 25]), Some(Move::Play(set(&[5]))));
        // Everything wins: then the weakest.
        assert_eq!(follows(&[0, 5, 8], 0, [31, 30, 29]), Some(Move::Play(set(&[8]))));
    }

    #[test]
    fn who_cannot_win_gives_away_the_weakest_piece() {
        assert_eq!(follows(&[3, 5, 31], 1, [0, 24, 25]), Some(Move::Play(set(&[31]))));
    }

    #[test]
    fn a_leader_plays_what_wins_the_wanted_piles_and_else_the_weakest() {
        let hand = [0, 1, 3, 27, 28, 25];
        let leads = |declared| {
            let mut view = view(Phase::Turn, &hand, Some(declared));
            view.leader = Seat::First;
            choose(&view, Seat::First, Style::Steady)
        };
        assert_eq!(leads(3), Some(Move::Play(set(&[0, 1, 3]))));
        assert_eq!(leads(1), Some(Move::Play(set(&[0]))));
        assert_eq!(leads(0), Some(Move::Play(set(&[27]))));
    }

    #[test]
    fn a_strong_hand_declares_more_than_a_weak_one_and_a_bold_bot_more_than_a_cautious_one() {
        let strong = [0, 1, 2, 3, 4, 16, 17, 18];
        let weak = [5, 7, 24, 26, 27, 28, 11, 12];
        assert!(7 <= declares(&strong, Style::Steady));
        assert!(declares(&weak, Style::Steady) <= 3);
        assert!(declares(&weak, Style::Cautious) < declares(&weak, Style::Bold));
    }

    #[test]
    fn a_bot_declares_only_what_is_allowed() {
        let mut view = view(Phase::Declaration, &[0, 1, 2, 3, 4, 16, 17, 18], None);
        view.may_declare = vec![1, 2];
        assert_eq!(choose(&view, Seat::First, Style::Bold), Some(Move::Declare(2)));
        view.may_declare.clear();
        assert_eq!(choose(&view, Seat::First, Style::Bold), None);
    }

    #[test]
    fn a_cautious_bot_keeps_its_weak_hand_and_the_others_take_the_redeal() {
        let view = view(Phase::Preparation, &[5, 7, 24, 26, 27, 28, 11, 12], None);
        let choice = |style| choose(&view, Seat::First, style);
        assert_eq!(choice(Style::Cautious), Some(Move::DeclineRedeal));
        assert_eq!(choice(Style::Steady), Some(Move::AcceptRedeal));
        assert_eq!(choice(Style::Bold), Some(Move::AcceptRedeal));
    }
}
