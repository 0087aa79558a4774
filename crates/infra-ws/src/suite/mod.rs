//! The law of resuming, as a suite that any transport and any history can run (feature `suite`).
//!
//! A [`Site`] is what is tried: nodes that serve one room, and sockets that speak the protocol of
//! [`wire`](crate::wire). [`run`] drives it by a seed: it publishes, cuts sockets, opens a second
//! one beside the first, reads slowly, lets entries be evicted and streams begin anew, spoils what
//! nodes tell each other, and kills nodes. Meanwhile each [`Viewer`] holds everything that it hears
//! against what was published:
//!
//! 1. **Gap-free:** on a socket every offset comes once, in order, with the viewer's own view of it.
//! 2. **Promised:** `recovered` is followed by exactly as many events as it says, from what was seen.
//! 3. **Told:** whatever a viewer is not given it is told of, and each refusal has a true cause.
//! 4. **Owed:** within the bounds of the history and of what is sent again, recovery succeeds.
//! 5. **Settled:** once the trouble ends every viewer sees the end of the stream.
//!
//! A socket may end at any time; that breaks no law.

mod law;
mod run;

use async_trait::async_trait;
use infra_core::Result;
use serde_json::Value;

pub use self::{
    law::{Breach, Published, Viewer},
    run::{Plan, Tally, Violation, run},
};
use crate::{
    history::{Place, Window},
    wire::{ClientMessage, ServerMessage},
};

/// A client's end of a connection.
#[async_trait]
pub trait Socket: Send {
    /// Says something; returns false if the connection has ended.
    async fn send(&mut self, message: &ClientMessage) -> bool;

    /// Waits for the next message; `None` once the connection has ended.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future must lose no message.
    async fn receive(&mut self) -> Option<ServerMessage>;
}

/// What is done to a site besides publishing and cutting sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trouble {
    /// A node dies with all its sockets, and another takes its place.
    Kill(usize),
    /// The stream of the room begins anew.
    Renew,
    /// Of what nodes tell each other, the next few things are lost.
    Lose,
    /// Of what nodes tell each other, the next few things come late and out of order.
    Disorder,
    /// Connections that are opened from now on are cut somewhere in the middle.
    Frail,
    /// All of this is over.
    Calm,
}

/// Nodes that serve one room.
///
/// Any text is a valid token, and is the user's name.
#[async_trait]
pub trait Site: Send + Sync {
    /// A client's end of a connection.
    type Socket: Socket;

    /// Returns the room's name.
    fn room(&self) -> &str;

    /// Returns how many nodes there are; they are counted from zero.
    fn nodes(&self) -> usize;

    /// Returns how a user sees an event.
    fn view(&self, user: &str, event: &Value) -> Value;

    /// Opens a socket to a node; `None` if that does not work now.
    async fn connect(&self, node: usize) -> Option<Self::Socket>;

    /// Publishes an event by a node.
    ///
    /// # Errors
    ///
    /// What publishing fails with; the event must not be in the stream then.
    async fn publish(&self, node: usize, event: &Value) -> Result<Place>;

    /// Returns what is kept of the stream, without its entries.
    ///
    /// # Errors
    ///
    /// What the history fails with.
    async fn window(&self) -> Result<Window>;

    /// Does harm, if it can.
    async fn trouble(&mut self, trouble: Trouble);
}
