//! The task of one room: its only writer.

use std::{sync::Arc, time::Duration};

use infra_core::{
    Clock, Error, ErrorKind, Result,
    event::{Append, Direction, EventStore, RecordedEvent},
    id::{EventId, StreamName},
    machine::StateMachine,
    random::Random,
    version::{Expected, Version},
};
use infra_ws::{
    Class, Connection, ConnectionId,
    resume::{History, Reason, Recovery, decide},
};
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    audience::{Audience, frame_of, viewer_of},
    record::{decode_event, encode_event, stream_of},
    summary::Summary,
};
use crate::{
    domain::{
        AbandonReason, Act, ActionNumber, Actor, Answer, Command, Due, Entropy, Event, Name,
        PlayerId, Refusal, Room, RoomView, Settings, Status, Viewer, view,
    },
    protocol::{
        Ack, Code, Emoji, Epoch, Joined, LeftReason, Position, Refused, Resumed, RoomCode,
        ServerMessage, Setback, Token, Why,
        admin::{LiveEvent, RECENT_EVENTS},
    },
    telemetry::{ACTIONS, APPEND, BROADCAST, Outcome},
};

/// How many letters may wait in a room's mailbox.
pub(super) const MAILBOX: usize = 256;

/// How many events are read at a time.
const PAGE: usize = 512;

/// How long the room waits after a write that failed before its clock tries again.
const STORAGE_PAUSE: Duration = Duration::from_millis(500);

/// Why a connection enters a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// To create it.
    Create {
        /// The host's name.
        name: Name,
        /// The room's times.
        settings: Settings,
    },
    /// To take a seat.
    Join {
        /// The player's name.
        name: Name,
    },
    /// To take its own seat again.
    Return {
        /// The last event that was seen.
        from: Option<Position>,
    },
    /// To watch.
    Watch {
        /// The last event that was seen.
        from: Option<Position>,
    },
}

/// What a connection needs to enter.
#[derive(Debug)]
pub struct Enter {
    /// The connection.
    pub connection: Connection,
    /// Who it is.
    pub player: PlayerId,
    /// Why it enters.
    pub purpose: Purpose,
    /// The token to come back with; none for a spectator.
    pub token: Option<Token>,
}

/// How an attempt to enter ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// It is in; the answer was sent, and events follow.
    Entered,
    /// It is not.
    Refused(Code),
}

/// A letter to a room.
#[derive(Debug)]
pub enum Mail {
    /// A connection enters.
    Enter(Box<Enter>, oneshot::Sender<Entry>),
    /// A player acts.
    Act {
        /// The connection that gets the answer.
        connection: Connection,
        /// Who acts.
        player: PlayerId,
        /// The number of the action.
        action: ActionNumber,
        /// The type of the message.
        request: &'static str,
        /// What is asked.
        act: Act,
        /// Hears, once the answer was sent, whether the player has left the room by it.
        done: oneshot::Sender<bool>,
    },
    /// A player makes a gesture.
    Emoji {
        /// Who.
        player: PlayerId,
        /// Which.
        emoji: Emoji,
    },
    /// A connection has ended, or watches no more.
    Leave(ConnectionId),
    /// An operator looks.
    Look(oneshot::Sender<Look>),
}

/// What an operator sees of a room.
#[derive(Debug)]
pub struct Look {
    /// The epoch of its events.
    pub epoch: Epoch,
    /// The spectator's view.
    pub state: RoomView,
    /// The last events.
    pub recent: Vec<LiveEvent>,
}

/// The way to a room's task. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RoomHandle {
    pub(super) mailbox: mpsc::Sender<Mail>,
    pub(super) summary: watch::Receiver<Option<Summary>>,
}

impl RoomHandle {
    /// Puts a letter into the mailbox, waiting for room in it; gives it back if the task has ended.
    ///
    /// # Errors
    ///
    /// The letter.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the letter unsent.
    pub async fn send(&self, mail: Mail) -> Result<(), Mail> {
        self.mailbox.send(mail).await.map_err(|refused| refused.0)
    }

    /// Returns the room in a line; `None` before it was created.
    pub fn summary(&self) -> Option<Summary> {
        self.summary.borrow().clone()
    }

