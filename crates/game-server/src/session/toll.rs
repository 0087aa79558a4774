//! What a message costs: the server decides, before anything is done for it.

use std::time::Duration;

use infra_core::limit::{Charge, Verdict};

use super::conversation::{Game, Place, Session};
use crate::protocol::{ClientMessage, Request, cost};

impl Game {
    /// Pays for a message; `Some` says how long to wait instead.
    pub(super) async fn pay(&self, session: &Session, message: &ClientMessage) -> Option<Duration> {
        let cost = cost(message);
        let mut charges = Vec::with_capacity(3);
        let is_arrival = matches!(
            message,
            ClientMessage::Request(
                Request::Hello { .. } | Request::CreateRoom { .. } | Request::JoinRoom { .. }
            )
        );
        if is_arrival {
            let address = session.connection.peer().ip();
            charges.push(Charge::one("address", infra_ratelimit::address_key(address)));
        }
        if let Some(player) = session.player {
            charges.push(Charge::one("player", player.to_string()).cost(cost));
        }
        if let (Place::Seated(room), ClientMessage::Action(_)) = (session.place, message) {
            charges.push(Charge::one("room", room.to_string()).cost(cost));
        }
        if charges.is_empty() {
            return None;
        }
        match self.limiter.acquire(&charges).await.map(|decision| decision.verdict) {
            Ok(Verdict::Admitted) => None,
            Ok(Verdict::RetryAfter(pause)) => Some(pause),
            Ok(Verdict::Never) => Some(Duration::from_mins(1)),
            Err(error) => {
                // A limiter in memory has no outage; one elsewhere lets the game go on.
                tracing::warn!(error = &error as &dyn std::error::Error, "rate limit not known");
                None
            }
        }
    }

    pub(super) async fn pay_malformed(&self, session: &Session) {
        if let Some(player) = session.player {
            let charge = Charge::one("player", player.to_string());
            // Whether it could be paid does not matter: too many end the connection.
            let _paid = self.limiter.acquire(&[charge]).await.is_ok();
        }
    }
}
