//! What only the application can say.

use std::{borrow::Cow, fmt::Debug};

use async_trait::async_trait;
use infra_core::clock::Timestamp;
use serde_json::Value;

use crate::{facts::Facts, wire::Code};

/// Who a client is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The user.
    pub user: String,
    /// The login or device of the user, so that it can be revoked alone and a stale socket of it
    /// be replaced.
    pub session: Option<String>,
    /// When what proved it ends.
    pub good_until: Option<Timestamp>,
}

impl Identity {
    /// Creates the identity of a user, without session and end.
    pub fn user(name: impl Into<String>) -> Self {
        Self { user: name.into(), session: None, good_until: None }
    }

    /// Names the session.
    #[must_use]
    pub fn session(mut self, session: impl Into<String>) -> Self {
        self.session = Some(session.into());
        self
    }

    /// Sets when it ends.
    #[must_use]
    pub const fn good_until(mut self, moment: Timestamp) -> Self {
        self.good_until = Some(moment);
        self
    }
}

/// A refusal; its words go to the client as they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denied {
    /// Why, for programs.
    pub code: Code,
    /// Why, for people.
    pub message: Cow<'static, str>,
}

impl Denied {
    /// Creates a refusal.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into() }
    }
}

/// What a user is in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// It takes a seat.
    Player,
    /// It watches.
    Spectator,
}

/// What becomes of something that a client says to a room.
#[derive(Debug, Clone, PartialEq)]
pub enum Published {
    /// It becomes an event of the stream.
    Event(Value),
    /// Whoever is there hears it, and nobody later.
    Passing(Value),
    /// It was taken, and nothing is said.
    Silently,
}

/// The whole state of a room at a place of its stream.
#[derive(Debug, Clone, PartialEq)]
pub struct RoomState {
    /// The last offset that is in it.
    pub offset: u64,
    /// The state as the viewer may see it.
    pub data: Value,
}

/// How one viewer sees an event.
#[derive(Debug, Clone, PartialEq)]
pub enum Sight {
    /// As it is; encoded once for all who see it so.
    Full,
    /// Not at all: an empty marker takes its place, so that nobody sees a hole.
    Hidden,
    /// Like this.
    Redacted(Value),
}

/// What happens in the life of a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Life {
    /// The first is about to enter.
    Created,
    /// A user entered.
    Joined(String),
    /// The last connection of a user is gone; it may come back.
    Dropped(String),
    /// A user came back in time.
    Returned(String),
    /// A user left, or did not come back in time.
    Left(String),
    /// Nobody has been there for a while; the room is forgotten, its stream is not.
    Disposed,
}

/// Says what only the application can say. Everything is refused that it does not allow.
///
/// Each method runs in the task of one connection, within the deadline of
/// [`RoomOptions::handler`](super::RoomOptions::handler); a panic closes that connection with 1011.
#[async_trait]
pub trait RoomHandler: Send + Sync + Debug + 'static {
    /// Says who a client is by the token that it brought.
    ///
    /// # Errors
    ///
    /// The refusal; the connection is closed.
    async fn authenticate(&self, token: &str, facts: &Facts) -> Result<Identity, Denied>;

    /// Says whether a user may enter a room, and as what.
    ///
    /// # Errors
    ///
    /// The refusal.
    async fn may_enter(&self, who: &Identity, room: &str) -> Result<Role, Denied>;

    /// Takes what a user says to a room it is in, and says what becomes of it.
    ///
    /// # Errors
    ///
    /// The refusal.
    async fn publish(&self, who: &Identity, room: &str, data: Value) -> Result<Published, Denied>;

    /// Answers a question; by default there is nothing to ask.
    ///
    /// # Errors
    ///
    /// The refusal.
    #[expect(unused_variables, reason = "the default knows no method")]
    async fn request(
        &self,
        who: &Identity,
        room: Option<&str>,
        method: &str,
        data: Value,
    ) -> Result<Value, Denied> {
        Err(Denied::new(Code::NotFound, format!("there is no method {method:?}")))
    }

    /// Returns the whole state of a room as a user may see it; by default there is none, and a
    /// client begins at the end of the stream.
    ///
    /// The offset must be read before the state, or with it: events behind it follow.
    ///
    /// # Errors
    ///
    /// The refusal.
    #[expect(unused_variables, reason = "the default has no state")]
    async fn state(&self, who: &Identity, room: &str) -> Result<Option<RoomState>, Denied> {
        Ok(None)
    }

    /// Says how a user sees an event; a pure function, so that it is the same live and later.
    #[expect(unused_variables, reason = "the default hides nothing")]
    fn view(&self, room: &str, event: &Value, user: &str) -> Sight {
        Sight::Full
    }

    /// Hears what happens in the life of a room.
    #[expect(unused_variables, reason = "the default keeps nothing")]
    async fn happened(&self, room: &str, life: Life) {}
}