    /// Returns whether the task has ended.
    pub fn is_closed(&self) -> bool {
        self.mailbox.is_closed()
    }
}

/// What a room's task works with.
#[derive(Debug, Clone)]
pub(super) struct Tools {
    pub(super) events: Arc<dyn EventStore>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Arc<Random>,
    /// The most missed events that are sent again.
    pub(super) resume_events: u64,
    /// How long a room without people stays in memory.
    pub(super) linger: Duration,
    /// How long a room that does not play may be idle before it is given up.
    pub(super) idle: Duration,
}

/// The task of one room.
#[derive(Debug)]
pub(super) struct RoomTask {
    tools: Tools,
    code: RoomCode,
    stream: StreamName,
    room: Room,
    version: Version,
    epoch: Option<EventId>,
    audience: Audience,
    summary: watch::Sender<Option<Summary>>,
    /// The fate of a write is not known: look at the stream before the next command.
    is_unsure: bool,
}

impl RoomTask {
    /// Creates the task of a room; it knows nothing yet.
    pub(super) fn new(
        tools: Tools,
        code: RoomCode,
        summary: watch::Sender<Option<Summary>>,
    ) -> Result<Self> {
        Ok(Self {
            tools,
            stream: stream_of(code)?,
            code,
            room: Room::default(),
            version: Version::ZERO,
            epoch: None,
            audience: Audience::default(),
            summary,
            is_unsure: false,
        })
    }

    /// Reads what the stream has beyond what is known, and tells the audience.
    pub(super) async fn catch_up(&mut self) -> Result<()> {
        loop {
            let from = self.version.next();
            let read = self.tools.events.read_stream(&self.stream, from, Direction::Forward, PAGE);
            let recorded = read.await?;
            let is_end = recorded.len() < PAGE;
            for event in &recorded {
                self.epoch.get_or_insert(event.event.id);
                self.take(&decode_event(event)?);
            }
            if is_end {
                break;
            }
        }
        self.is_unsure = false;
        self.summarize();
        Ok(())
    }

    /// Serves the mailbox and the room's clock until the room is not needed in memory any more.
    pub(super) async fn run(mut self, mut mailbox: mpsc::Receiver<Mail>) {
        let mut timer = Timer::default();
        loop {
            let wake = timer.set(&self);
            tokio::select! {
                mail = mailbox.recv() => match mail {
                    Some(mail) => self.serve(mail).await,
                    None => return,
                },
                () = wake => {
                    if self.alarm(&mut timer).await {
                        mailbox.close();
                    }
                }
            }
        }
    }

    /// Does what the room's clock is due to do; returns whether the task shall end.
    async fn alarm(&mut self, timer: &mut Timer) -> bool {
        let set = timer.take();
        let Some(Alarm::Due(due)) = set else {
            return self.rest().await;
        };
        let Ok(entropy) = entropy() else {
            timer.pause(STORAGE_PAUSE);
            return false;
        };
        // What was refused has happened since; what could not be stored is tried again.
        if self.carry_out(due.command(entropy)).await.is_err() {
            timer.pause(STORAGE_PAUSE);
        }
        false
    }

    /// Nothing is due: gives an idle room up, and lets one without people go from memory.
    async fn rest(&mut self) -> bool {
        let is_open = matches!(self.room.status(), Some(Status::Waiting | Status::Ready));
        if is_open && self.audience.is_empty() {
            let close = Act::Close { reason: AbandonReason::Idle };
            if self.carry_out(Command::of(Actor::Clock, close)).await.is_err() {
                return false;
            }
        }
        self.audience.is_empty()
    }

    async fn serve(&mut self, mail: Mail) {
        match mail {
            Mail::Enter(enter, reply) => {
                let entry = self.enter(*enter).await;
                // Who has gone does not hear it; its leave follows.
                let _heard = reply.send(entry).is_ok();
            }
            Mail::Act { connection, player, action, request, act, done } => {
                let has_left = self.act(&connection, player, action, (request, act)).await;
                let _heard = done.send(has_left).is_ok();
            }
            Mail::Emoji { player, emoji } => {
                if let Some(seat) = self.room.seat_of(player) {
                    self.audience.ephemeral(&ServerMessage::Emoji { seat, emoji });
                }
            }
            Mail::Leave(connection) => {
                if self.audience.remove(connection) {
                    self.audience.presence(&self.room);
                    self.summarize();
                }
            }
            Mail::Look(reply) => {
                if let Ok(look) = self.look().await {
                    let _heard = reply.send(look).is_ok();
                }
            }
        }
    }

