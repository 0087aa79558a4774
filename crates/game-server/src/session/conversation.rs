//! The conversation with one connection, from `hello` to its end.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use infra_core::{
    Clock, context::Context, id::CorrelationId, lifecycle::Stop, random::Random,
    trace::TraceContext,
};
use infra_observability::trace;
use infra_ratelimit::{Rung, game::Counted};
use infra_ws::{App, Class, Close as WsClose, Connection, ConnectionId, Inbound};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tracing::Span;
use uuid::Uuid;

use super::{
    allowance,
    answers::{STORAGE_PAUSE, fault, refuse_token, refused, setback},
    lobby::Lobby,
    malformed::Malformed,
};
use crate::{
    credentials::Credentials,
    domain::{PlayerId, Refusal, Settings},
    limits::Limits,
    protocol::{
        self, ClientMessage, Close, Code, ErrorCode, NotResumedReason, Numbered, PROTOCOL, Refused,
        Request, Resume, RoomCode, ServerMessage, Setback, Token, TokenText, Welcome, decode,
    },
    rooms::{Enter, Mail, Purpose, Registry, close_of, entropy, frame_of},
    telemetry::{MALFORMED, RESUMED},
};

/// The name and version that a client is told.
const SERVER: &str = concat!("game-server ", env!("CARGO_PKG_VERSION"));

/// Within what time players come back once a server that restarts is there again.
const RETURN: Duration = Duration::from_secs(1);

/// The game as an application of the hub.
#[derive(Debug)]
pub struct Game {
    pub(super) registry: Arc<Registry>,
    pub(super) credentials: Credentials,
    pub(super) limits: Limits,
    pub(super) clock: Arc<dyn Clock>,
    random: Random,
    pub(super) lobby: Lobby,
    pub(super) settings: Settings,
    heartbeat: Duration,
    resume_events: u32,
    /// The newest token of each connection, for its last words.
    pub(super) tokens: Mutex<HashMap<ConnectionId, Token>>,
}

/// Where a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Lobby,
    Seated(RoomCode),
    Watching(RoomCode),
}

/// What the game keeps for one connection.
#[derive(Debug)]
pub struct Session {
    pub(super) connection: Connection,
    correlation: CorrelationId,
    /// The trace of the handshake, which the spans of messages are linked to.
    handshake: Option<TraceContext>,
    pub(super) player: Option<PlayerId>,
    pub(super) place: Place,
    malformed: Malformed,
    pub(super) ladder: Option<Rung>,
    pub(super) is_warned: bool,
    /// What is counted while it lasts: the connection, and its place among the spectators.
    arrived: Option<Counted>,
    pub(super) watching: Option<Counted>,
}

