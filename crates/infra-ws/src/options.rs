//! The limits and deadlines of a hub.

use std::time::Duration;

use crate::{close::Close, origin::OriginPolicy};

/// The codes with which the hub itself closes connections, so that a protocol can have its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseCodes {
    /// The first message did not come in time.
    pub first_message: Close,
    /// Nothing was heard for too long.
    pub silent: Close,
    /// A message was begun and not finished in time.
    pub unfinished: Close,
    /// The client reads too slowly.
    pub slow: Close,
}

impl Default for CloseCodes {
    fn default() -> Self {
        Self {
            first_message: Close::new(4001, "first message did not come in time"),
            silent: Close::new(4006, "nothing heard for too long"),
            unfinished: Close::new(4007, "message not finished in time"),
            slow: Close::new(4008, "reads too slowly"),
        }
    }
}

/// The limits and deadlines of a hub; each has a default but the origin policy.
#[derive(Debug, Clone)]
pub struct Options {
    pub(crate) origin: OriginPolicy,
    pub(crate) protocols: Vec<&'static str>,
    pub(crate) message_bytes: usize,
    pub(crate) handshake: Duration,
    pub(crate) first_message: Duration,
    pub(crate) assembly: Duration,
    pub(crate) heartbeat: Duration,
    pub(crate) silence: Duration,
    pub(crate) write: Duration,
    pub(crate) outbox_messages: usize,
    pub(crate) outbox_bytes: usize,
    pub(crate) connections: usize,
    pub(crate) per_address: usize,
    pub(crate) codes: CloseCodes,
}

impl Options {
    /// Creates the options of a hub that admits pages by `origin`.
    pub fn new(origin: OriginPolicy) -> Self {
        Self {
            origin,
            protocols: Vec::new(),
            message_bytes: 64 * 1024,
            handshake: Duration::from_secs(5),
            first_message: Duration::from_secs(5),
            assembly: Duration::from_secs(10),
            heartbeat: Duration::from_secs(15),
            silence: Duration::from_secs(40),
            write: Duration::from_secs(10),
            outbox_messages: 1_024,
            outbox_bytes: 256 * 1024,
            connections: 10_000,
            per_address: 64,
            codes: CloseCodes::default(),
        }
    }

    /// Names a subprotocol that is spoken; a client that offers others only is refused. None by
    /// default: then whatever is offered is not confirmed.
    #[must_use]
    pub fn protocol(mut self, name: &'static str) -> Self {
        self.protocols.push(name);
        self
    }

    /// Sets the longest message in bytes; 64 KiB by default. It is also the most that one client
    /// can make the server hold for it on the way in.
    #[must_use]
    pub const fn message_bytes(mut self, bytes: usize) -> Self {
        self.message_bytes = bytes;
        self
    }

    /// Sets how long a handshake may take; 5 s by default.
    #[must_use]
    pub const fn handshake(mut self, deadline: Duration) -> Self {
        self.handshake = deadline;
        self
    }

    /// Sets how long the first message may take; 5 s by default.
    #[must_use]
    pub const fn first_message(mut self, deadline: Duration) -> Self {
        self.first_message = deadline;
        self
    }

    /// Sets how long a message may take from its first byte to its last; 10 s by default.
    #[must_use]
    pub const fn assembly(mut self, deadline: Duration) -> Self {
        self.assembly = deadline;
        self
    }

    /// Sets how often a ping is sent, and how long a client may say nothing at all (no message and
    /// no answer to a ping); 15 s and 40 s by default.
    #[must_use]
    pub const fn heartbeat(mut self, every: Duration, silence: Duration) -> Self {
        self.heartbeat = every;
        self.silence = silence;
        self
    }

    /// Sets how long one write to the socket may take; 10 s by default.
    #[must_use]
    pub const fn write(mut self, deadline: Duration) -> Self {
        self.write = deadline;
        self
    }

    /// Sets how much may wait for one client; 1,024 messages and 256 KiB by default.
    #[must_use]
    pub const fn outbox(mut self, messages: usize, bytes: usize) -> Self {
        self.outbox_messages = messages;
        self.outbox_bytes = bytes;
        self
    }

    /// Sets the most connections in all and from one address; 10,000 and 64 by default.
    #[must_use]
    pub const fn connections(mut self, all: usize, per_address: usize) -> Self {
        self.connections = all;
        self.per_address = per_address;
        self
    }

    /// Sets the codes with which the hub itself closes connections.
    #[must_use]
    pub fn codes(mut self, codes: CloseCodes) -> Self {
        self.codes = codes;
        self
    }
}