    async fn enter(&mut self, enter: Enter) -> Entry {
        let Enter { connection, player, purpose, token } = enter;
        let (act, from) = match purpose {
            Purpose::Create { name, settings } => (Some(Act::Create { name, settings }), None),
            Purpose::Join { name } => (Some(Act::Join { name }), None),
            Purpose::Return { .. } if self.room.status() == Some(Status::Abandoned) => {
                return Entry::Refused(Refusal::RoomAbandoned.into());
            }
            Purpose::Return { from } if self.room.seat_of(player).is_some() => (None, from),
            Purpose::Return { .. } => return Entry::Refused(Refusal::NotInRoom.into()),
            Purpose::Watch { from } => (None, from),
        };
        if self.is_unsure && self.catch_up().await.is_err() {
            return Entry::Refused(Setback::StorageUnavailable.into());
        }
        if let Some(act) = act {
            match self.carry_out(Command::of(Actor::Player(player), act)).await {
                Ok(Ok(())) => {}
                Ok(Err(refusal)) => return Entry::Refused(refusal.into()),
                Err(_) => return Entry::Refused(Setback::StorageUnavailable.into()),
            }
        }
        if self.version == Version::ZERO {
            return Entry::Refused(Refusal::NoSuchRoom.into());
        }
        let player = token.is_some().then_some(player);
        match self.greet(&connection, player, from, token).await {
            Ok(()) => {
                self.audience.add(connection, player);
                self.audience.presence(&self.room);
                self.summarize();
                Entry::Entered
            }
            Err(_) => Entry::Refused(Setback::StorageUnavailable.into()),
        }
    }

    /// Sends what a connection missed, or the whole state and why.
    async fn greet(
        &self,
        connection: &Connection,
        player: Option<PlayerId>,
        from: Option<Position>,
        token: Option<Token>,
    ) -> Result<()> {
        let viewer = viewer_of(&self.room, player);
        let last = self.version.get();
        let epoch = self.epoch_text()?;
        let why = match from {
            None => Why::Entered,
            Some(from) => {
                let limit = self.tools.resume_events;
                let history = History { epoch: epoch.as_str(), first: 1, last, limit };
                match decide(from.epoch.as_str(), from.offset, &history) {
                    Recovery::Recovered { from, to } => {
                        let missed = self.missed(from, to, viewer).await?;
                        let resumed = Resumed {
                            room: self.code,
                            epoch,
                            offset: to,
                            missed: missed.len() as u64,
                            last_action: player.and_then(|player| self.room.last_action(player)),
                            token,
                        };
                        let first = ServerMessage::Resumed(resumed);
                        for message in std::iter::once(first).chain(missed) {
                            connection.send(frame_of(&message), Class::Durable);
                        }
                        return Ok(());
                    }
                    Recovery::NotRecovered(Reason::EpochChanged) => Why::EpochChanged,
                    Recovery::NotRecovered(Reason::TooOld) => Why::TooOld,
                    Recovery::NotRecovered(Reason::Ahead) => Why::OffsetAhead,
                }
            }
        };
        let absent = || Error::new(ErrorKind::Internal, "enter room");
        let state = self.room.view(viewer).ok_or_else(absent)?;
        let joined = Joined { room: self.code, epoch, why, state, token };
        connection.send(frame_of(&ServerMessage::Joined(Box::new(joined))), Class::Durable);
        Ok(())
    }

    async fn missed(&self, from: u64, to: u64, viewer: Viewer) -> Result<Vec<ServerMessage>> {
        let recorded = self.read(from, to).await?;
        let events = recorded.iter().map(|recorded| {
            let event = view(&decode_event(recorded)?, viewer);
            Ok(ServerMessage::Event { offset: recorded.version.get(), event })
        });
        events.collect()
    }

