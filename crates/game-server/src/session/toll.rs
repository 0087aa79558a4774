//! What a message costs, before anything is done for it: first its connection's own ladder, then
//! the limits of player, room and address.

use std::{num::NonZeroU32, time::Duration};

use infra_core::limit::{Class, Ladder as _, Step};
use infra_ratelimit::{
    Facts,
    game::{Action, Counted, Phase},
};
use infra_ws::Close as WsClose;

use super::{
    answers::{fault, refused},
    conversation::{Game, Place, Session},
};
use crate::{
    domain,
    limits::{action_of, class_of},
    protocol::{
        ClientMessage, Close, ErrorCode, Refused, Request, RoomCode, ServerMessage, Setback,
    },
    rooms::close_of,
    telemetry::THROTTLED,
};

/// When to send a message again that the ladder dropped.
const DROPPED: Duration = Duration::from_secs(1);

impl Game {
    /// Takes the toll of a message; returns whether it is served now.
    ///
    /// # Errors
    ///
    /// How to close the connection, if it has sent too much for too long.
    pub(super) async fn admits(
        &self,
        session: &mut Session,
        message: &ClientMessage,
    ) -> Result<bool, WsClose> {
        let pause = if self.climb(session, class_of(message)).await? {
            self.pay(session, message).await
        } else {
            Some(DROPPED)
        };
        let Some(pause) = pause else { return Ok(true) };
        let refused = throttled(pause);
        let refused = match message {
            ClientMessage::Action(numbered) => refused.action(numbered.action),
            ClientMessage::Request(_) => refused,
        };
        let request = message.name().to_owned();
        session.say(&ServerMessage::Refused(Refused { request, ..refused }));
        Ok(false)
    }

    /// Takes the toll of a message that means nothing.
    ///
    /// # Errors
    ///
    /// As for [`Game::admits`].
    pub(super) async fn charge_malformed(&self, session: &mut Session) -> Result<(), WsClose> {
        self.climb(session, Class::Control).await?;
        if session.player.is_some() {
            // Whether it could be paid does not matter: too many end the connection.
            let _pause = self.charge(session, "malformed", Action::Unknown, None).await;
        }
        Ok(())
    }

    /// Judges a message by its connection's ladder; returns whether it is served.
    async fn climb(&self, session: &mut Session, class: Class) -> Result<bool, WsClose> {
        let Some(ladder) = &mut session.ladder else { return Ok(true) };
        let step = ladder.judge(class, NonZeroU32::MIN, self.clock.now());
        match step {
            Step::Allow => session.is_warned = false,
            Step::Warn => session.warn(),
            Step::Delay(pause) => {
                session.warn();
                tokio::time::sleep(pause).await;
            }
            Step::Drop => return Ok(false),
            Step::Kick => {
                let text = "too many messages for too long";
                session.say(&fault(ErrorCode::TooManyMessages, text, true));
                return Err(close_of(Close::TooManyMessages));
            }
        }
        Ok(true)
    }

    /// Pays for a message; `Some` says how long to wait instead.
    async fn pay(&self, session: &Session, message: &ClientMessage) -> Option<Duration> {
        let is_greeting = matches!(message, ClientMessage::Request(Request::Hello { .. }));
        if is_greeting && session.player.is_none() {
            // It is an arrival, and paid once it is known whose.
            return None;
        }
        let room = match (session.place, message) {
            (Place::Seated(room), ClientMessage::Action(_)) => Some(room),
            (Place::Seated(_) | Place::Watching(_) | Place::Lobby, _) => None,
        };
        self.charge(session, message.name(), action_of(message), room).await
    }

    async fn charge(
        &self,
        session: &Session,
        message: &str,
        action: Action,
        room: Option<RoomCode>,
    ) -> Option<Duration> {
        let phase = room.map(|room| self.phase_of(room));
        let player = session.player.map(|player| player.to_string());
        let room = room.map(|room| room.to_string());
        let facts = Facts {
            address: session.connection.facts().address(),
            connection: "",
            player: player.as_deref(),
            room: room.as_deref(),
            tier: "",
            message,
        };
        self.limits.pay(&facts, action, phase).await
    }

    /// Returns the phase of a room as the server knows it.
    fn phase_of(&self, room: RoomCode) -> Phase {
        match self.registry.in_memory(room).and_then(|handle| handle.phase()) {
            None => Phase::Lobby,
            Some(domain::Phase::Preparation) => Phase::Preparation,
            Some(domain::Phase::Declaration) => Phase::Declaration,
            Some(domain::Phase::Turn) => Phase::Turn,
            Some(domain::Phase::Scoring) => Phase::Scoring,
        }
    }

    /// Counts a connection for its player.
    pub(super) async fn arrive(
        &self,
        session: &Session,
        player: domain::PlayerId,
    ) -> Result<Option<Counted>, Refused> {
        let address = session.connection.facts().address();
        self.limits.arrive(address, &player.to_string()).await.map_err(throttled)
    }

    /// Counts a spectator of a room.
    pub(super) async fn count_spectator(&self, room: RoomCode) -> Result<Option<Counted>, Refused> {
        let counted = self.limits.watch(&room.to_string()).await;
        counted.map_err(|_| refused(Setback::Overloaded))
    }
}

impl Session {
    /// Tells the client that it is near its limit, once until it has slowed down.
    fn warn(&mut self) {
        if !self.is_warned {
            self.is_warned = true;
            self.say(&ServerMessage::SlowDown {});
        }
    }
}

/// Refuses until the time that a limit names, rounded up.
fn throttled(pause: Duration) -> Refused {
    THROTTLED.add(1);
    let millis = pause.as_nanos().div_ceil(1_000_000);
    let millis = u32::try_from(millis).unwrap_or(u32::MAX);
    Refused::new("", Setback::RateLimited).retry_after_ms(millis)
}
