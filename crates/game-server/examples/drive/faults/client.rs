//! A client that plays through faults: it acts by its schedule, comes back with its token, and sends
//! again what was not answered, always with the same number.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use infra_core::{ErrorKind, random::Random};
use infra_ws::client::{Client as Socket, Received};
use serde_json::{Value, json};
use tokio::{sync::watch, time::sleep_until};

use super::{
    pauses::Pauses,
    told::{Meter, Told},
};
use crate::player::{Failure, Known, Player, number, text};

/// How long an action may be without any answer before the connection is given up.
const PATIENCE: Duration = Duration::from_secs(20);

/// When a client acts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    /// Each action has its time, whatever became of the one before.
    Open {
        /// The time of the first one.
        first: Instant,
        /// How far apart they are.
        every: Duration,
    },
    /// Each move comes as soon as it may, but for this pause.
    Quick(Duration),
}

/// What all clients of a run share.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    /// Where the server is.
    pub(crate) addr: SocketAddr,
    /// After which moment nothing more is due; unknown at first.
    pub(crate) end: watch::Receiver<Option<Instant>>,
    /// Changes when all clients are to leave and come back.
    pub(crate) back: watch::Receiver<u64>,
    /// Where answers are counted.
    pub(crate) meter: Arc<Meter>,
    /// What pauses are drawn from.
    pub(crate) random: Arc<Random>,
}

/// An action that was not answered yet.
#[derive(Debug)]
struct Pending {
    number: u64,
    message: Value,
    due: Instant,
    /// When it is sent again after a refusal.
    again: Option<Instant>,
}

/// A client with its memory.
#[derive(Debug)]
pub(crate) struct Client {
    run: Run,
    pace: Pace,
    known: Known,
    /// The number of its last action.
    number: u64,
    pending: Option<Pending>,
    /// How many actions of its schedule it has taken up.
    taken_up: u32,
    answered: Instant,
    /// When it last heard anything, or began to wait.
    heard: Instant,
    told: Told,
}

/// How a conversation ended.
#[derive(Debug)]
enum End {
    Done,
    /// The connection is gone, or there was none.
    Gone(Back),
}

/// When to come back.
#[derive(Debug, Clone, Copy)]
enum Back {
    /// As the server has said.
    In(Duration),
    /// Soon: nobody is there, as while a server restarts.
    Away,
    /// After a while: somebody is there, and does not want the client.
    Later,
}

/// How it stands with a connection.
#[derive(Debug, Clone, Copy)]
struct Here {
    /// Whether it is in its room.
    is_in: bool,
    /// When to come back, if the server has said so.
    pause: Option<Duration>,
}

impl Client {
    /// Creates the client of a player who sits in a room.
    pub(crate) fn new(run: Run, pace: Pace) -> Self {
        Self {
            run,
            pace,
            known: Known::default(),
            number: 0,
            pending: None,
            taken_up: 0,
            answered: Instant::now(),
            heard: Instant::now(),
            told: Told::default(),
        }
    }

    /// Plays until the end of the run or of the game; returns what it was told.
    ///
    /// An error is a broken promise: an event that is missing or came twice, an action that was
    /// answered in two ways, a seat that was lost.
    pub(crate) async fn play(mut self, player: Player) -> Result<Told, Failure> {
        self.told.room.clone_from(&player.known.room);
        self.told.seat = player.known.table.seat;
        let mut player = Some((player, true));
        let mut pauses = Pauses::new();
        loop {
            let back = match player.take() {
                None => match self.come_back().await {
                    Ok(back) => {
                        player = Some((back, false));
                        continue;
                    }
                    Err((why, back)) => {
                        Told::count(&mut self.told.ended, why);
                        back
                    }
                },
                Some((mut here, is_in)) => {
                    let resumed = self.told.resumed + self.told.renewed;
                    let end = self.converse(&mut here, is_in).await;
                    self.known = here.known;
                    if is_in || resumed < self.told.resumed + self.told.renewed {
                        pauses = Pauses::new();
                    }
                    match end? {
                        End::Done => break,
                        End::Gone(back) => back,
                    }
                }
            };
            let pause = match back {
                Back::In(pause) => pause,
                Back::Away => pauses.next(true, &self.run.random),
                Back::Later => pauses.next(false, &self.run.random),
            };
            tokio::time::sleep(pause).await;
        }
        self.told.seen = self.known.table.offset;
        self.told.is_over = self.known.table.is_over;
        Ok(self.told)
    }

