//! How much a game admits.

use std::time::Duration;

use infra_core::Result;

use crate::{
    limit::Limit,
    quota::Quota,
    rules::{Rule, Rules, Scope},
    window::Window,
};

/// How much a game admits.
#[derive(Debug, Clone)]
pub struct Options {
    player: Limit,
    room: Limit,
    connections_per_address: u32,
    connections_per_player: u32,
    connections_per_room: u32,
    arrivals: Limit,
    arriving: Vec<&'static str>,
    messages: Vec<Messages>,
    is_trial: bool,
}

impl Options {
    /// Creates the limits of Liap Tui: 120 tokens a player, one back each second; 300 tokens a
    /// minute in a room; 20 connections an address, 4 a player, 64 a room; 60 arrivals a minute from
    /// an address, which are connections, `create_room` and `join_room`; and the table of single
    /// messages.
    ///
    /// # Errors
    ///
    /// None in fact: the figures are valid.
    pub fn new() -> Result<Self> {
        Ok(Self {
            player: Limit::bucket(Quota::new(120, Duration::from_secs(1))?),
            room: Limit::log(Window::per_minute(300)?),
            connections_per_address: 20,
            connections_per_player: 4,
            connections_per_room: 64,
            arrivals: Limit::bucket(Quota::per_minute(60)?),
            arriving: vec!["create_room", "join_room"],
            messages: MESSAGES.to_vec(),
            is_trial: false,
        })
    }

    /// Sets the limit of a player's tokens.
    #[must_use]
    pub fn player(mut self, limit: impl Into<Limit>) -> Self {
        self.player = limit.into();
        self
    }

    /// Sets the limit of a room's tokens.
    #[must_use]
    pub fn room(mut self, limit: impl Into<Limit>) -> Self {
        self.room = limit.into();
        self
    }

    /// Sets how many connections an address, a player and a room have at once.
    #[must_use]
    pub const fn connections(mut self, address: u32, player: u32, room: u32) -> Self {
        self.connections_per_address = address;
        self.connections_per_player = player;
        self.connections_per_room = room;
        self
    }

    /// Sets the limit of arrivals from an address.
    #[must_use]
    pub fn arrivals(mut self, limit: impl Into<Limit>) -> Self {
        self.arrivals = limit.into();
        self
    }

    /// Sets which messages are arrivals, as connections are.
    #[must_use]
    pub fn arriving(mut self, messages: &[&'static str]) -> Self {
        self.arriving = messages.to_vec();
        self
    }

    /// Sets how many messages of each kind a player may send: the first row that names a message
    /// counts it, so the last should be for `*`.
    #[must_use]
    pub fn messages(mut self, table: &[Messages]) -> Self {
        self.messages = table.to_vec();
        self
    }

    /// Puts all limits on trial: they count and tell what they would refuse, and refuse nothing.
    #[must_use]
    pub const fn trial(mut self) -> Self {
        self.is_trial = true;
        self
    }

    const fn limit(&self, limit: Limit) -> Limit {
        if self.is_trial { limit.shadow() } else { limit }
    }

    /// Returns the limits of connections, to declare them beside those of the rules.
    ///
    /// # Errors
    ///
    /// [`Invalid`](infra_core::ErrorKind::Invalid) for a limit of no connection at all.
    pub fn limits(&self) -> Result<[(&'static str, Limit); 3]> {
        let connections = |count| Limit::concurrent(count).map(|limit| self.limit(limit));
        Ok([
            (PER_ADDRESS, connections(self.connections_per_address)?),
            (PER_PLAYER, connections(self.connections_per_player)?),
            (PER_ROOM, connections(self.connections_per_room)?),
        ])
    }

    /// Returns the rules of messages: tokens of player and room, arrivals of an address, and the
    /// table of single messages.
    ///
    /// # Errors
    ///
    /// [`Invalid`](infra_core::ErrorKind::Invalid) for a row that admits no message at all.
    pub fn rules(&self) -> Result<Rules> {
        let mut rules = vec![
            Rule::new("player", Scope::Player, self.limit(self.player)),
            Rule::new("room", Scope::Room, self.limit(self.room)),
            Rule::new(ARRIVALS, Scope::Address, self.limit(self.arrivals))
                .messages(&self.arriving)
                .flat(),
        ];
        for row in &self.messages {
            let limit = Limit::sliding(Window::per_minute(row.per_minute)?).block(row.block);
            let rule = Rule::new(row.limit, Scope::Player, self.limit(limit));
            rules.push(rule.messages(row.messages).exclusive().flat());
        }
        Ok(Rules::new(rules))
    }
}

pub(super) const ARRIVALS: &str = "arrivals";
pub(super) const PER_ADDRESS: &str = "connections per address";
pub(super) const PER_PLAYER: &str = "connections per player";
pub(super) const PER_ROOM: &str = "connections per room";

/// How many messages of some kinds a player may send within a minute, together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Messages {
    /// The limit's name.
    pub limit: &'static str,
    /// The messages, as in [`Rule::messages`].
    pub messages: &'static [&'static str],
    /// How many within a minute.
    pub per_minute: u32,
    /// How long they are refused once that was met.
    pub block: Duration,
}

const fn row(
    limit: &'static str,
    messages: &'static [&'static str],
    per_minute: u32,
    block_seconds: u64,
) -> Messages {
    Messages { limit, messages, per_minute, block: Duration::from_secs(block_seconds) }
}

/// The table of Liap Tui. The last row is for every other message: none passes unseen.
const MESSAGES: [Messages; 15] = [
    row("event ping", &["ping"], 120, 0),
    row("event ack", &["ack"], 200, 0),
    row("event sync", &["sync_request"], 10, 0),
    row("event rooms", &["request_room_list", "get_rooms"], 30, 0),
    row("event create", &["create_room"], 5, 300),
    row("event join", &["join_room"], 10, 0),
    row("event state", &["get_room_state"], 60, 0),
    row("event bots", &["remove_player", "add_bot"], 10, 0),
    row("event leave", &["leave_room"], 5, 0),
    row("event start", &["start_game"], 3, 600),
    row("event declare", &["declare"], 6, 0),
    row("event play", &["play", "play_pieces"], 20, 0),
    row("event redeal request", &["request_redeal"], 3, 0),
    row("event redeal", &["accept_redeal", "decline_redeal"], 5, 0),
    row("event other", &["*"], 60, 0),
];
