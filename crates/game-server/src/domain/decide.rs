//! How a room answers a command: once and for ever, if it has a number.

use super::{
    command::{Act, Actor, Command},
    event::{Cause, Event},
    lobby::create,
    player::PlayerId,
    refusal::Refusal,
    room::{Life, Room},
    seat::Seat,
};

/// What happens, or why it does not.
pub(super) type Decision = Result<Vec<Event>, Refusal>;

impl Room {
    /// Decides a command, unless it repeats one that has been answered.
    pub(super) fn decide_once(&self, command: &Command) -> Decision {
        let (Actor::Player(player), Some(action)) = (command.actor, command.action) else {
            return self.decide_anew(command, None);
        };
        if let Some(last) = self.last_answered(player) {
            if action == last.action {
                return Ok(Vec::new());
            }
            if action < last.action {
                return Err(Refusal::StaleAction);
            }
        }
        if self.life == Life::Completed && self.is_full() && command.act != Act::Leave {
            // Not even the refusal is recorded.
            return Err(Refusal::WrongPhase);
        }
        let is_over = self.life == Life::Abandoned;
        let Some(seat) = self.seat_of(player).filter(|_| !is_over) else {
            return self.decide_anew(command, None);
        };
        self.decide_anew(command, Some(Cause { seat, action })).or_else(|reason| {
            let record = vec![Event::ActionRefused { seat, action, reason }];
            // A refusal changes nothing: where its record would end the game it is not kept.
            if self.is_ended_by(&record) { Err(reason) } else { Ok(record) }
        })
    }

    fn decide_anew(&self, command: &Command, cause: Option<Cause>) -> Decision {
        match (self.life, &command.act) {
            (Life::Uncreated, Act::Create { .. }) => {}
            (_, Act::Create { .. }) => return Err(Refusal::RoomExists),
            (Life::Uncreated, _) => return Err(Refusal::NoSuchRoom),
            (Life::Abandoned, _) => return Err(Refusal::RoomAbandoned),
            (Life::Gathering | Life::InGame | Life::Completed, _) => {}
        }
        match command.actor {
            Actor::Player(player) => self.decide_player(player, &command.act, cause),
            Actor::Clock => self.decide_clock(&command.act),
            Actor::Operator => self.decide_operator(&command.act),
        }
    }

    fn decide_player(&self, player: PlayerId, act: &Act, cause: Option<Cause>) -> Decision {
        match act {
            Act::Create { name, settings } => create(player, name, settings),
            Act::Join { name } => self.join(player, name),
            Act::TimeOut { .. }
            | Act::PlayFor { .. }
            | Act::NextRound { .. }
            | Act::TimeIsUp
            | Act::Close { .. } => Err(Refusal::NotAllowed),
            Act::Leave
            | Act::AddBot { .. }
            | Act::RemoveBot { .. }
            | Act::Start { .. }
            | Act::AcceptRedeal { .. }
            | Act::DeclineRedeal
            | Act::Declare { .. }
            | Act::Play { .. }
            | Act::Chat { .. }
            | Act::Return => {
                let seat = self.seat_of(player).ok_or(Refusal::NotInRoom)?;
                self.decide_seated(seat, act, cause)
            }
        }
    }

    fn decide_seated(&self, seat: Seat, act: &Act, cause: Option<Cause>) -> Decision {
        match act {
            Act::Leave => self.leave(seat, cause),
            Act::AddBot { style } => self.add_bot(seat, *style, cause),
            Act::RemoveBot { seat: bot } => self.remove_bot(seat, *bot, cause),
            Act::Start { entropy } => self.start(seat, *entropy, cause),
            Act::Chat { text } => Ok(vec![Event::Chat { seat, text: text.clone(), cause }]),
            Act::Return => self.come_back(seat, cause),
            Act::AcceptRedeal { entropy } => {
                self.back_with(seat, self.accept_redeal(seat, *entropy, cause))
            }
            Act::DeclineRedeal => self.back_with(seat, self.decline_redeal(seat, cause)),
            Act::Declare { piles } => self.back_with(seat, self.declare(seat, *piles, cause)),
            Act::Play { pieces } => self.back_with(seat, self.play(seat, *pieces, cause)),
            Act::Create { .. }
            | Act::Join { .. }
            | Act::TimeOut { .. }
            | Act::PlayFor { .. }
            | Act::NextRound { .. }
            | Act::TimeIsUp
            | Act::Close { .. } => Err(Refusal::NotAllowed),
        }
    }

    /// Puts the return of a silent player before what it did: who plays is back.
    fn back_with(&self, seat: Seat, decision: Decision) -> Decision {
        let done = decision?;
        if !self.chairs[seat].occupant.is_silent() {
            return Ok(done);
        }
        let mut events = vec![Event::PlayerCameBack { seat, cause: None }];
        events.extend(done);
        Ok(events)
    }

    fn come_back(&self, seat: Seat, cause: Option<Cause>) -> Decision {
        if !self.chairs[seat].occupant.is_silent() {
            return Err(Refusal::NotSilent);
        }
        Ok(vec![Event::PlayerCameBack { seat, cause }])
    }
}
