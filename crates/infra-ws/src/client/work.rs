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
    followed::Followed,
    heard::Heard,
    options::RoomsOptions,
    pauses::{Obstacle, Pauses},
    socket::Client,
};
use crate::{
    close::Close,
    history::Place,
    wire::{self, ClientMessage, ServerMessage},
};

pub(super) const ASK: &str = "ask room server";

/// How long the server may take to read one message before the connection counts as lost, at most.
const SAY: Duration = Duration::from_mins(1);

/// From how many questions on those are looked for that nobody waits for any more.
const SWEEP: usize = 64;

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
pub(super) enum Asked {
    Caller(Answer),
    /// The client itself, which enters a room; by a token or not.
    Entering {
        room: String,
        by_token: bool,
        since: Instant,
    },
}

/// Why a connection is over.
pub(super) enum Over {
    /// Nobody was there, or is any more: the server restarts, or the connection was cut.
    Away,
    /// It was given up, or closed for a while.
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
    pub(super) rooms: HashMap<String, Followed>,
    pub(super) asked: HashMap<u64, Asked>,
    /// At how many questions those are looked for that nobody waits for any more.
    sweep_at: usize,
    /// Until then the application took its time, and nothing was read.
    read_since: Instant,
    clock: Arc<dyn Clock>,
    last_id: u64,
    pub(super) come_back_in: Option<Duration>,
    /// How long a refused handshake has told all clients to wait.
    not_before: Option<Duration>,
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
            not_before: None,
        }
    }

    pub(super) async fn run(mut self) {
        let begun = self.clock.now();
        let mut pauses = Pauses::new(self.options.backoff, self.options.search, begun);
        loop {
            let mut was_known = false;
            let over = self.connection(&mut was_known).await;
            self.down();
            let obstacle = match over {
                Over::Done => return,
                Over::Closed(close) => {
                    let _heard = self.hears.send(Heard::Stopped(close)).await.is_ok();
                    return;
                }
                Over::Away => Obstacle::Away,
                Over::Lost | Over::Unavailable => Obstacle::Busy,
            };
            let now = self.clock.now();
            if was_known && !matches!(over, Over::Unavailable) {
                pauses.begin(now);
            }
            let pause = match (self.come_back_in.take(), self.not_before.take()) {
                (Some(named), _) => named,
                (None, Some(named)) => pauses.after(named, &self.random),
                (None, None) => pauses.next(obstacle, now, &self.random),
            };
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
        let mut client = match connected {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => return self.turned_away(&error),
            Err(_) => return Over::Lost,
        };
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

    /// Takes note of when to try again, if the server said so.
    #[expect(clippy::wildcard_enum_match_arm, reason = "all others are one to a client")]
    fn turned_away(&mut self, error: &Error) -> Over {
        match error.kind() {
            ErrorKind::Unavailable => Over::Away,
            ErrorKind::Throttled { retry_after } => {
                self.not_before = Some(*retry_after);
                Over::Away
            }
            _ => Over::Lost,
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
    pub(super) async fn enter(&mut self, client: &mut Client, room: String) -> Result<(), Over> {
        let Some(followed) = self.rooms.get_mut(&room) else { return Ok(()) };
        self.last_id += 1;
        let (message, by_token) = followed.enter(self.last_id, &room);
        let since = self.clock.now();
        self.asked.insert(self.last_id, Asked::Entering { room, by_token, since });
        self.say(client, &message).await
    }

    pub(super) async fn tell(&mut self, heard: Heard) -> Result<(), Over> {
        let heard = match self.hears.try_send(heard) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Full(heard)) => heard,
            Err(TrySendError::Closed(_)) => return Err(Over::Done),
        };
        let told = self.hears.send(heard).await.map_err(|_| Over::Done);
        self.read_since = self.clock.now();
        told
    }

    pub(super) async fn say(
        &self,
        client: &mut Client,
        message: &ClientMessage,
    ) -> Result<(), Over> {
        let text = serde_json::to_string(message).unwrap_or_default();
        let patience = SAY.min(self.options.patience);
        match tokio::time::timeout(patience, client.send(text)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Over::Away),
            Err(_) => Err(Over::Lost),
        }
    }
}
