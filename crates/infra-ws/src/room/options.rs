//! The limits and times of rooms.

use std::time::Duration;

/// The limits and times of rooms; each has a default.
#[derive(Debug, Clone)]
pub struct RoomOptions {
    pub(crate) handler: Duration,
    pub(crate) seats: u32,
    pub(crate) members: usize,
    pub(crate) rooms: usize,
    pub(crate) per_connection: usize,
    pub(crate) grace: Duration,
    pub(crate) linger: Duration,
    pub(crate) token: Duration,
    pub(crate) attempts: u32,
    pub(crate) replay: u64,
    pub(crate) held_back: usize,
    pub(crate) check: Duration,
    pub(crate) tick: Duration,
}

impl RoomOptions {
    /// Creates the default options.
    pub const fn new() -> Self {
        Self {
            handler: Duration::from_secs(10),
            seats: 4,
            members: 10_000,
            rooms: 10_000,
            per_connection: 100,
            grace: Duration::from_secs(30),
            linger: Duration::from_mins(1),
            token: Duration::from_mins(5),
            attempts: 3,
            replay: 1_000,
            held_back: 1_000,
            check: Duration::from_secs(10),
            tick: Duration::from_millis(50),
        }
    }

    /// Sets how long each question to the application may take; 10 s by default. After it the
    /// answer is no.
    #[must_use]
    pub const fn handler(mut self, deadline: Duration) -> Self {
        self.handler = deadline;
        self
    }

    /// Sets how many seats a room has; 4 by default.
    #[must_use]
    pub const fn seats(mut self, count: u32) -> Self {
        self.seats = count;
        self
    }

    /// Sets the most connections in one room, and the most rooms; 10,000 each by default.
    #[must_use]
    pub const fn sizes(mut self, members: usize, rooms: usize) -> Self {
        self.members = members;
        self.rooms = rooms;
        self
    }

    /// Sets the most rooms that one connection is in; 100 by default.
    #[must_use]
    pub const fn per_connection(mut self, rooms: usize) -> Self {
        self.per_connection = rooms;
        self
    }

    /// Sets how long a user whose last connection is gone is expected back, and how long a room
    /// without anybody is kept; 30 s and a minute by default.
    #[must_use]
    pub const fn grace(mut self, user: Duration, room: Duration) -> Self {
        self.grace = user;
        self.linger = room;
        self
    }

    /// Sets how long a resume token is good, and how many bad ones a connection may bring; 5
    /// minutes and 3 by default. A connection gets a fresh one when half of the time is over.
    #[must_use]
    pub const fn tokens(mut self, lifetime: Duration, attempts: u32) -> Self {
        self.token = lifetime;
        self.attempts = attempts;
        self
    }

    /// Sets the most events that are sent again, and the most that are held back for a client while
    /// that is being prepared; 1,000 each by default.
    #[must_use]
    pub const fn replay(mut self, events: u64, held_back: usize) -> Self {
        self.replay = events;
        self.held_back = held_back;
        self
    }

    /// Sets how often clients are told how far the stream is; every 10 s by default.
    #[must_use]
    pub const fn check(mut self, every: Duration) -> Self {
        self.check = every;
        self
    }

    /// Sets how often changes of state are sent; every 50 ms by default.
    #[must_use]
    pub const fn tick(mut self, every: Duration) -> Self {
        self.tick = every;
        self
    }
}

impl Default for RoomOptions {
    fn default() -> Self {
        Self::new()
    }
}
