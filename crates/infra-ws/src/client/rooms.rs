//! A client of the protocol of rooms that stays connected.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use infra_core::{Error, ErrorKind, Result, backoff::Backoff, random::Random};
use serde_json::Value;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use super::{
    followed::{Followed, Took},
    socket::{Client, Received},
};
use crate::{
    app::Inbound,
    close::Close,
    history::Place,
    sync::Update,
    wire::{self, ClientMessage, Code, Codec, Event, Part, Present, Recovered, ServerMessage},
};

/// How many things are heard before the application has to listen; beyond it nothing more is read.
const INBOX: usize = 1_024;

/// The closes that coming back would not change: the client itself is at fault.
const FAULTS: [u16; 10] = [1000, 1002, 1003, 1007, 1008, 1009, 4003, 4010, 4011, 4012];

/// What a client of rooms hears.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Heard {
    /// It is connected, as this user.
    Connected(String),
    /// The connection broke; it comes back after this pause.
    Waiting(Duration),
    /// It was closed for good.
    Stopped(Close),
    /// It entered a room, or came back to it. If it was recovered nothing is missing; else the events
    /// begin anew behind `from`, and the state, if the room has one, is whole.
    Joined {
        /// The room.
        room: String,
        /// The place behind which the events begin that follow.
        from: Place,
        /// What became of what it missed.
        recovered: Recovered,
        /// The whole state at `from`, unless it was recovered.
        state: Option<Value>,
        /// Its seat; none for a spectator.
        seat: Option<u32>,
        /// Who is there.
        present: Vec<Present>,
    },
    /// An event of a room; each comes once, in order.
    Event {
        /// The room.
        room: String,
        /// Where.
        place: Place,
        /// What.
        data: Value,
    },
    /// Something that was said in passing.
    Message {
        /// The room, if it was said to one.
        room: Option<String>,
        /// What.
        data: Value,
    },
    /// Who came to and left a room.
    Presence {
        /// The room.
        room: String,
        /// Who came.
        joined: Vec<Present>,
        /// Who left for good.
        left: Vec<String>,
    },
    /// A part of a room's state, as it is now.
    State {
        /// The room.
        room: String,
        /// Which part.
        part: Part,
        /// The state.
        state: Value,
    },
    /// A room did not let it in; it does not try again.
    Refused {
        /// The room.
        room: String,
        /// Why.
        code: Code,
    },
}

type Token = Arc<dyn Fn() -> String + Send + Sync>;
type Answer = oneshot::Sender<Result<ServerMessage>>;

/// How a client of rooms connects.
#[derive(Clone)]
pub struct RoomsOptions {
    url: String,
    token: Token,
    backoff: Backoff,
    seed: Option<u64>,
    patience: Duration,
}

impl fmt::Debug for RoomsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoomsOptions").field("url", &self.url).finish_non_exhaustive()
    }
}

impl RoomsOptions {
    /// Creates the options of a client that connects to `url` (`ws://host:port/path`) and identifies
    /// itself by what `token` returns at each connection.
    pub fn new(url: impl Into<String>, token: impl Fn() -> String + Send + Sync + 'static) -> Self {
        let backoff = Backoff::exponential(Duration::from_millis(500));
        Self {
            url: url.into(),
            token: Arc::new(token),
            backoff: backoff.capped_at(Duration::from_secs(10)),
            seed: None,
            patience: Duration::from_mins(1),
        }
    }

    /// Sets the pauses before it connects again; from 500 ms doubling to 10 s, with full jitter, by
    /// default.
    #[must_use]
    pub const fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets the seed of the jitter; drawn from the system by default.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Sets after how long without a word, also of a ping, the connection counts as lost; a minute
    /// by default. It should be more than two of the server's heartbeats.
    #[must_use]
    pub const fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }
}

enum Command {
    Join { room: String, seat: Option<u32>, from: Option<Place> },
    Follow { room: String },
    Ask { question: Question, answer: Answer },
}

/// A question without its number.
type Question = Box<dyn FnOnce(u64) -> ClientMessage + Send>;