    async fn read(&self, from: u64, to: u64) -> Result<Vec<RecordedEvent>> {
        let count = usize::try_from((to + 1).saturating_sub(from)).unwrap_or(usize::MAX);
        let first = Version::new(from);
        let events = &self.tools.events;
        let recorded = events.read_stream(&self.stream, first, Direction::Forward, count).await?;
        if recorded.len() == count {
            return Ok(recorded);
        }
        let detail = format!("{} of {count} events from {from} on", recorded.len());
        Err(Error::new(ErrorKind::Corrupt, "read room").detail(detail))
    }

    async fn look(&self) -> Result<Look> {
        let last = self.version.get();
        let first = last.saturating_sub(RECENT_EVENTS as u64 - 1).max(1);
        let recorded = self.read(first, last).await?;
        let recent = recorded.iter().map(|recorded| live_event(self.code, recorded)).collect();
        let gone = || Error::new(ErrorKind::NotFound, "look at room");
        let state = self.room.view(Viewer::Spectator).ok_or_else(gone)?;
        Ok(Look { epoch: self.epoch_text()?, state, recent: Result::from_iter::<Vec<_>>(recent)? })
    }

    async fn act(
        &mut self,
        connection: &Connection,
        player: PlayerId,
        action: ActionNumber,
        (request, act): (&'static str, Act),
    ) -> bool {
        let refuse = |code: Code| Refused::new(request, code).action(action);
        let is_leaving = act == Act::Leave;
        let answer = match self.carry_out(Command::numbered(player, action, act)).await {
            Ok(Ok(())) => match self.room.answer(player, action) {
                Some(Answer::Accepted { offset }) => ServerMessage::Ack(Ack { action, offset }),
                Some(Answer::Refused { offset, reason }) => {
                    ServerMessage::Refused(refuse(reason.into()).recorded(offset))
                }
                None => ServerMessage::Refused(refuse(Refusal::NotInRoom.into())),
            },
            Ok(Err(refusal)) => ServerMessage::Refused(refuse(refusal.into())),
            Err(_) => ServerMessage::Refused(
                refuse(Setback::StorageUnavailable.into()).retry_after_ms(1_000),
            ),
        };
        ACTIONS.add_for(Outcome::of(&answer), 1);
        let has_left = is_leaving && matches!(answer, ServerMessage::Ack(_));
        connection.send(frame_of(&answer), Class::Durable);
        if has_left {
            let left = ServerMessage::Left { room: self.code, reason: LeftReason::Asked };
            connection.send(frame_of(&left), Class::Durable);
            self.audience.take_player(player);
            self.audience.presence(&self.room);
            self.summarize();
        }
        has_left
    }

    /// Decides a command, stores what happens, folds it in and tells the audience.
    ///
    /// An error means that nothing may be assumed of the write; the stream is looked at before the
    /// next command.
    async fn carry_out(&mut self, command: Command) -> Result<Result<(), Refusal>> {
        if self.is_unsure {
            self.catch_up().await?;
        }
        let events = match self.room.decide(command) {
            Ok(events) => events,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if events.is_empty() {
            return Ok(Ok(()));
        }
        let (clock, random) = (self.tools.clock.as_ref(), self.tools.random.as_ref());
        let stored: Vec<_> =
            events.iter().map(|event| encode_event(event, clock, random)).collect::<Result<_>>()?;
        let first = stored.first().map(|event| event.id);
        let begun = clock.now();
        let append = Append::to(self.stream.clone(), expected(self.version), stored);
        if let Err(error) = self.tools.events.append(append).await {
            tracing::warn!(room = %self.code, error = &error as &dyn std::error::Error, "not stored");
            self.is_unsure = true;
            return Err(error);
        }
        let stored = self.tools.clock.now();
        APPEND.record(stored.since(begun).as_secs_f64());
        self.epoch = self.epoch.or(first);
        for event in &events {
            self.take(event);
        }
        BROADCAST.record(self.tools.clock.now().since(stored).as_secs_f64());
        self.summarize();
        self.dismiss();
        Ok(Ok(()))
    }

    /// Folds a stored event in and tells the audience.
    fn take(&mut self, event: &Event) {
        self.room.evolve(event);
        self.version = self.version.next();
        self.audience.event(&self.room, self.version.get(), event);
    }

    /// Sends everybody away from a room that was given up.
    fn dismiss(&mut self) {
        if self.room.status() != Some(Status::Abandoned) {
            return;
        }
        let left = frame_of(&ServerMessage::Left { room: self.code, reason: LeftReason::RoomGone });
        for connection in self.audience.take_all() {
            connection.send(left.clone(), Class::Durable);
        }
    }

    fn summarize(&self) {
        let presence = self.audience.present(&self.room);
        let active = self.tools.clock.now();
        let is_person = |seat| self.room.player_at(seat).is_some();
        let here = presence.connected.iter().filter(|(seat, here)| **here && is_person(*seat));
        let connected = u8::try_from(here.count()).unwrap_or(u8::MAX);
        let summary = Summary::of(self.code, &self.room, active).map(|summary| Summary {
            connected,
            spectators: presence.spectators,
            ..summary
        });
        self.summary.send_replace(summary);
    }

    /// Returns the epoch as the wire has it; a room that exists has one.
    fn epoch_text(&self) -> Result<Epoch> {
        let epoch = self.epoch.and_then(|epoch| Epoch::new(epoch.to_string()));
        epoch.ok_or_else(|| Error::new(ErrorKind::NotFound, "name epoch"))
    }
}

const fn expected(version: Version) -> Expected {
    match version.get() {
        0 => Expected::Absent,
        _ => Expected::Exactly(version),
    }
}

/// Returns an event as an operator sees it.
pub(crate) fn live_event(room: RoomCode, recorded: &RecordedEvent) -> Result<LiveEvent> {
    let event = view(&decode_event(recorded)?, Viewer::Spectator);
    let (offset, at_ms) = (recorded.version.get(), recorded.recorded.as_millis());
    Ok(LiveEvent { room, offset, at_ms, event })
}

/// Takes the seed of a shuffle from the operating system.
pub(crate) fn entropy() -> Result<Entropy> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|cause| {
        Error::new(ErrorKind::Unavailable, "take entropy").because(cause.to_string())
    })?;
    Ok(Entropy::new(seed))
}

