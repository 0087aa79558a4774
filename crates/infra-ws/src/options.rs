//! The limits and deadlines of a hub.

use std::{net::IpAddr, time::Duration};

use http::HeaderName;

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
    pub(crate) per_user: usize,
    pub(crate) unidentified: usize,
    pub(crate) identify: Option<Duration>,
    pub(crate) inbound_budget: usize,
    pub(crate) outbound_budget: usize,
    pub(crate) control_frames: u32,
    pub(crate) proxies: Vec<IpAddr>,
    pub(crate) token_prefix: Option<&'static str>,
    pub(crate) keeps_query: bool,
    pub(crate) kept_headers: Vec<HeaderName>,
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
            per_user: 16,
            unidentified: usize::MAX,
            identify: None,
            inbound_budget: 64 * 1024 * 1024,
            outbound_budget: 256 * 1024 * 1024,
            control_frames: 100,
            proxies: Vec::new(),
            token_prefix: None,
            keeps_query: false,
            kept_headers: Vec::new(),
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

    /// Sets the most connections of one user; 16 by default.
    #[must_use]
    pub const fn per_user(mut self, connections: usize) -> Self {
        self.per_user = connections;
        self
    }

    /// Demands that each connection is identified within `deadline` (else it is closed with
    /// [`Close::UNIDENTIFIED`]), and sets how many may be open
    /// that are not. By default an application need not identify anybody.
    #[must_use]
    pub const fn unidentified(mut self, connections: usize, deadline: Duration) -> Self {
        self.unidentified = connections;
        self.identify = Some(deadline);
        self
    }

    /// Sets how many bytes of unfinished messages, and of messages that wait for clients, the whole
    /// process holds; 64 and 256 MiB by default. Beyond it those that hold most are closed with
    /// [`Close::OVERLOADED`].
    ///
    /// A frame that waits for several clients counts for each, so real memory is less.
    #[must_use]
    pub const fn budgets(mut self, inbound: usize, outbound: usize) -> Self {
        self.inbound_budget = inbound;
        self.outbound_budget = outbound;
        self
    }

    /// Sets how many pings and pongs a client may send in one heartbeat; 100 by default. One that
    /// sends more is cut off with [`Close::POLICY`], and nothing more of it is read.
    #[must_use]
    pub const fn control_frames(mut self, count: u32) -> Self {
        self.control_frames = count;
        self
    }

    /// Believes what these proxies say of their clients' addresses; none by default.
    #[must_use]
    pub fn trust_proxies(mut self, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        self.proxies.extend(addresses.into_iter().map(|address| address.to_canonical()));
        self
    }

    /// Takes the subprotocol that begins with `prefix` as a token, never as a protocol.
    ///
    /// Browsers can send no header of their own, and a token in the query ends in logs.
    #[must_use]
    pub const fn token_prefix(mut self, prefix: &'static str) -> Self {
        self.token_prefix = Some(prefix);
        self
    }

    /// Keeps the query of requests in [`Facts`](crate::Facts); by default it is forgotten.
    #[must_use]
    pub const fn keep_query(mut self) -> Self {
        self.keeps_query = true;
        self
    }

    /// Keeps a header of requests in [`Facts`](crate::Facts); by default none is kept.
    #[must_use]
    pub fn keep_header(mut self, name: HeaderName) -> Self {
        self.kept_headers.push(name);
        self
    }

    /// Sets the codes with which the hub itself closes connections.
    #[must_use]
    pub fn codes(mut self, codes: CloseCodes) -> Self {
        self.codes = codes;
        self
    }
}