/// A client of rooms. It stays connected, and in its rooms, until it is dropped.
///
/// ```no_run
/// use infra_ws::client::{Heard, Rooms, RoomsOptions};
///
/// # async fn run() -> infra_core::Result<()> {
/// let mut rooms = Rooms::start(RoomsOptions::new("ws://127.0.0.1:9000/", || "ann".to_owned()));
/// rooms.join("lobby", None, None).await?;
/// while let Some(heard) = rooms.next().await {
///     if let Heard::Event { place, data, .. } = heard {
///         println!("{}: {data}", place.offset);
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Rooms {
    commands: mpsc::Sender<Command>,
    heard: mpsc::Receiver<Heard>,
    task: JoinHandle<()>,
}

impl Drop for Rooms {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Rooms {
    /// Starts a client as a task of the current runtime.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn start(options: RoomsOptions) -> Self {
        let (commands, orders) = mpsc::channel(64);
        let (sender, heard) = mpsc::channel(INBOX);
        let random = options.seed.map_or_else(Random::from_system, Random::seeded);
        let work = Work {
            options,
            random,
            orders,
            hears: sender,
            rooms: HashMap::new(),
            asked: HashMap::new(),
            last_id: 0,
            come_back_in: None,
        };
        Self { commands, heard, task: tokio::spawn(work.run()) }
    }

    /// Returns the next thing that is heard; `None` once the client was stopped for good.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Heard> {
        self.heard.recv().await
    }

    /// Enters a room, and enters it again after each break; `from` is what was seen of it before,
    /// such as before a restart of this process.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Closed`] if the client was stopped for good.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future enters or does not.
    pub async fn join(
        &self,
        room: impl Into<String>,
        seat: Option<u32>,
        from: Option<Place>,
    ) -> Result<()> {
        self.order(Command::Join { room: room.into(), seat, from }).await
    }

    /// Follows the state of a room, from now on and after each break.
    ///
    /// # Errors
    ///
    /// As for [`join`](Self::join).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future follows or does not.
    pub async fn follow(&self, room: impl Into<String>) -> Result<()> {
        self.order(Command::Follow { room: room.into() }).await
    }

    /// Says something to a room; returns its place, if it is an event.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Denied`] with the code as its detail, or one that says the same;
    /// [`ErrorKind::Indeterminate`] if the connection broke before the answer.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves it said or not.
    pub async fn publish(&self, room: impl Into<String>, data: Value) -> Result<Option<Place>> {
        let room = room.into();
        let publish = |id| ClientMessage::Publish { id, room, data, trace: None };
        let answer = self.ask(Box::new(publish)).await?;
        let ServerMessage::Ack { place, .. } = answer else { return Err(odd(&answer)) };
        Ok(place)
    }

    /// Asks the application something.
    ///
    /// # Errors
    ///
    /// As for [`publish`](Self::publish).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves it asked or not.
    pub async fn request(
        &self,
        room: Option<String>,
        method: impl Into<String>,
        data: Value,
    ) -> Result<Value> {
        let method = method.into();
        let request = |id| ClientMessage::Request { id, room, method, data, trace: None };
        let answer = self.ask(Box::new(request)).await?;
        let ServerMessage::Reply { data, .. } = answer else { return Err(odd(&answer)) };
        Ok(data)
    }

    /// Leaves a room for good.
    ///
    /// # Errors
    ///
    /// As for [`publish`](Self::publish).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves or does not.
    pub async fn leave(&self, room: impl Into<String>) -> Result<()> {
        let room = room.into();
        self.ask(Box::new(|id| ClientMessage::Leave { id, room })).await.map(drop)
    }

    async fn ask(&self, question: Question) -> Result<ServerMessage> {
        let (answer, answered) = oneshot::channel();
        self.order(Command::Ask { question, answer }).await?;
        answered.await.unwrap_or_else(|_| Err(Error::new(ErrorKind::Closed, ASK)))
    }

    async fn order(&self, command: Command) -> Result<()> {
        let sent = self.commands.send(command).await;
        sent.map_err(|_| Error::new(ErrorKind::Closed, "ask client of rooms"))
    }
}

const ASK: &str = "ask room server";

