//! The task of a client of rooms: it connects, comes back, and tells what it hears.

use std::{
    collections::HashMap,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use infra_core::{Clock, Error, ErrorKind, Result, SystemClock, clock::Instant, random::Random};
use tokio::{
    sync::{
        mpsc::{self, error::TrySendError},
        oneshot,
    },
    time::Sleep,
};

use super::{
    followed::{Followed, Took},
    heard::Heard,
    options::RoomsOptions,
    socket::{Client, Received},
};
use crate::{
    app::Inbound,
    close::Close,
    history::Place,
    sync::Update,
    wire::{self, ClientMessage, Code, Codec, Event, Part, ServerMessage},
};

pub(super) const ASK: &str = "ask room server";

/// How long the server may take to read one message before the connection counts as lost, at most.
const SAY: Duration = Duration::from_mins(1);

/// From how many questions on those are looked for that nobody waits for any more.
const SWEEP: usize = 64;

/// The closes that coming back would not change: the client itself is at fault.
const FAULTS: [u16; 10] = [1000, 1002, 1003, 1007, 1008, 1009, 4003, 4010, 4011, 4012];

type Answer = oneshot::Sender<Result<ServerMessage>>;

/// What the task is told to do.
pub(super) enum Command {
    Join { room: String, seat: Option<u32>, from: Option<Place> },
    Follow { room: String },
    Ask { question: Question, answer: Answer },
}

/// A question without its number.
pub(super) type Question = Box<dyn FnOnce(u64) -> ClientMessage + Send>;

/// Who waits for an answer.
enum Asked {
    Caller(Answer),
    /// The client itself, which enters a room; by a token or not.
    Entering {
        room: String,
        by_token: bool,
        since: Instant,
    },
}

/// Why a connection is over.
enum Over {
    /// It broke, or was given up.
    Lost,
    /// The server knows the client, but cannot let it into a room now.
    Unavailable,
    /// Nobody wants it any more.
    Done,
    /// The server closed it for good.
    Closed(Close),
}

/// The task.
pub(super) struct Work {
    options: RoomsOptions,
    random: Random,
    orders: mpsc::Receiver<Command>,
    hears: mpsc::Sender<Heard>,
    rooms: HashMap<String, Followed>,
    asked: HashMap<u64, Asked>,
    /// At how many questions those are looked for that nobody waits for any more.
    sweep_at: usize,
    /// Until then the application took its time, and nothing was read.
    read_since: Instant,
    clock: Arc<dyn Clock>,
    last_id: u64,
    come_back_in: Option<Duration>,
}

impl Work {
    pub(super) fn new(
        options: RoomsOptions,
        orders: mpsc::Receiver<Command>,
        hears: mpsc::Sender<Heard>,
    ) -> Self {
        let clock = SystemClock::shared();
        let random = options.seed.map_or_else(Random::from_system, Random::seeded);
        Self {
            options,
            random,
            orders,
            hears,
            rooms: HashMap::new(),
            asked: HashMap::new(),
            sweep_at: SWEEP,
            read_since: clock.now(),
            clock,
            last_id: 0,
            come_back_in: None,
        }
    }

    pub(super) async fn run(mut self) {
        let (mut failures, mut pause) = (0, Duration::ZERO);
        loop {
            let mut was_known = false;
            let over = self.connection(&mut was_known).await;
            self.down();
            failures = match over {
                Over::Done => return,
                Over::Closed(close) => {
                    let _heard = self.hears.send(Heard::Stopped(close)).await.is_ok();
                    return;
                }
                Over::Lost if was_known => 1,
                Over::Lost | Over::Unavailable => failures + 1,
            };
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
        if let Err(over) = self.say(&mut client, &ClientMessage::Connect { token }).await {
            return over;
        }
        // One timer for the whole connection: what is asked is no sign of life of the server.
        let mut silence = pin!(tokio::time::sleep(self.options.patience));
        // And one for what the client itself waits for: whatever else is said is no answer to it.
        let mut answer = pin!(tokio::time::sleep(self.options.patience));
        loop {
            let timers = (silence.as_mut(), answer.as_mut());
            if let Err(over) = self.turn(&mut client, timers, was_known).await {
                return over;
            }
        }
    }

    /// Takes one message or order.
    async fn turn(
        &mut self,
        client: &mut Client,
        (mut silence, mut answer): (Pin<&mut Sleep>, Pin<&mut Sleep>),
        was_known: &mut bool,
    ) -> Result<(), Over> {
        let patience = self.options.patience;
        let heard = async {
            tokio::select! {
                // What has come is taken, however late.
                biased;
                received = client.receive_until(patience, silence.as_mut()) => Some(received),
                () = answer.as_mut() => None,
            }
        };
        tokio::select! {
            heard = heard => {
                let Some(received) = heard else {
                    answer.set(tokio::time::sleep(self.next_look(*was_known)?));
                    return Ok(());
                };
                let received = received.map_err(|_| Over::Lost)?;
                self.receive(client, received, was_known).await?;
                // Nothing was read while the application took its time.
                silence.set(tokio::time::sleep(patience));
                Ok(())
            }
            // Before the server knows who it is nothing can be asked.
            order = self.orders.recv(), if *was_known => match order {
                Some(order) => self.obey(client, order).await,
                None => Err(Over::Done),
            },
        }
    }

    /// Returns after what time to look again for answers that the client itself waits for; an error
    /// if it has waited too long for one, or to be known at all.
    fn next_look(&self, was_known: bool) -> Result<Duration, Over> {
        if !was_known {
            return Err(Over::Lost);
        }
        let now = self.clock.now();
        let waited = self.asked.values().filter_map(|asked| match asked {
            Asked::Entering { since, .. } => Some(now.since((*since).max(self.read_since))),
            Asked::Caller(_) => None,
        });
        let left = self.options.patience.saturating_sub(waited.max().unwrap_or_default());
        if left.is_zero() { Err(Over::Lost) } else { Ok(left) }
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
                    Some(message) => self.say(client, &message).await,
                    None => Ok(()),
                }
            }
            Command::Ask { question, answer } => {
                self.sweep();
                self.last_id += 1;
                self.asked.insert(self.last_id, Asked::Caller(answer));
                let message = question(self.last_id);
                if let ClientMessage::Leave { room, .. } = &message {
                    self.rooms.remove(room);
                }
                self.say(client, &message).await
            }
        }
    }

    /// Forgets whoever gave up waiting, once there are twice as many as were left the last time.
    fn sweep(&mut self) {
        if self.asked.len() < self.sweep_at {
            return;
        }
        self.asked.retain(|_, asked| !matches!(asked, Asked::Caller(answer) if answer.is_closed()));
        self.sweep_at = (self.asked.len() * 2).max(SWEEP);
    }

    /// Enters by the newest token, or by name, and says what was seen.
    async fn enter(&mut self, client: &mut Client, room: String) -> Result<(), Over> {
        let Some(followed) = self.rooms.get_mut(&room) else { return Ok(()) };
        self.last_id += 1;
        let (message, by_token) = followed.enter(self.last_id, &room);
        let since = self.clock.now();
        self.asked.insert(self.last_id, Asked::Entering { room, by_token, since });
        self.say(client, &message).await
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
            Some(message) => self.say(client, &message).await,
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
            Err(_) => self.say(client, &ClientMessage::Sync { room, version: None }).await,
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
            Some(Asked::Entering { room, by_token: true, .. }) => {
                // The token is spent or too old; the name is good as long as the identification.
                if let Some(followed) = self.rooms.get_mut(&room) {
                    followed.token = None;
                }
                self.enter(client, room).await
            }
            Some(Asked::Entering { .. }) if code == Code::Unavailable => Err(Over::Unavailable),
            Some(Asked::Entering { room, .. }) => {
                self.rooms.remove(&room);
                self.tell(Heard::Refused { room, code }).await
            }
            None => Ok(()),
        }
    }

    async fn tell(&mut self, heard: Heard) -> Result<(), Over> {
        let heard = match self.hears.try_send(heard) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Full(heard)) => heard,
            Err(TrySendError::Closed(_)) => return Err(Over::Done),
        };
        let told = self.hears.send(heard).await.map_err(|_| Over::Done);
        self.read_since = self.clock.now();
        told
    }

    async fn say(&self, client: &mut Client, message: &ClientMessage) -> Result<(), Over> {
        let text = serde_json::to_string(message).unwrap_or_default();
        let patience = SAY.min(self.options.patience);
        match tokio::time::timeout(patience, client.send(text)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Over::Lost),
        }
    }
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
