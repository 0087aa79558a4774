//! What the room's clock and the operator may do: time-outs, bots, the next deal, the end.

use super::{
    bot,
    bounds::Limit,
    command::{Act, Entropy},
    decide::Decision,
    due::Awaited,
    event::{AbandonReason, Event},
    moves::{Move, deal_events},
    refusal::Refusal,
    room::{Life, Room},
    seat::Seat,
    view::Viewer,
};

impl Room {
    pub(super) fn decide_clock(&self, act: &Act) -> Decision {
        match act {
            Act::TimeOut { seat, since } => {
                self.expect_due(Awaited::Person(*seat), *since)?;
                Ok(vec![Event::PlayerWentSilent { seat: *seat }])
            }
            Act::PlayFor { seat, since, entropy } => {
                self.expect_due(Awaited::Bot(*seat), *since)?;
                self.play_for(*seat, *entropy)
            }
            Act::NextRound { since, entropy } => {
                self.expect_due(Awaited::NextRound, *since)?;
                self.next_round(*entropy)
            }
            Act::TimeIsUp => {
                let end = self.cut_short(Limit::Minutes).ok_or(Refusal::WrongPhase)?;
                Ok(vec![end])
            }
            Act::Close { reason } => self.close(*reason),
            Act::Create { .. }
            | Act::Join { .. }
            | Act::Leave
            | Act::AddBot { .. }
            | Act::RemoveBot { .. }
            | Act::Start { .. }
            | Act::AcceptRedeal { .. }
            | Act::DeclineRedeal
            | Act::Declare { .. }
            | Act::Play { .. }
            | Act::Chat { .. }
            | Act::Return => Err(Refusal::NotAllowed),
        }
    }

    pub(super) fn decide_operator(&self, act: &Act) -> Decision {
        let Act::Close { reason } = act else { return Err(Refusal::NotAllowed) };
        self.close(*reason)
    }

    /// Refuses a command about something that has happened since, or never was due.
    fn expect_due(&self, awaited: Awaited, since: u64) -> Result<(), Refusal> {
        let is_due = self.awaited() == Some(awaited) && self.since == since;
        if is_due { Ok(()) } else { Err(Refusal::NotDue) }
    }

    /// Lets the bot on a seat act on what that seat can see, and on nothing else.
    fn play_for(&self, seat: Seat, entropy: Entropy) -> Decision {
        let style = self.chairs[seat].occupant.bot().ok_or(Refusal::NotABot)?;
        let game = self.game_view(Viewer::Seat(seat)).ok_or(Refusal::WrongPhase)?;
        match bot::choose(&game, seat, style).ok_or(Refusal::WrongPhase)? {
            Move::AcceptRedeal => self.accept_redeal(seat, entropy, None),
            Move::DeclineRedeal => self.decline_redeal(seat, None),
            Move::Declare(piles) => self.declare(seat, piles, None),
            Move::Play(pieces) => self.play(seat, pieces, None),
        }
    }

    fn next_round(&self, entropy: Entropy) -> Decision {
        let game = self.running().ok_or(Refusal::WrongPhase)?;
        let number = game.round.number.saturating_add(1);
        Ok(deal_events(number, 1, Some(game.last_winner()), entropy))
    }

    fn close(&self, reason: AbandonReason) -> Decision {
        match self.life {
            Life::Gathering | Life::InGame => Ok(vec![Event::RoomAbandoned { reason }]),
            Life::Uncreated | Life::Completed | Life::Abandoned => Err(Refusal::WrongPhase),
        }
    }
}
