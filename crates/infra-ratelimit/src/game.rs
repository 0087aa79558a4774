//! The limits of a game with rooms: what actions cost, which rules they meet, who is connected.

use std::{net::IpAddr, num::NonZeroU32, sync::Arc, time::Duration};

use infra_core::{
    Result,
    limit::{Charge, Decision, RateLimiter, Reservation},
};

use crate::{
    limit::Limit,
    prefix::address_key,
    quota::Quota,
    rules::{Facts, Rule, Rules, Scope},
    window::Window,
};

/// What a player does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is its name")]
pub enum Action {
    CreateRoom,
    JoinRoom,
    LeaveRoom,
    StartGame,
    Play,
    Declare,
    AcceptRedeal,
    DeclineRedeal,
    Chat,
    Emoji,
    Replay,
    Statistics,
    Unknown,
}

impl Action {
    /// Returns what it costs in tokens.
    pub const fn cost(self) -> NonZeroU32 {
        let tokens = match self {
            Self::Replay => 10,
            Self::CreateRoom | Self::Statistics => 5,
            Self::StartGame => 3,
            Self::JoinRoom | Self::AcceptRedeal | Self::DeclineRedeal => 2,
            Self::LeaveRoom
            | Self::Play
            | Self::Declare
            | Self::Chat
            | Self::Emoji
            | Self::Unknown => 1,
        };
        NonZeroU32::MIN.saturating_add(tokens - 1)
    }

    /// Returns what it costs in a phase of the room in which the server has seated the player: its
    /// cost divided by the phase's factor, rounded up, never below one.
    pub const fn cost_in(self, phase: Phase) -> NonZeroU32 {
        let halves = match phase {
            Phase::Lobby => 1,
            Phase::Preparation | Phase::Scoring => 2,
            Phase::Declaration => 3,
            Phase::Turn => 4,
        };
        let cost = (self.cost().get() * 2).div_ceil(halves);
        NonZeroU32::MIN.saturating_add(cost.saturating_sub(1))
    }
}

/// Where a room is in its game.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Actions cost twice as much: nothing there is urgent.
    Lobby,
    /// Actions cost what they cost.
    Preparation,
    /// Actions cost two thirds.
    Declaration,
    /// Actions cost half.
    Turn,
    /// Actions cost what they cost.
    Scoring,
}

/// How much a game admits.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    player: Limit,
    room: Limit,
    connections_per_address: u32,
    connections_per_player: u32,
    connections_per_room: u32,
    arrivals: Limit,
}

impl Options {
    /// Creates the limits of Liap Tui: 120 tokens a player, one back each second; 300 tokens a
    /// minute in a room; 20 connections an address, 4 a player, 64 a room; 60 arrivals a minute from
    /// an address.
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

