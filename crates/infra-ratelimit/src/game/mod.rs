//! The limits of a game with rooms: what actions cost, which rules they meet, who is connected.

mod action;
mod options;

use std::{net::IpAddr, sync::Arc};

use infra_core::{
    Result,
    limit::{Charge, Decision, RateLimiter, Reservation},
};
use parking_lot::Mutex;

use self::options::{ARRIVALS, PER_ADDRESS, PER_PLAYER, PER_ROOM};
pub use self::{
    action::{Action, Phase},
    options::{Messages, Options},
};
use crate::{
    prefix::address_key,
    rules::{Facts, Rules},
};

/// A connection that is counted; it counts until this is dropped.
#[derive(Debug)]
pub struct Counted(Mutex<Option<Reservation>>);

impl Drop for Counted {
    fn drop(&mut self) {
        // The arrival stays paid: to come and go is not free. What was only held comes back.
        if let Some(reservation) = self.0.get_mut().take() {
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
        Ok((decision, reservation.map(|reservation| Counted(Mutex::new(Some(reservation))))))
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
