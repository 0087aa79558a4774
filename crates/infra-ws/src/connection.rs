//! The handle of a connection.

use std::{fmt, net::SocketAddr, sync::Arc};

use crate::{
    close::Close,
    frame::{Class, Frame},
    outbox::{Ledger, Outbox},
};

/// Names a connection within its hub; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub(crate) u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A connection as the application holds it. Cheap to clone; it outlives its socket harmlessly.
#[derive(Debug, Clone)]
pub struct Connection(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    id: ConnectionId,
    peer: SocketAddr,
    outbox: Outbox,
}

impl Connection {
    pub(crate) fn new(id: ConnectionId, peer: SocketAddr, outbox: Outbox) -> Self {
        Self(Arc::new(Inner { id, peer, outbox }))
    }

    /// Returns its id.
    pub fn id(&self) -> ConnectionId {
        self.0.id
    }

    /// Returns the client's address.
    pub fn peer(&self) -> SocketAddr {
        self.0.peer
    }

    /// Gives a message to the client's queue and returns whether it was taken; never waits.
    ///
    /// A durable message that finds no room closes the connection as too slow.
    pub fn send(&self, frame: Frame, class: Class) -> bool {
        self.0.outbox.push(frame, class)
    }

    /// Ends the connection after what waits was delivered; the first close counts.
    pub fn close(&self, close: Close) {
        self.0.outbox.close(close);
    }

    /// Returns how many bytes wait for the client.
    pub fn queued_bytes(&self) -> usize {
        self.0.outbox.bytes()
    }

    /// Returns what became of the messages so far.
    pub fn ledger(&self) -> Ledger {
        self.0.outbox.ledger()
    }

    pub(crate) fn outbox(&self) -> &Outbox {
        &self.0.outbox
    }
}
