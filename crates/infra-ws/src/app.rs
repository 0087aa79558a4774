//! What an application does with connections.

use std::fmt::Debug;

use async_trait::async_trait;
use bytes::Bytes;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::{close::Close, connection::Connection};

/// A message from a client; fragments are put together, control frames never appear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inbound {
    /// Text; it is valid UTF-8.
    Text(Utf8Bytes),
    /// Anything else.
    Binary(Bytes),
}

impl Inbound {
    /// Returns the message's length in bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }

    /// Returns whether the message is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Says what messages mean.
///
/// The messages of one connection are handled one at a time, in their order; while one is handled
/// nothing more is read from that client, so a slow handler holds up its own client alone. A panic
/// closes that connection with 1011 and harms no other.
#[async_trait]
pub trait App: Send + Sync + Debug + 'static {
    /// What the application keeps for one connection.
    type Session: Send;

    /// Takes a new connection, or closes it.
    ///
    /// # Errors
    ///
    /// How to close it.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped if the connection ends first.
    async fn open(&self, connection: Connection) -> Result<Self::Session, Close>;

    /// Handles one message.
    ///
    /// # Errors
    ///
    /// How to close the connection; what was sent before is still delivered.
    ///
    /// # Cancel safety
    ///
    /// The future is dropped if the connection ends first.
    async fn message(&self, session: &mut Self::Session, message: Inbound) -> Result<(), Close>;

    /// Hears that a connection has ended; called once for each that was opened.
    async fn closed(&self, session: Self::Session);
}