/// What the room's clock waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Alarm {
    /// Something of the game.
    Due(Due),
    /// Nothing: the room may go from memory.
    Rest { is_open: bool },
}

/// The room's alarm clock; it keeps its time as long as what it waits for is the same.
#[derive(Debug, Default)]
struct Timer {
    set: Option<(Alarm, tokio::time::Instant)>,
    pause: Option<Duration>,
}

impl Timer {
    /// Sets the clock by the room, and returns the wait.
    fn set(&mut self, task: &RoomTask) -> impl Future<Output = ()> + use<> {
        let is_open = matches!(task.room.status(), Some(Status::Waiting | Status::Ready));
        let alarm = match task.room.due() {
            Some(due) => Some(Alarm::Due(due)),
            None => task.audience.is_empty().then_some(Alarm::Rest { is_open }),
        };
        let pause = self.pause.take();
        self.set = alarm.map(|alarm| match self.set {
            Some((same, at)) if same == alarm && pause.is_none() => (alarm, at),
            _ => {
                let wait = pause.unwrap_or_else(|| wait_of(alarm, &task.tools));
                // A sleep that is made now tells when it ends, in tokio's time.
                (alarm, tokio::time::sleep(wait).deadline())
            }
        });
        let at = self.set.map(|(_, at)| at);
        async move {
            match at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        }
    }

    /// Takes what has become due.
    fn take(&mut self) -> Option<Alarm> {
        self.set.take().map(|(alarm, _)| alarm)
    }

    /// Waits at least this long before the next alarm.
    const fn pause(&mut self, pause: Duration) {
        self.pause = Some(pause);
    }
}

fn wait_of(alarm: Alarm, tools: &Tools) -> Duration {
    match alarm {
        Alarm::Due(due) => {
            let (earliest, latest) = (due.earliest.duration(), due.latest.duration());
            earliest + latest.saturating_sub(earliest).mul_f64(tools.random.unit())
        }
        Alarm::Rest { is_open: true } => tools.idle,
        Alarm::Rest { is_open: false } => tools.linger,
    }
}