    /// Connects and says who it is.
    #[expect(clippy::wildcard_enum_match_arm, reason = "all others are one to a client")]
    async fn come_back(&self) -> Result<Player, (&'static str, Back)> {
        let protocol = [("sec-websocket-protocol", "liap.v1")];
        let url = format!("ws://{}/ws", self.run.addr);
        let client =
            Socket::connect(&url, &protocol).await.map_err(|error| match error.kind() {
                ErrorKind::Unavailable => ("unreachable", Back::Away),
                ErrorKind::Throttled { retry_after } => {
                    let scatter = Duration::from_millis(self.run.random.below(1_000));
                    ("handshake refused", Back::In(*retry_after + scatter))
                }
                _ => ("handshake refused", Back::Later),
            })?;
        let mut player = Player { client, known: self.known.clone() };
        let table = &self.known.table;
        let from = json!({"epoch": table.epoch, "offset": table.offset});
        let resume = json!({"token": self.known.token, "from": from});
        let hello = json!({"type": "hello", "resume": resume});
        player.say(&hello).await.map_err(|_| ("cut", Back::Away))?;
        Ok(player)
    }

    async fn converse(&mut self, player: &mut Player, is_in: bool) -> Result<End, Failure> {
        let mut here = Here { is_in, pause: None };
        self.heard = Instant::now();
        loop {
            if here.is_in && self.is_done(player) {
                return Ok(End::Done);
            }
            if here.is_in && self.act(player).await.is_err() {
                return Ok(self.gone("cut", here));
            }
            let is_waiting = !here.is_in || self.pending.is_some();
            let again = self.pending.as_ref().and_then(|pending| pending.again);
            let silence = again.unwrap_or(self.heard).max(self.heard) + PATIENCE;
            let wake = match self.wakes_at(here.is_in) {
                Some(wake) if is_waiting => wake.min(silence),
                Some(wake) => wake,
                None => silence,
            };
            tokio::select! {
                received = player.client.receive(PATIENCE * 2) => match received {
                    Ok(Received::Text(said)) => {
                        let message: Value = serde_json::from_str(&said)?;
                        if let Some(end) = self.take(player, &message, &mut here).await? {
                            return Ok(end);
                        }
                    }
                    Ok(Received::Closed(Some(close))) => {
                        return Ok(self.gone(&close.code.to_string(), here));
                    }
                    Ok(Received::Closed(None)) => return Ok(self.gone("cut", here)),
                    Ok(Received::Binary(_)) => return Err("a binary message".into()),
                    Err(_) => return Ok(self.gone("silence", here)),
                },
                () = sleep_until(wake.into()) => {
                    if is_waiting && silence <= Instant::now() {
                        return Ok(self.gone("silence", here));
                    }
                }
                Ok(()) = self.run.back.changed() => return Ok(End::Gone(Back::Later)),
            }
        }
    }

    /// Takes a message; returns how the conversation ends, if it does.
    async fn take(
        &mut self,
        player: &mut Player,
        message: &Value,
        here: &mut Here,
    ) -> Result<Option<End>, Failure> {
        self.heard = Instant::now();
        player.take(message)?;
        match text(message, "type") {
            "draining" => {
                let token = message.get("token").and_then(|token| token.get("token"));
                player.known.token = token.cloned().or(player.known.token.take());
                let millis = number(message, "come_back_in_ms");
                here.pause = Some(Duration::from_millis(millis));
            }
            "joined" | "resumed" => {
                here.is_in = true;
                self.entered(player, message).await;
            }
            "refused" if text(message, "request") == "hello" => {
                let code = format!("hello: {}", text(message, "code"));
                Told::count(&mut self.told.refused, &code);
                let millis = number(message, "retry_after_ms");
                return Ok(Some(End::Gone(Back::In(Duration::from_millis(millis)))));
            }
            _ => self.hear(message)?,
        }
        Ok(None)
    }

    fn gone(&mut self, how: &str, here: Here) -> End {
        Told::count(&mut self.told.ended, how);
        let is_away = ["cut", "1001", "1012"].contains(&how);
        let otherwise = if is_away { Back::Away } else { Back::Later };
        End::Gone(here.pause.map_or(otherwise, Back::In))
    }

