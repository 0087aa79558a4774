//! What a seat does in the game: redeal, declare, play.

use super::{
    command::{Act, Entropy},
    deal::{deal, holder_of_red_general, weak_seats},
    decide::Decision,
    declaration::check_declaration,
    event::{Cause, Event},
    game::Game,
    pieces::Pieces,
    play::LONGEST_PLAY,
    refusal::Refusal,
    room::Room,
    room_view::Phase,
    seat::{SEATS, Seat},
    turn,
};

/// A move of the game, as a bot chooses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Move {
    /// Takes the redeal.
    AcceptRedeal,
    /// Keeps the weak hand.
    DeclineRedeal,
    /// Declares this many piles.
    Declare(u8),
    /// Plays these pieces.
    Play(Pieces),
}

impl Move {
    /// Returns the move as it is asked of the room; `entropy` serves if it makes a new deal.
    pub const fn into_act(self, entropy: Entropy) -> Act {
        match self {
            Self::AcceptRedeal => Act::AcceptRedeal { entropy },
            Self::DeclineRedeal => Act::DeclineRedeal,
            Self::Declare(piles) => Act::Declare { piles },
            Self::Play(pieces) => Act::Play { pieces },
        }
    }
}

impl Room {
    pub(super) fn accept_redeal(
        &self,
        seat: Seat,
        entropy: Entropy,
        cause: Option<Cause>,
    ) -> Decision {
        let round = &self.on_turn(seat, Phase::Preparation)?.round;
        let mut events = vec![Event::RedealAccepted { seat, cause }];
        let multiplier = round.multiplier.saturating_add(1);
        events.extend(deal_events(round.number, multiplier, Some(seat), entropy));
        Ok(events)
    }

    pub(super) fn decline_redeal(&self, seat: Seat, cause: Option<Cause>) -> Decision {
        let round = &self.on_turn(seat, Phase::Preparation)?.round;
        let mut events = vec![Event::RedealDeclined { seat, cause }];
        if let Some(next) = round.to_ask.iter().find(|asked| **asked != seat) {
            events.push(Event::RedealAsked { seat: *next });
        }
        Ok(events)
    }

    pub(super) fn declare(&self, seat: Seat, piles: u8, cause: Option<Cause>) -> Decision {
        let game = self.on_turn(seat, Phase::Declaration)?;
        check_declaration(piles, game.zeros[seat], &game.round.declared)?;
        Ok(vec![Event::Declared { seat, piles, cause }])
    }

    pub(super) fn play(&self, seat: Seat, pieces: Pieces, cause: Option<Cause>) -> Decision {
        let game = self.on_turn(seat, Phase::Turn)?;
        let led = game.round.table.first();
        let has_right_count = match led {
            Some(led) => led.pieces.len() == pieces.len(),
            None => (1..=LONGEST_PLAY).contains(&pieces.len()),
        };
        if !has_right_count {
            return Err(Refusal::WrongPieceCount);
        }
        if !pieces.is_subset(game.round.hands.0[seat]) {
            return Err(Refusal::PieceNotHeld);
        }
        let laid = turn::lay(seat, pieces, led);
        if led.is_none() && !laid.can_win {
            return Err(Refusal::InvalidPlay);
        }
        let (play, can_win) = (laid.play, laid.can_win);
        let played = Event::Played { seat, pieces, play, can_win, cause };
        Ok(with_consequences(game, played))
    }

    /// Returns the game if it is `seat`'s turn in `phase`.
    fn on_turn(&self, seat: Seat, phase: Phase) -> Result<&Game, Refusal> {
        let game = self.running().ok_or(Refusal::WrongPhase)?;
        if game.round.phase() != phase {
            return Err(Refusal::WrongPhase);
        }
        if game.awaited() == Some(seat) { Ok(game) } else { Err(Refusal::NotYourTurn) }
    }
}

/// Returns the deal of a round and the first question about a redeal.
///
/// Without a `starter` the red general chooses one.
pub(super) fn deal_events(
    round: u8,
    multiplier: u16,
    starter: Option<Seat>,
    entropy: Entropy,
) -> Vec<Event> {
    let hands = deal(entropy);
    let starter = starter.unwrap_or_else(|| holder_of_red_general(&hands));
    let weak = weak_seats(&hands, starter);
    let asked = weak.first().map(|seat| Event::RedealAsked { seat: *seat });
    let dealt = Event::Dealt { round, multiplier, starter, hands, weak };
    [Some(dealt), asked].into_iter().flatten().collect()
}

/// Returns a play with what follows from it: the turn, the round and the game may end.
fn with_consequences(game: &Game, played: Event) -> Vec<Event> {
    let mut game = game.clone();
    let mut events = Vec::new();
    let mut next = Some(played);
    while let Some(event) = next {
        game.evolve(&event);
        next = consequence(&game, &event);
        events.push(event);
    }
    events
}

/// Returns what follows at once from the last `event` of `game`.
fn consequence(game: &Game, event: &Event) -> Option<Event> {
    let table = &game.round.table;
    if matches!(event, Event::Played { .. }) && table.len() == SEATS {
        let (winner, _) = turn::strongest(table)?;
        let piles = u8::try_from(table.first()?.pieces.len()).ok()?;
        return Some(Event::TurnWon { winner, piles });
    }
    if matches!(event, Event::TurnWon { .. }) && game.round.is_played() {
        return Some(game.scored());
    }
    if matches!(event, Event::RoundScored { .. }) {
        return game.ended();
    }
    None
}
