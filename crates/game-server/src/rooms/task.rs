//! The task of one room: its only writer.

use std::{sync::Arc, time::Duration};

use infra_core::{
    Clock, Error, ErrorKind, Result,
    event::{Append, Direction, EventStore},
    id::{EventId, StreamName},
    machine::StateMachine,
    random::Random,
    version::{Expected, Version},
};
use infra_observability::trace::{traced, traced_result};
use infra_ws::{Class, Connection};
use tokio::sync::{mpsc, watch};

use super::{
    alarm::{Alarm, Timer},
    audience::{Audience, frame_of},
    mail::{Enter, Entry, Letter, Mail, Purpose},
    record::{decode_event, encode_event, stream_of},
    summary::Summary,
};
use crate::{
    domain::{
        AbandonReason, Act, ActionNumber, Actor, Answer, Awaited, Command, Entropy, Event,
        PlayerId, Refusal, Room, Status,
    },
    observe::{Diary, RoomTelemetry, stage_of},
    protocol::{
        Ack, Code, Epoch, LeftReason, Refused, RoomCode, ServerMessage, Setback, admin::Stage,
    },
    telemetry::{ACTIONS, APPEND, BROADCAST, Outcome},
};

/// How many letters may wait in a room's mailbox.
pub(super) const MAILBOX: usize = 256;

/// How many events are read at a time.
const PAGE: usize = 512;

/// How long the room waits after a write that failed before its clock tries again.
const STORAGE_PAUSE: Duration = Duration::from_millis(500);

/// What a room's task works with.
#[derive(Debug, Clone)]
pub(super) struct Tools {
    pub(super) events: Arc<dyn EventStore>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) telemetry: RoomTelemetry,
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
    pub(super) tools: Tools,
    pub(super) code: RoomCode,
    pub(super) stream: StreamName,
    pub(super) room: Room,
    pub(super) version: Version,
    epoch: Option<EventId>,
    pub(super) audience: Audience,
    summary: watch::Sender<Option<Summary>>,
    diary: Diary,
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
            diary: Diary::new(tools.telemetry.clone(), code),
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

    /// Reads the room from its stream; what happened there is no news.
    pub(super) async fn load(&mut self) -> Result<()> {
        self.read_on(false).await?;
        self.diary.open(&self.room);
        Ok(())
    }

    /// Reads what the stream has beyond what is known, and tells the audience.
    async fn catch_up(&mut self) -> Result<()> {
        self.read_on(true).await
    }

    async fn read_on(&mut self, is_news: bool) -> Result<()> {
        loop {
            let from = self.version.next();
            let read = self.tools.events.read_stream(&self.stream, from, Direction::Forward, PAGE);
            let recorded = read.await?;
            let is_end = recorded.len() < PAGE;
            for event in &recorded {
                self.epoch.get_or_insert(event.event.id);
                let event = decode_event(event)?;
                self.take(&event);
                if is_news {
                    self.diary.wrote(&self.room, &event, Duration::ZERO);
                }
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
    pub(super) async fn run(mut self, mut mailbox: mpsc::Receiver<Letter>) {
        let _recorded = self.diary.guard();
        let mut timer = Timer::default();
        loop {
            let wake = timer.set(&self);
            tokio::select! {
                mail = mailbox.recv() => match mail {
                    Some((context, mail)) => context.scope(self.serve(mail)).await,
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
        let begun = self.tools.clock.now();
        let span = tracing::info_span!("room.clock", room = %self.code);
        let carried_out = traced(span, self.carry_out(due.command(entropy))).await;
        if matches!(due.awaited, Awaited::Bot(_)) {
            let took = self.tools.clock.now().since(begun);
            self.diary.acted(None, matches!(carried_out, Ok(Ok(()))), took);
        }
        // What was refused has happened since; what could not be stored is tried again.
        if carried_out.is_err() {
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
                let span = tracing::info_span!("room.action", room = %self.code, action = request);
                let acting = self.act(&connection, player, action, (request, act));
                let has_left = traced(span, acting).await;
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

    async fn act(
        &mut self,
        connection: &Connection,
        player: PlayerId,
        action: ActionNumber,
        (request, act): (&'static str, Act),
    ) -> bool {
        let refuse = |code: Code| Refused::new(request, code).action(action);
        let is_leaving = act == Act::Leave;
        let begun = self.tools.clock.now();
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
        let is_done = matches!(answer, ServerMessage::Ack(_));
        self.diary.acted(Some(player), is_done, self.tools.clock.now().since(begun));
        let has_left = is_leaving && is_done;
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
        let span = tracing::info_span!("store.append", events = events.len());
        let appended = traced_result(span, self.tools.events.append(append)).await;
        let took = self.tools.clock.now().since(begun);
        if let Err(error) = appended {
            tracing::warn!(room = %self.code, error = &error as &dyn std::error::Error, "not stored");
            self.is_unsure = true;
            self.diary.failed(stage_after(&self.room, &events), took, self.version.get());
            return Err(error);
        }
        APPEND.record(took.as_secs_f64());
        self.epoch = self.epoch.or(first);
        self.broadcast(&events, took);
        self.summarize();
        self.dismiss();
        Ok(Ok(()))
    }

    /// Folds stored events in, tells the audience, then whoever watches the server.
    fn broadcast(&mut self, events: &[Event], took: Duration) {
        let span = tracing::info_span!("room.broadcast", events = events.len());
        let _within = span.enter();
        let mut telling = Duration::ZERO;
        for event in events {
            let begun = self.tools.clock.now();
            self.take(event);
            telling += self.tools.clock.now().since(begun);
            self.diary.wrote(&self.room, event, took);
        }
        BROADCAST.record(telling.as_secs_f64());
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
    pub(super) fn epoch_text(&self) -> Result<Epoch> {
        let epoch = self.epoch.and_then(|epoch| Epoch::new(epoch.to_string()));
        epoch.ok_or_else(|| Error::new(ErrorKind::NotFound, "name epoch"))
    }
}

/// Returns the state that a room would be in after events that could not be stored.
fn stage_after(room: &Room, events: &[Event]) -> Option<Stage> {
    let mut room = room.clone();
    for event in events {
        room.evolve(event);
    }
    stage_of(&room)
}

const fn expected(version: Version) -> Expected {
    match version.get() {
        0 => Expected::Absent,
        _ => Expected::Exactly(version),
    }
}

/// Takes the seed of a shuffle from the operating system.
pub(crate) fn entropy() -> Result<Entropy> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|cause| {
        Error::new(ErrorKind::Unavailable, "take entropy").because(cause.to_string())
    })?;
    Ok(Entropy::new(seed))
}