impl Game {
    /// Creates the game over its rooms.
    pub fn new(
        registry: Arc<Registry>,
        credentials: Credentials,
        limits: Limits,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            lobby: Lobby::new(Arc::clone(&registry)),
            registry,
            credentials,
            limits,
            clock,
            random: Random::from_system(),
            settings: Settings::default(),
            heartbeat: Duration::from_secs(15),
            resume_events: 500,
            tokens: Mutex::default(),
        }
    }

    /// Sets the times of rooms whose host names none.
    #[must_use]
    pub const fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Sets what clients are told of the heartbeat and of how many events are sent again.
    #[must_use]
    pub const fn told(mut self, heartbeat: Duration, resume_events: u32) -> Self {
        self.heartbeat = heartbeat;
        self.resume_events = resume_events;
        self
    }

    /// Returns whose a resume token is, or `None` if it is forged, too old or replaced.
    ///
    /// # Errors
    ///
    /// What the document store fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn player_of(&self, token: &TokenText) -> infra_core::Result<Option<PlayerId>> {
        let Ok(bearer) = self.credentials.verify(token) else { return Ok(None) };
        Ok(self.credentials.is_current(bearer).await?.then_some(bearer.player))
    }

    /// Keeps the lobby's list current until the service stops.
    pub async fn run(&self, stop: Stop) {
        self.lobby.run(stop).await;
    }

    /// Tells a connection that the server is about to restart, and when to come back: at a moment of its
    /// own within the second after that for which nobody is there.
    pub fn last_words(&self, connection: &Connection, absence: Duration) {
        let token = self.tokens.lock().get(&connection.id()).cloned();
        let moment = absence.saturating_add(RETURN.mul_f64(self.random.unit()));
        let come_back_in_ms = u32::try_from(moment.as_millis()).unwrap_or(u32::MAX);
        let draining = ServerMessage::Draining { come_back_in_ms, token };
        connection.send(frame_of(&draining), Class::Durable);
    }

    async fn request(&self, session: &mut Session, request: Request) -> Result<(), WsClose> {
        let name = request.name();
        match (session.player, request) {
            (None, Request::Hello { resume }) => self.hello(session, resume).await,
            (Some(_), Request::Hello { .. }) => {
                let answer = fault(ErrorCode::UnexpectedHello, "say `hello` once", false);
                session.say(&answer);
                Ok(())
            }
            (None, _) => {
                session.say(&fault(ErrorCode::HelloExpected, "say `hello` first", true));
                Err(close_of(Close::BadFirstMessage))
            }
            (Some(player), request) => {
                if let Err(refused) = self.speak(session, player, request).await {
                    session.say(&ServerMessage::Refused(Refused {
                        request: name.to_owned(),
                        ..refused
                    }));
                }
                Ok(())
            }
        }
    }

    async fn speak(
        &self,
        session: &mut Session,
        player: PlayerId,
        request: Request,
    ) -> Result<(), Refused> {
        match request {
            // It was answered before.
            Request::Hello { .. } => Ok(()),
            Request::ListRooms {} => {
                self.lobby.enter(&session.connection);
                Ok(())
            }
            Request::CreateRoom { name, settings } => {
                self.leave_gone_room(session);
                session.check_in_lobby()?;
                let room = self.registry.free_code().await.map_err(|error| setback(&error))?;
                let settings = self.settings_of(settings)?;
                self.enter(session, player, room, Purpose::Create { name, settings }).await
            }
            Request::JoinRoom { room, name } => {
                self.leave_gone_room(session);
                session.check_in_lobby()?;
                self.enter(session, player, room, Purpose::Join { name }).await
            }
            Request::Spectate { room, from } => {
                self.leave_gone_room(session);
                session.check_in_lobby()?;
                self.enter(session, player, room, Purpose::Watch { from }).await
            }
            Request::Emoji { emoji } => {
                let Place::Seated(room) = session.place else {
                    return Err(refused(Refusal::NotInRoom));
                };
                if let Some(handle) = self.registry.in_memory(room) {
                    let _sent = handle.send(Mail::Emoji { player, emoji }).await.is_ok();
                }
                Ok(())
            }
            Request::Ping { nonce } => {
                session.say(&ServerMessage::Pong { nonce });
                Ok(())
            }
        }
    }

    async fn hello(&self, session: &mut Session, resume: Option<Resume>) -> Result<(), WsClose> {
        let bearer = match &resume {
            Some(resume) => Some(
                self.credentials
                    .verify(&resume.token)
                    .map_err(|error| refuse_token(session, error))?,
            ),
            None => None,
        };
        let player = bearer.map_or_else(
            || PlayerId::from_uuid(Uuid::from_bytes(uuid_bytes(&self.random))),
            |bearer| bearer.player,
        );
        // What an attempt that failed still holds is given back first: it is the same connection.
        session.arrived = None;
        match self.arrive(session, player).await {
            Ok(counted) => session.arrived = counted,
            Err(refused) => {
                let request = "hello".to_owned();
                session.say(&ServerMessage::Refused(Refused { request, ..refused }));
                return Ok(());
            }
        }
        let (Some(bearer), Some(resume)) = (bearer, resume) else {
            self.welcome(session, player);
            return Ok(());
        };
        let token = match self.credentials.rotate(bearer).await {
            Ok(Ok(token)) => token,
            Ok(Err(error)) => return Err(refuse_token(session, error)),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "token not rotated");
                let refused = Refused::new("hello", Setback::StorageUnavailable);
                session.say(&ServerMessage::Refused(refused.retry_after_ms(STORAGE_PAUSE)));
                return Ok(());
            }
        };
        RESUMED.add(1);
        self.welcome(session, bearer.player);
        let connection = session.connection.clone();
        let purpose = Purpose::Return { from: resume.from };
        let enter = Enter { connection, player: bearer.player, purpose, token: Some(token) };
        let entered = self.go(session, bearer.room, enter).await;
        if let Err(refused) = entered {
            match refused.code {
                Code::Game(Refusal::NotInRoom) => session.not_resumed(NotResumedReason::NotInRoom),
                Code::Game(_) => session.not_resumed(NotResumedReason::RoomGone),
                Code::Server(_) => session.say(&ServerMessage::Refused(Refused {
                    request: "hello".to_owned(),
                    ..refused
                })),
            }
        }
        Ok(())
    }

    fn welcome(&self, session: &mut Session, player: PlayerId) {
        session.player = Some(player);
        let heartbeat_ms = u32::try_from(self.heartbeat.as_millis()).unwrap_or(u32::MAX);
        session.say(&ServerMessage::Welcome(Welcome {
            player,
            protocol: PROTOCOL.to_owned(),
            server: SERVER.to_owned(),
            heartbeat_ms,
            limits: protocol::Limits::with_resume_events(self.resume_events),
            correlation: session.correlation.to_string(),
        }));
    }

    async fn act(&self, session: &mut Session, player: PlayerId, numbered: Numbered) {
        let Numbered { action, ask } = numbered;
        let request = ask.name();
        let refuse = |code: Code| {
            let refused = Refused::new(request, code).action(action);
            let is_temporary = matches!(code, Code::Server(setback) if setback.is_temporary());
            let refused =
                if is_temporary { refused.retry_after_ms(STORAGE_PAUSE) } else { refused };
            ServerMessage::Refused(refused)
        };
        let room = match session.place {
            Place::Seated(room) => room,
            Place::Watching(room) if request == "leave_room" => {
                self.stop_watching(session, room).await;
                return;
            }
            Place::Lobby | Place::Watching(_) => {
                session.say(&refuse(Refusal::NotInRoom.into()));
                return;
            }
        };
        let Ok(entropy) = entropy() else {
            session.say(&refuse(Setback::Overloaded.into()));
            return;
        };
        let (done, has_left) = oneshot::channel();
        let connection = session.connection.clone();
        let act = ask.into_act(entropy);
        let mail = Mail::Act { connection, player, action, request, act, done };
        if let Err(error) = self.registry.send(room, mail).await {
            session.say(&refuse(setback(&error).code));
            return;
        }
        // The next message waits for this answer, so answers come in the order of the questions.
        if has_left.await == Ok(true) {
            session.place = Place::Lobby;
            self.tokens.lock().remove(&session.connection.id());
        }
    }

    async fn understand(&self, session: &mut Session, text: &str) -> Result<(), WsClose> {
        let message = match decode(text.as_bytes()) {
            Ok(message) => message,
            Err(malformed) => {
                MALFORMED.add(1);
                self.charge_malformed(session).await?;
                let is_first = session.player.is_none();
                session.say(&malformed.answer(is_first));
                if is_first {
                    return Err(close_of(Close::BadFirstMessage));
                }
                if session.malformed.count(self.clock.now()) {
                    let text = "too many malformed messages";
                    session.say(&fault(ErrorCode::TooManyBadMessages, text, true));
                    return Err(close_of(Close::TooManyBadMessages));
                }
                return Ok(());
            }
        };
        if !self.admits(session, &message).await? {
            return Ok(());
        }
        match (message, session.player) {
            // In a box: requests are rare and large, actions are neither.
            (ClientMessage::Request(request), _) => Box::pin(self.request(session, request)).await,
            (ClientMessage::Action(numbered), Some(player)) => {
                self.act(session, player, numbered).await;
                Ok(())
            }
            (ClientMessage::Action(_), None) => {
                session.say(&fault(ErrorCode::HelloExpected, "say `hello` first", true));
                Err(close_of(Close::BadFirstMessage))
            }
        }
    }
}

