//! The invariants of a room.

use std::collections::HashSet;

use super::{
    room::{Life, RECENT_CHAT, Room},
    text::Name,
};

impl Room {
    /// Checks what must hold after every event.
    pub(super) fn check_invariants(&self) -> Result<(), String> {
        self.check_people()?;
        if self.offset < self.since || RECENT_CHAT < self.chat.len() {
            return Err("an offset or the chat is out of bounds".to_owned());
        }
        if let Some(game) = &self.game {
            game.check()?;
        }
        self.check_life()
    }

    fn check_people(&self) -> Result<(), String> {
        let people: Vec<_> = self.chairs.values().filter_map(|c| c.occupant.player()).collect();
        if people.iter().collect::<HashSet<_>>().len() != people.len() {
            return Err("a player sits on two chairs".to_owned());
        }
        let names = self.chairs.values().filter_map(|chair| chair.occupant.name());
        let names: Vec<String> = names.map(Name::folded).collect();
        for (idx, name) in names.iter().enumerate() {
            if names.iter().skip(idx + 1).any(|other| name == other) {
                return Err(format!("two are called {name}"));
            }
        }
        match self.host {
            Some(host) if self.player_at(host).is_none() => {
                Err("the host is not a person".to_owned())
            }
            Some(_) | None => Ok(()),
        }
    }

    fn check_life(&self) -> Result<(), String> {
        let ended = self.game.as_ref().is_some_and(|game| {
            let was_cut = self.result.as_ref().is_some_and(|result| result.limit.is_some());
            was_cut || (game.n_scored == game.round.number && game.is_over())
        });
        match self.life {
            Life::Uncreated if self.offset != 0 => Err("events before the creation".to_owned()),
            Life::Gathering if self.game.is_some() => Err("a game before its start".to_owned()),
            Life::Completed if !ended || self.result.is_none() => {
                Err("a game has a result before its end".to_owned())
            }
            Life::Gathering | Life::InGame | Life::Abandoned if self.result.is_some() => {
                Err("a game goes on after its result".to_owned())
            }
            Life::Uncreated
            | Life::Gathering
            | Life::InGame
            | Life::Completed
            | Life::Abandoned => Ok(()),
        }
    }
}