    /// Returns the limits of connections, to declare them beside those of the rules.
    ///
    /// # Errors
    ///
    /// [`Invalid`](infra_core::ErrorKind::Invalid) for a limit of no connection at all.
    pub fn limits(&self) -> Result<[(&'static str, Limit); 4]> {
        Ok([
            (ARRIVALS, self.arrivals),
            (PER_ADDRESS, Limit::concurrent(self.connections_per_address)?),
            (PER_PLAYER, Limit::concurrent(self.connections_per_player)?),
            (PER_ROOM, Limit::concurrent(self.connections_per_room)?),
        ])
    }

    /// Returns the rules of messages: tokens of player and room, and the table of single events.
    ///
    /// # Errors
    ///
    /// None in fact: the figures are valid.
    pub fn rules(&self) -> Result<Rules> {
        let mut rules = vec![
            Rule::new("player", Scope::Player, self.player),
            Rule::new("room", Scope::Room, self.room),
        ];
        for (name, messages, count, block) in EVENTS {
            let limit =
                Limit::sliding(Window::per_minute(count)?).block(Duration::from_secs(block));
            rules.push(Rule::new(name, Scope::Player, limit).messages(messages).exclusive().flat());
        }
        Ok(Rules::new(rules))
    }
}

const ARRIVALS: &str = "arrivals";
const PER_ADDRESS: &str = "connections per address";
const PER_PLAYER: &str = "connections per player";
const PER_ROOM: &str = "connections per room";

/// For each kind of message how many a player may send within a minute, and for how many seconds it
/// is refused once it met that. The last is for every other one: no message passes unseen.
const EVENTS: [(&str, &[&str], u32, u64); 15] = [
    ("event ping", &["ping"], 120, 0),
    ("event ack", &["ack"], 200, 0),
    ("event sync", &["sync_request"], 10, 0),
    ("event rooms", &["request_room_list", "get_rooms"], 30, 0),
    ("event create", &["create_room"], 5, 300),
    ("event join", &["join_room"], 10, 0),
    ("event state", &["get_room_state"], 60, 0),
    ("event bots", &["remove_player", "add_bot"], 10, 0),
    ("event leave", &["leave_room"], 5, 0),
    ("event start", &["start_game"], 3, 600),
    ("event declare", &["declare"], 6, 0),
    ("event play", &["play", "play_pieces"], 20, 0),
    ("event redeal request", &["request_redeal"], 3, 0),
    ("event redeal", &["accept_redeal", "decline_redeal"], 5, 0),
    ("event other", &["*"], 60, 0),
];

/// A connection that is counted; it counts until this is dropped.
#[derive(Debug)]
pub struct Counted(Option<Reservation>);

impl Drop for Counted {
    fn drop(&mut self) {
        // The arrival stays paid: to come and go is not free. What was only held comes back.
        if let Some(reservation) = self.0.take() {
            reservation.keep();
        }
    }
}

/// Decides over the messages and connections of a game; every decision is one atomic call.
#[derive(Debug, Clone)]
pub struct GameLimiter {
    limiter: Arc<dyn RateLimiter>,
    rules: Rules,
}

impl GameLimiter {
    /// Creates a game's limits over a limiter to which they are declared.
    pub const fn new(limiter: Arc<dyn RateLimiter>, rules: Rules) -> Self {
        Self { limiter, rules }
    }

    /// Pays for an action by the rules; the phase is that of the player's own room.
    ///
    /// # Errors
    ///
    /// As for [`RateLimiter::acquire`].
    ///
    /// # Cancel safety
    ///
    /// As for [`RateLimiter::acquire`].
    pub async fn act(
        &self,
        facts: &Facts<'_>,
        action: Action,
        phase: Option<Phase>,
    ) -> Result<Decision> {
        let cost = phase.map_or(action.cost(), |phase| action.cost_in(phase));
        self.limiter.acquire(&self.rules.charges(facts, cost)).await
    }

    /// Counts a new connection, if its address and player have one left.
    ///
    /// # Errors
    ///
    /// As for [`RateLimiter::reserve`].
    ///
    /// # Cancel safety
    ///
    /// As for [`RateLimiter::reserve`].
    pub async fn connect(
        &self,
        address: IpAddr,
        player: Option<&str>,
    ) -> Result<(Decision, Option<Counted>)> {
        let key = address_key(address);
        let mut charges = vec![Charge::one(ARRIVALS, &*key), Charge::one(PER_ADDRESS, key)];
        charges.extend(player.map(|player| Charge::one(PER_PLAYER, player)));
        self.count(&charges).await
    }

    /// Counts a connection in a room, if that has one left.
    ///
    /// # Errors
    ///
    /// As for [`RateLimiter::reserve`].
    ///
    /// # Cancel safety
    ///
    /// As for [`RateLimiter::reserve`].
    pub async fn enter(&self, room: &str) -> Result<(Decision, Option<Counted>)> {
        self.count(&[Charge::one(PER_ROOM, room)]).await
    }

    async fn count(&self, charges: &[Charge]) -> Result<(Decision, Option<Counted>)> {
        let (decision, reservation) = self.limiter.reserve(charges).await?;
        Ok((decision, reservation.map(|reservation| Counted(Some(reservation)))))
    }

    /// Returns how many connections a player has.
    ///
    /// # Errors
    ///
    /// As for [`RateLimiter::peek`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn connections(&self, player: &str) -> Result<u32> {
        self.held(Charge::one(PER_PLAYER, player)).await
    }

    /// Returns how many connections a room has.
    ///
    /// # Errors
    ///
    /// As for [`RateLimiter::peek`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn in_room(&self, room: &str) -> Result<u32> {
        self.held(Charge::one(PER_ROOM, room)).await
    }

    async fn held(&self, charge: Charge) -> Result<u32> {
        let decision = self.limiter.peek(&[charge]).await?;
        let left = decision.remaining + u32::from(decision.is_admitted());
        Ok(decision.capacity.saturating_sub(left))
    }
}