    /// Counts that it is back, and sends again what was not answered.
    async fn entered(&mut self, player: &mut Player, message: &Value) {
        match text(message, "type") {
            "resumed" => self.told.resumed += 1,
            _ => self.told.renewed += 1,
        }
        if let Some(pending) = &mut self.pending {
            pending.again = None;
            // A connection that is gone again is noticed by the next that is received.
            let _sent = player.say(&pending.message).await.is_ok();
        }
    }

    /// Takes an answer.
    fn hear(&mut self, message: &Value) -> Result<(), Failure> {
        let action = number(message, "action");
        match text(message, "type") {
            "ack" => {
                let offset = number(message, "offset");
                let before = *self.told.acks.entry(action).or_insert(offset);
                if before != offset {
                    let what = format!("action {action} acknowledged at {before} and {offset}");
                    return Err(format!("room {}: {what}", self.told.room).into());
                }
                self.answer(action);
            }
            "refused" => match (text(message, "code"), message.get("retry_after_ms")) {
                (code, Some(pause)) if !pause.is_null() => {
                    Told::count(&mut self.told.refused, code);
                    let pause = Duration::from_millis(pause.as_u64().unwrap_or_default());
                    if let Some(pending) = &mut self.pending {
                        pending.again = Some(Instant::now() + pause);
                    }
                }
                ("stale_action" | "not_in_room", _) => return Err(message.to_string().into()),
                _ => self.answer(action),
            },
            "error" | "not_resumed" | "left" => {
                let room = &self.told.room;
                return Err(format!("room {room} seat {}: {message}", self.told.seat).into());
            }
            _ => {}
        }
        Ok(())
    }

    fn answer(&mut self, action: u64) {
        let now = Instant::now();
        if let Some(pending) = self.pending.take_if(|pending| pending.number == action) {
            self.answered = now;
            self.told.worst = self.told.worst.max(now.saturating_duration_since(pending.due));
            if matches!(self.pace, Pace::Open { .. }) {
                self.run.meter.count(pending.due, now);
            }
        }
    }

    /// Returns when the next action is due.
    fn due(&self) -> Instant {
        match self.pace {
            Pace::Open { first, every } => first + every * self.taken_up,
            Pace::Quick(pause) => self.answered + pause,
        }
    }

    fn is_done(&self, player: &Player) -> bool {
        let end = *self.run.end.borrow();
        let has_ended = end.is_some_and(|end| end < self.due());
        let is_over = matches!(self.pace, Pace::Quick(_)) && player.known.table.is_over;
        self.pending.is_none() && (has_ended || is_over)
    }

    /// Returns when there is something to do without being told.
    fn wakes_at(&self, is_in: bool) -> Option<Instant> {
        match (&self.pending, self.pace) {
            _ if !is_in => None,
            (Some(pending), _) => pending.again,
            (None, Pace::Open { .. }) => Some(self.due()),
            // It waits for its turn, and hears of it; but it also looks for the end.
            (None, Pace::Quick(pause)) => Some(self.due().max(Instant::now() + pause)),
        }
    }

    /// Sends what is due.
    async fn act(&mut self, player: &mut Player) -> Result<(), Failure> {
        let now = Instant::now();
        if let Some(pending) = &mut self.pending {
            if pending.again.is_some_and(|again| again <= now) {
                pending.again = None;
                player.say(&pending.message).await?;
            }
            return Ok(());
        }
        let due = self.due();
        if now < due {
            return Ok(());
        }
        let Some(mut message) = self.choose(player) else { return Ok(()) };
        self.taken_up += 1;
        self.number += 1;
        if let Some(fields) = message.as_object_mut() {
            fields.insert("action".to_owned(), json!(self.number));
        }
        let sent = player.say(&message).await;
        // Whether or not it arrived: it is due until it is answered.
        self.pending = Some(Pending { number: self.number, message, due, again: None });
        self.heard = now;
        sent
    }

    /// Returns what to do now: the host starts, who is to move moves, others talk.
    fn choose(&self, player: &Player) -> Option<Value> {
        let table = &player.known.table;
        if self.number == 0 && table.seat == 0 {
            return Some(json!({"type": "start"}));
        }
        let said = format!("s{}n{}", table.seat, self.number + 1);
        match self.pace {
            Pace::Quick(_) => table.choose(),
            Pace::Open { .. } if table.is_over => Some(json!({"type": "chat", "text": said})),
            Pace::Open { .. } => {
                table.choose().or_else(|| Some(json!({"type": "chat", "text": said})))
            }
        }
    }
}
