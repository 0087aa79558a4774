//! What happens round the table before and beside the game: who comes, goes, hosts and starts.

use super::{
    chair::Chair,
    command::Entropy,
    decide::Decision,
    event::{AbandonReason, Cause, Event},
    moves::deal_events,
    player::{PlayerId, Style},
    refusal::Refusal,
    room::{Life, Room},
    seat::Seat,
    settings::Settings,
    text::Name,
};

/// The names of bots: more than the people of one room can take from them.
const BOT_NAMES: [&str; 8] =
    ["Bot Bai", "Bot Chen", "Bot Fang", "Bot Hua", "Bot Ling", "Bot Mei", "Bot Tao", "Bot Xiu"];

/// Decides the creation of a room.
pub(super) fn create(host: PlayerId, name: &Name, settings: &Settings) -> Decision {
    settings.check()?;
    Ok(vec![Event::RoomCreated { host, name: name.clone(), settings: *settings }])
}

impl Room {
    pub(super) fn join(&self, player: PlayerId, name: &Name) -> Decision {
        if self.seat_of(player).is_some() {
            return Err(Refusal::AlreadyJoined);
        }
        if self.life != Life::Gathering {
            return Err(Refusal::GameRunning);
        }
        let seat = self.first_free().ok_or(Refusal::RoomFull)?;
        if self.is_called(name, &[]) {
            return Err(Refusal::NameTaken);
        }
        Ok(vec![Event::PlayerJoined { seat, player, name: name.clone() }])
    }

    /// Decides a departure: the host's office goes on, a bot takes the seat in a game, and a room
    /// without people is given up.
    pub(super) fn leave(&self, seat: Seat, cause: Option<Cause>) -> Decision {
        let heir = self.heir(seat);
        let mut events = Vec::new();
        if let Some(heir) = heir.filter(|_| self.host == Some(seat)) {
            events.push(Event::HostChanged { seat: heir });
        }
        events.push(Event::PlayerLeft { seat, cause });
        match (self.life, heir) {
            (Life::InGame, Some(_)) => events.push(self.bot_for(seat, &events)?),
            (Life::Gathering | Life::InGame, None) => {
                events.push(Event::RoomAbandoned { reason: AbandonReason::EverybodyLeft });
            }
            (Life::Gathering, Some(_))
            | (Life::Completed | Life::Uncreated | Life::Abandoned, _) => {}
        }
        Ok(events)
    }

    /// Returns who hosts when `seat` leaves: the next person round the table, rather one who
    /// answers.
    fn heir(&self, seat: Seat) -> Option<Seat> {
        let [_, others @ ..] = seat.round_the_table();
        let people = || others.into_iter().filter(|other| self.player_at(*other).is_some());
        let answers = |other: &Seat| !self.chairs[*other].occupant.is_silent();
        people().find(answers).or_else(|| people().next())
    }

    pub(super) fn add_bot(&self, by: Seat, style: Style, cause: Option<Cause>) -> Decision {
        self.host_gathers(by)?;
        let seat = self.first_free().ok_or(Refusal::RoomFull)?;
        let name = self.bot_name(&[])?;
        Ok(vec![Event::BotAdded { seat, name, style, cause }])
    }

    pub(super) fn remove_bot(&self, by: Seat, seat: Seat, cause: Option<Cause>) -> Decision {
        self.host_gathers(by)?;
        if !self.chairs[seat].occupant.is_bot() {
            return Err(Refusal::NotABot);
        }
        Ok(vec![Event::BotRemoved { seat, cause }])
    }

    pub(super) fn start(&self, by: Seat, entropy: Entropy, cause: Option<Cause>) -> Decision {
        self.host_gathers(by)?;
        let mut events = Vec::new();
        for (seat, chair) in self.chairs.iter() {
            if chair.occupant.is_free() {
                events.push(self.bot_for(seat, &events)?);
            }
        }
        events.push(Event::GameStarted { cause });
        events.extend(deal_events(1, 1, None, entropy));
        Ok(events)
    }

    /// Refuses what only the host may do, and only before the game.
    fn host_gathers(&self, seat: Seat) -> Result<(), Refusal> {
        if self.life != Life::Gathering {
            return Err(Refusal::WrongPhase);
        }
        if self.host == Some(seat) { Ok(()) } else { Err(Refusal::NotHost) }
    }

    /// Returns the event that puts a bot on a seat of its own accord.
    fn bot_for(&self, seat: Seat, before: &[Event]) -> Result<Event, Refusal> {
        let (name, style) = (self.bot_name(before)?, Style::default());
        Ok(Event::BotAdded { seat, name, style, cause: None })
    }

    /// Returns a name that nobody has, those of the events `before` included.
    fn bot_name(&self, before: &[Event]) -> Result<Name, Refusal> {
        let names = BOT_NAMES.into_iter().filter_map(|name| Name::new(name).ok());
        let mut free = names.filter(|name| !self.is_called(name, before));
        free.next().ok_or(Refusal::NameTaken)
    }

    fn is_called(&self, name: &Name, before: &[Event]) -> bool {
        let sits =
            |chair: &Chair| chair.occupant.name().is_some_and(|other| other.reads_like(name));
        let comes = |event: &Event| matches!(event, Event::BotAdded { name: other, .. } if other.reads_like(name));
        self.chairs.values().any(sits) || before.iter().any(comes)
    }
}
