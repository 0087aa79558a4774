//! How an event that carries what somebody says of itself stands in a store: in place of the text
//! stands what it was sealed to, and beside it whose it is.
//!
//! ```text
//! schema 1  {"type":"chat","seat":2,"text":"hello","cause":{...}}
//! schema 2  {"type":"chat","seat":2,"sealed":"BASE64","player":"UUID","cause":{...}}
//! ```
//!
//! `sealed` is `null` where the player was forgotten before it was written.

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::domain::PlayerId;

/// The schema of events as rooms know them.
pub(super) const PLAIN: u32 = 1;

/// The schema of stored events whose text is sealed.
pub(super) const SEALED: u32 = 2;

const SEALED_FIELD: &str = "sealed";

/// An event as JSON.
pub(super) type Object = Map<String, Value>;

/// Whether the text of an event is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sealed<'a> {
    /// It stands there plainly.
    Not,
    /// It was sealed to this.
    To(&'a str),
    /// Nothing was kept of it.
    Forgotten,
}

/// What an event has of a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Personal {
    /// The field of the text.
    text: &'static str,
    /// The field of whose it is; of chat only where the text is sealed.
    player: &'static str,
}

impl Personal {
    /// Returns what an event of a type has of a person, if it has anything.
    pub(super) fn of(event_type: &str) -> Option<Self> {
        match event_type {
            "room_created" => Some(Self { text: "name", player: "host" }),
            "player_joined" => Some(Self { text: "name", player: "player" }),
            "chat" => Some(Self { text: "text", player: "player" }),
            _ => None,
        }
    }

    /// Returns what an event has of a person.
    pub(super) fn of_object(object: &Object) -> Option<Self> {
        Self::of(object.get("type")?.as_str()?)
    }

    /// Returns whose the text is, as the event itself says.
    pub(super) fn player(self, object: &Object) -> Option<PlayerId> {
        let text = object.get(self.player)?.as_str()?;
        text.parse::<Uuid>().ok().map(PlayerId::from_uuid)
    }

    /// Returns the text, if it stands there plainly.
    pub(super) fn text(self, object: &Object) -> Option<&str> {
        object.get(self.text)?.as_str()
    }

    /// Returns what the text of an event was sealed to.
    pub(super) fn sealed(object: &Object) -> Sealed<'_> {
        match object.get(SEALED_FIELD) {
            Some(Value::String(text)) => Sealed::To(text),
            Some(_) => Sealed::Forgotten,
            None => Sealed::Not,
        }
    }

    /// Puts a sealed text in the place of the plain one.
    pub(super) fn seal(self, object: &mut Object, player: PlayerId, sealed: Option<String>) {
        object.remove(self.text);
        object.insert(SEALED_FIELD.to_owned(), sealed.into());
        object.insert(self.player.to_owned(), player.to_string().into());
    }

    /// Puts a plain text in the place of the sealed one.
    pub(super) fn unseal(self, object: &mut Object, text: String) {
        object.remove(SEALED_FIELD);
        if self.text == "text" {
            // Chat names a seat; whose it is stands there for the key alone.
            object.remove(self.player);
        }
        object.insert(self.text.to_owned(), text.into());
    }

    /// Returns what stands for the text of somebody who was forgotten.
    pub(super) fn stand_in(self, player: PlayerId) -> String {
        if self.text == "name" {
            // Nobody else of a room is called so.
            let (first, _, _, _) = player.as_uuid().as_fields();
            format!("someone {first:08x}")
        } else {
            "(forgotten)".to_owned()
        }
    }
}
