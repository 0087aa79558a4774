//! What a client knows of a room that it follows, and what it makes of what it hears.

use serde_json::Value;

use crate::{
    history::Place,
    sync::{NeedsFull, Replica, Update},
    wire::{ClientMessage, Part},
};

/// What became of something that was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Took {
    /// It is the next event.
    New,
    /// It was seen before, or says nothing.
    Nothing,
    /// Something is missing: it must enter again.
    Missing,
}

/// A room.
#[derive(Debug)]
pub(super) struct Followed {
    seat: Option<u32>,
    seen: Option<Place>,
    /// The newest resume token.
    pub(super) token: Option<String>,
    is_in: bool,
    /// Its state is wanted too.
    pub(super) is_synced: bool,
    shared: Replica,
    own: Replica,
}

impl Followed {
    pub(super) fn new(seat: Option<u32>, seen: Option<Place>) -> Self {
        Self {
            seat,
            seen,
            token: None,
            is_in: false,
            is_synced: false,
            shared: Replica::new(),
            own: Replica::new(),
        }
    }

    /// Says how it enters, and whether by a token.
    pub(super) fn enter(&self, id: u64, room: &str) -> (ClientMessage, bool) {
        let from = self.seen.clone();
        match self.token.clone() {
            Some(token) => (ClientMessage::Resume { id, token, from }, true),
            None => {
                (ClientMessage::Join { id, room: room.to_owned(), seat: self.seat, from }, false)
            }
        }
    }

    pub(super) fn joined(&mut self, from: Place, token: String) {
        (self.seen, self.token, self.is_in) = (Some(from), Some(token), true);
    }

    pub(super) const fn break_off(&mut self) {
        self.is_in = false;
    }

    /// Says that it follows the state, if it does and is in the room.
    pub(super) fn sync(&self, room: &str) -> Option<ClientMessage> {
        let version = self.shared.version();
        (self.is_in && self.is_synced)
            .then(|| ClientMessage::Sync { room: room.to_owned(), version })
    }

    pub(super) fn event(&mut self, place: &Place) -> Took {
        let seen = self.seen.clone().unwrap_or_default();
        if !self.is_in || (seen.epoch == place.epoch && place.offset <= seen.offset) {
            return Took::Nothing;
        }
        let is_same = seen.epoch == place.epoch || seen.epoch.is_empty();
        if !is_same || place.offset != seen.offset + 1 {
            return self.lost();
        }
        self.seen = Some(place.clone());
        Took::New
    }

    pub(super) fn position(&mut self, place: &Place) -> Took {
        let seen = self.seen.clone().unwrap_or_default();
        let is_other = !place.epoch.is_empty() && place.epoch != seen.epoch;
        if is_other || seen.offset < place.offset { self.lost() } else { Took::Nothing }
    }

    pub(super) const fn lost(&mut self) -> Took {
        if !self.is_in {
            return Took::Nothing;
        }
        self.is_in = false;
        Took::Missing
    }

    /// Takes an update of the state; returns the state if it is another one.
    pub(super) fn state(&mut self, part: Part, update: Update) -> Result<Option<Value>, NeedsFull> {
        let replica = match part {
            Part::Shared => &mut self.shared,
            Part::Own => &mut self.own,
        };
        let before = replica.version();
        replica.apply(update)?;
        Ok((replica.version() != before).then(|| replica.state().clone()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(epoch: &str, offset: u64) -> Place {
        Place { epoch: epoch.to_owned(), offset }
    }

    proptest! {
        #[test]
        fn each_event_is_taken_once_in_order_or_the_room_is_entered_again(
            offers in proptest::collection::vec((0..8_u64, 0..12_u8), 0..60),
        ) {
            let mut followed = Followed::new(None, None);
            followed.joined(place("a", 0), "token".to_owned());
            let mut taken = 0;
            for (offset, luck) in offers {
                let epoch = if luck == 0 { "b" } else { "a" };
                let took = if luck == 1 {
                    followed.position(&place("a", offset))
                } else {
                    followed.event(&place(epoch, offset))
                };
                match took {
                    Took::New => {
                        prop_assert_eq!((epoch, offset), ("a", taken + 1));
                        taken += 1;
                    }
                    Took::Nothing => {}
                    Took::Missing => {
                        prop_assert!(epoch == "b" || taken < offset);
                        let (message, by_token) = followed.enter(7, "room");
                        let from = Some(place("a", taken));
                        let token = "token".to_owned();
                        prop_assert!(by_token);
                        prop_assert_eq!(message, ClientMessage::Resume { id: 7, token, from });
                        prop_assert_eq!(followed.event(&place("a", taken + 1)), Took::Nothing);
                        followed.joined(place("a", taken), "token".to_owned());
                    }
                }
            }
        }
    }
}