impl Session {
    /// Begins the span of a message, with the room in which it is said.
    fn span(&self) -> Span {
        let span = match self.place {
            Place::Seated(room) | Place::Watching(room) => {
                tracing::info_span!("socket.message", otel.kind = "server", %room)
            }
            Place::Lobby => tracing::info_span!("socket.message", otel.kind = "server"),
        };
        if let Some(handshake) = self.handshake {
            trace::link(&span, handshake);
        }
        span
    }

    pub(super) fn say(&self, message: &ServerMessage) {
        self.connection.send(frame_of(message), Class::Durable);
    }

    fn not_resumed(&self, reason: NotResumedReason) {
        self.say(&ServerMessage::NotResumed { reason });
    }

    fn check_in_lobby(&self) -> Result<(), Refused> {
        match self.place {
            Place::Lobby => Ok(()),
            Place::Seated(_) | Place::Watching(_) => Err(refused(Setback::AlreadyInRoom)),
        }
    }
}

/// Draws a version 4 UUID; it names a player and is no secret.
fn uuid_bytes(random: &Random) -> [u8; 16] {
    let drawn = (u128::from(random.next_u64()) << 64) | u128::from(random.next_u64());
    uuid::Builder::from_random_bytes(drawn.to_be_bytes()).into_uuid().into_bytes()
}

#[async_trait]
impl App for Game {
    type Session = Session;

    async fn open(&self, connection: Connection) -> Result<Session, WsClose> {
        // That of the handshake's request, if it named one.
        let named = Context::current().correlation_id();
        let correlation =
            named.unwrap_or_else(|| CorrelationId::generate(self.clock.wall(), &self.random));
        // A socket lives for long: its span ends now, and each message has a trace of its own.
        let span = tracing::info_span!("socket.open", otel.kind = "server");
        let handshake = trace::context_of(&span);
        Ok(Session {
            connection,
            correlation,
            handshake,
            player: None,
            place: Place::Lobby,
            malformed: Malformed::default(),
            ladder: self.limits.ladder(),
            is_warned: false,
            arrived: None,
            watching: None,
        })
    }

    async fn message(&self, session: &mut Session, message: Inbound) -> Result<(), WsClose> {
        let Inbound::Text(text) = message else { return Err(close_of(Close::Binary)) };
        let context = allowance::of_message(self.clock.now()).correlation(session.correlation);
        let span = session.span();
        let understanding = trace::traced(span, self.understand(session, text.as_str()));
        context.scope(understanding).await
    }

    async fn closed(&self, session: Session) {
        let id = session.connection.id();
        self.tokens.lock().remove(&id);
        self.lobby.leave(id);
        if let Place::Seated(room) | Place::Watching(room) = session.place
            && let Some(handle) = self.registry.in_memory(room)
        {
            // A task that has ended has no audience either.
            let _sent = handle.send(Mail::Leave(id)).await.is_ok();
        }
    }
}
