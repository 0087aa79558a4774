//! How an event changes a room.

use super::{
    bounds::bytes_of,
    chair::{Answer, Answered, Occupant},
    event::Event,
    game::Game,
    room::{Life, RECENT_CHAT, Room},
    room_view::{ChatView, ResultView},
    round::Round,
    seat::{BySeat, Seat},
    text::ChatText,
};

impl Room {
    /// Folds an event, whatever it is; what makes no sense in the present state changes little
    /// and never fails.
    pub(super) fn fold(&mut self, event: &Event) {
        self.offset = self.offset.saturating_add(1);
        let was_due = self.awaited();
        self.fold_answer(event);
        self.fold_table(event);
        self.fold_game(event);
        if self.settings.bounds.bytes.is_some() {
            let before = self.bytes.unwrap_or_default();
            self.bytes = Some(before.saturating_add(bytes_of(event)));
        }
        if matches!(event, Event::Dealt { .. }) || was_due != self.awaited() {
            self.since = self.offset;
        }
    }

    /// Remembers the answer to a numbered action.
    fn fold_answer(&mut self, event: &Event) {
        let offset = self.offset;
        if let Some(cause) = event.cause() {
            let answer = Answer::Accepted { offset };
            self.chairs[cause.seat].answered = Some(Answered { action: cause.action, answer });
        }
        if let Event::ActionRefused { seat, action, reason } = event {
            let answer = Answer::Refused { offset, reason: *reason };
            self.chairs[*seat].answered = Some(Answered { action: *action, answer });
        }
    }

    /// Folds who sits where and who says what.
    fn fold_table(&mut self, event: &Event) {
        match event {
            Event::RoomCreated { host, name, settings } => {
                self.life = Life::Gathering;
                self.settings = *settings;
                self.host = Some(Seat::First);
                self.chairs[Seat::First].seat_person(*host, name, None);
            }
            Event::PlayerJoined { seat, player, name } => {
                let answered = self.last_answered(*player);
                self.chairs[*seat].seat_person(*player, name, answered);
            }
            Event::PlayerLeft { seat, .. } => {
                self.chairs[*seat].vacate();
                self.host = self.host.filter(|host| host != seat);
            }
            Event::HostChanged { seat } => self.host = Some(*seat),
            Event::BotAdded { seat, name, style, .. } => {
                self.chairs[*seat].occupant = Occupant::Bot { name: name.clone(), style: *style };
            }
            Event::BotRemoved { seat, .. } => self.chairs[*seat].occupant = Occupant::Nobody,
            Event::PlayerWentSilent { seat } => self.chairs[*seat].set_silent(true),
            Event::PlayerCameBack { seat, .. } => self.chairs[*seat].set_silent(false),
            Event::RoomAbandoned { .. } => self.life = Life::Abandoned,
            Event::Chat { seat, text, .. } => self.remember_chat(*seat, text),
            Event::GameStarted { .. }
            | Event::Dealt { .. }
            | Event::RedealAsked { .. }
            | Event::RedealAccepted { .. }
            | Event::RedealDeclined { .. }
            | Event::Declared { .. }
            | Event::Played { .. }
            | Event::TurnWon { .. }
            | Event::RoundScored { .. }
            | Event::GameEnded { .. }
            | Event::ActionRefused { .. } => {}
        }
    }

    /// Folds the game, its beginning and its end.
    fn fold_game(&mut self, event: &Event) {
        if matches!(event, Event::GameStarted { .. }) {
            self.life = Life::InGame;
        }
        match (&mut self.game, event) {
            (Some(game), _) => game.evolve(event),
            (game, Event::Dealt { round, multiplier, starter, hands, weak }) => {
                let round = Round::dealt(*round, *multiplier, *starter, *hands, weak);
                *game = Some(Game::new(round, self.settings.bounds.rounds));
            }
            (None, _) => {}
        }
        if let Event::GameEnded { rounds, scores, winners, limit } = event {
            let names = BySeat::from_fn(|seat| self.name_at(seat).cloned());
            let (rounds, scores, winners) = (*rounds, *scores, winners.clone());
            self.result = Some(ResultView { rounds, names, scores, winners, limit: *limit });
            self.life = Life::Completed;
        }
    }

    fn remember_chat(&mut self, seat: Seat, text: &ChatText) {
        let Some(name) = self.name_at(seat).cloned() else { return };
        if RECENT_CHAT <= self.chat.len() {
            self.chat.remove(0);
        }
        self.chat.push(ChatView { offset: self.offset, seat, name, text: text.clone() });
    }
}