fn odd(answer: &ServerMessage) -> Error {
    Error::new(ErrorKind::Internal, ASK).detail(format!("{answer:?} answers something else"))
}

/// Who waits for an answer.
enum Asked {
    Caller(Answer),
    /// The client itself, which enters a room; by a token or not.
    Entering {
        room: String,
        by_token: bool,
    },
}

/// Why a connection is over.
enum Over {
    /// It broke, or was given up.
    Lost,
    /// Nobody wants it any more.
    Done,
    /// The server closed it for good.
    Closed(Close),
}

/// The task.
struct Work {
    options: RoomsOptions,
    random: Random,
    orders: mpsc::Receiver<Command>,
    hears: mpsc::Sender<Heard>,
    rooms: HashMap<String, Followed>,
    asked: HashMap<u64, Asked>,
    last_id: u64,
    come_back_in: Option<Duration>,
}

impl Work {
    async fn run(mut self) {
        let (mut failures, mut pause) = (0, Duration::ZERO);
        loop {
            let mut was_known = false;
            let over = self.connection(&mut was_known).await;
            self.down();
            match over {
                Over::Done => return,
                Over::Closed(close) => {
                    let _heard = self.hears.send(Heard::Stopped(close)).await.is_ok();
                    return;
                }
                Over::Lost => {}
            }
            failures = if was_known { 1 } else { failures + 1 };
            let scattered = self.options.backoff.pause(failures, pause, &self.random);
            pause = self.come_back_in.take().unwrap_or(scattered);
            if self.hears.send(Heard::Waiting(pause)).await.is_err() {
                return;
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Connects once, and works until that is over.
    async fn connection(&mut self, was_known: &mut bool) -> Over {
        let protocol = [("sec-websocket-protocol", wire::JSON)];
        let connecting = Client::connect(&self.options.url, &protocol);
        let connected = tokio::time::timeout(self.options.patience, connecting).await;
        let Ok(Ok(mut client)) = connected else { return Over::Lost };
        let token = Some((self.options.token)());
        if say(&mut client, &ClientMessage::Connect { token }).await.is_err() {
            return Over::Lost;
        }
        loop {
            let worked = tokio::select! {
                received = client.receive_while_alive(self.options.patience) => match received {
                    Ok(received) => self.receive(&mut client, received, was_known).await,
                    Err(_) => Err(Over::Lost),
                },
                // Before the server knows who it is nothing can be asked.
                order = self.orders.recv(), if *was_known => match order {
                    Some(order) => self.obey(&mut client, order).await,
                    None => Err(Over::Done),
                },
            };
            if let Err(over) = worked {
                return over;
            }
        }
    }

    /// Forgets what belonged to a connection.
    fn down(&mut self) {
        self.rooms.values_mut().for_each(Followed::break_off);
        for asked in std::mem::take(&mut self.asked).into_values() {
            if let Asked::Caller(answer) = asked {
                // Whoever gave up waiting does not mind.
                let _told = answer.send(Err(Error::new(ErrorKind::Indeterminate, ASK))).is_ok();
            }
        }
    }

    async fn obey(&mut self, client: &mut Client, order: Command) -> Result<(), Over> {
        match order {
            Command::Join { room, seat, from } => {
                if !self.rooms.contains_key(&room) {
                    self.rooms.insert(room.clone(), Followed::new(seat, from));
                    self.enter(client, room).await?;
                }
                Ok(())
            }
            Command::Follow { room } => {
                let Some(followed) = self.rooms.get_mut(&room) else { return Ok(()) };
                followed.is_synced = true;
                match followed.sync(&room) {
                    Some(message) => say(client, &message).await,
                    None => Ok(()),
                }
            }
            Command::Ask { question, answer } => {
                self.last_id += 1;
                self.asked.insert(self.last_id, Asked::Caller(answer));
                let message = question(self.last_id);
                if let ClientMessage::Leave { room, .. } = &message {
                    self.rooms.remove(room);
                }
                say(client, &message).await
            }
        }
    }

    /// Enters by the newest token, or by name, and says what was seen.
    async fn enter(&mut self, client: &mut Client, room: String) -> Result<(), Over> {
        let Some(followed) = self.rooms.get_mut(&room) else { return Ok(()) };
        self.last_id += 1;
        let (message, by_token) = followed.enter(self.last_id, &room);
        self.asked.insert(self.last_id, Asked::Entering { room, by_token });
        say(client, &message).await
    }

    async fn receive(
        &mut self,
        client: &mut Client,
        received: Received,
        was_known: &mut bool,
    ) -> Result<(), Over> {
        let message = match received {
            Received::Text(text) => Inbound::Text(text.into()),
            Received::Binary(bytes) => Inbound::Binary(bytes),
            Received::Closed(Some(close)) if FAULTS.contains(&close.code) => {
                return Err(Over::Closed(close));
            }
            Received::Closed(_) => return Err(Over::Lost),
        };
        // A server of a later version may say what is not known here.
        let Ok(message) = Codec::Json.decode::<ServerMessage>(&message) else { return Ok(()) };
        match message {
            ServerMessage::Connected { user, .. } => {
                *was_known = true;
                self.known(client, user).await
            }
            ServerMessage::Joined {
                id,
                room,
                seat,
                from,
                recovered,
                state,
                present,
                token,
                ..
            } => {
                self.asked.remove(&id);
                let told = Heard::Joined { room, from, recovered, state, seat, present };
                self.joined(client, told, token).await
            }
            ServerMessage::Events { room, epoch, events } => {
                self.events(client, room, &epoch, events).await
            }
            ServerMessage::Position { room, place } => {
                let took = self.rooms.get_mut(&room).map(|followed| followed.position(&place));
                self.after(client, room, took).await
            }
            ServerMessage::Lost { room, .. } => {
                let took = self.rooms.get_mut(&room).map(Followed::lost);
                self.after(client, room, took).await
            }
            ServerMessage::State { room, part, update } => {
                self.updated(client, (room, part), update).await
            }
            ServerMessage::Error { id, code, message, retry_after_ms } => {
                self.refused(client, id, (code, message, retry_after_ms)).await
            }
            other @ (ServerMessage::Refreshed { .. }
            | ServerMessage::Message { .. }
            | ServerMessage::Ack { .. }
            | ServerMessage::Reply { .. }
            | ServerMessage::Presence { .. }
            | ServerMessage::Token { .. }
            | ServerMessage::Goodbye { .. }
            | ServerMessage::Pong) => self.take(other).await,
        }
    }

    /// Takes what needs no answer.
    async fn take(&mut self, message: ServerMessage) -> Result<(), Over> {
        match message {
            ServerMessage::Token { room, token } => {
                if let Some(followed) = self.rooms.get_mut(&room) {
                    followed.token = Some(token);
                }
                Ok(())
            }
            ServerMessage::Message { room, data } => self.tell(Heard::Message { room, data }).await,
            ServerMessage::Presence { room, joined, left } => {
                self.tell(Heard::Presence { room, joined, left }).await
            }
            ServerMessage::Goodbye { retry_after_ms } => {
                self.come_back_in = Some(Duration::from_millis(retry_after_ms));
                Ok(())
            }
            ServerMessage::Ack { id, .. }
            | ServerMessage::Reply { id, .. }
            | ServerMessage::Refreshed { id, .. } => {
                if let Some(Asked::Caller(answer)) = self.asked.remove(&id) {
                    // Whoever gave up waiting does not mind.
                    let _told = answer.send(Ok(message)).is_ok();
                }
                Ok(())
            }
            ServerMessage::Pong
            | ServerMessage::Connected { .. }
            | ServerMessage::Joined { .. }
            | ServerMessage::Events { .. }
            | ServerMessage::Position { .. }
            | ServerMessage::Lost { .. }
            | ServerMessage::State { .. }
            | ServerMessage::Error { .. } => Ok(()),
        }
    }

    /// The server knows who this is: the rooms are entered.
    async fn known(&mut self, client: &mut Client, user: String) -> Result<(), Over> {
        self.tell(Heard::Connected(user)).await?;
        for room in self.rooms.keys().cloned().collect::<Vec<_>>() {
            self.enter(client, room).await?;
        }
        Ok(())
    }

    async fn joined(
        &mut self,
        client: &mut Client,
        told: Heard,
        token: String,
    ) -> Result<(), Over> {
        let Heard::Joined { room, from, .. } = &told else { return Ok(()) };
        let Some(followed) = self.rooms.get_mut(room) else { return Ok(()) };
        followed.joined(from.clone(), token);
        let sync = followed.sync(room);
        self.tell(told).await?;
        match sync {
            Some(message) => say(client, &message).await,
            None => Ok(()),
        }
    }

    async fn events(
        &mut self,
        client: &mut Client,
        room: String,
        epoch: &str,
        events: Vec<Event>,
    ) -> Result<(), Over> {
        for event in events {
            let Some(followed) = self.rooms.get_mut(&room) else { return Ok(()) };
            let place = Place { epoch: epoch.to_owned(), offset: event.offset };
            match followed.event(&place) {
                Took::New => {
                    let (room, data) = (room.clone(), event.data);
                    self.tell(Heard::Event { room, place, data }).await?;
                }
                Took::Nothing => {}
                Took::Missing => return self.enter(client, room).await,
            }
        }
        Ok(())
    }

    async fn updated(
        &mut self,
        client: &mut Client,
        (room, part): (String, Part),
        update: Update,
    ) -> Result<(), Over> {
        let Some(followed) = self.rooms.get_mut(&room) else { return Ok(()) };
        match followed.state(part, update) {
            Ok(Some(state)) => self.tell(Heard::State { room, part, state }).await,
            Ok(None) => Ok(()),
            Err(_) => say(client, &ClientMessage::Sync { room, version: None }).await,
        }
    }

    /// Enters a room again if something is missing.
    async fn after(
        &mut self,
        client: &mut Client,
        room: String,
        took: Option<Took>,
    ) -> Result<(), Over> {
        match took {
            Some(Took::Missing) => self.enter(client, room).await,
            Some(Took::New | Took::Nothing) | None => Ok(()),
        }
    }

    async fn refused(
        &mut self,
        client: &mut Client,
        id: Option<u64>,
        (code, message, retry_after_ms): (Code, String, Option<u64>),
    ) -> Result<(), Over> {
        match id.and_then(|id| self.asked.remove(&id)) {
            Some(Asked::Caller(answer)) => {
                let error = error(code, message, retry_after_ms);
                let _told = answer.send(Err(error)).is_ok();
                Ok(())
            }
            Some(Asked::Entering { room, by_token: true }) => {
                // The token is spent or too old; the name is good as long as the identification.
                if let Some(followed) = self.rooms.get_mut(&room) {
                    followed.token = None;
                }
                self.enter(client, room).await
            }
            Some(Asked::Entering { .. }) if code == Code::Unavailable => Err(Over::Lost),
            Some(Asked::Entering { room, .. }) => {
                self.rooms.remove(&room);
                self.tell(Heard::Refused { room, code }).await
            }
            None => Ok(()),
        }
    }

    async fn tell(&self, heard: Heard) -> Result<(), Over> {
        self.hears.send(heard).await.map_err(|_| Over::Done)
    }
}

async fn say(client: &mut Client, message: &ClientMessage) -> Result<(), Over> {
    let text = serde_json::to_string(message).unwrap_or_default();
    client.send(text).await.map_err(|_| Over::Lost)
}

/// Says in our errors what the server refused.
fn error(code: Code, message: String, retry_after_ms: Option<u64>) -> Error {
    let kind = match code {
        Code::InvalidMessage => ErrorKind::Invalid,
        Code::Unauthenticated | Code::Denied | Code::BadToken | Code::Locked | Code::NoSeat => {
            ErrorKind::Denied
        }
        Code::NotInRoom | Code::NotFound => ErrorKind::NotFound,
        Code::TooMany => ErrorKind::Overloaded,
        Code::RateLimited => {
            let retry_after = Duration::from_millis(retry_after_ms.unwrap_or_default());
            ErrorKind::Throttled { retry_after }
        }
        Code::Unavailable => ErrorKind::Unavailable,
    };
    Error::new(kind, ASK).detail(message)
}
