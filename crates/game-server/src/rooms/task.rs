//! The task of one room: its only writer.

use std::{sync::Arc, time::Duration};

use infra_core::{
    Clock, Error, ErrorKind, Result, event::EventStore, id::EventId, lifecycle::Stop,
    random::Random, snapshot::SnapshotStore,
};
use infra_observability::trace::traced;
use infra_persistence::state::{Durable, DurableOptions};
use infra_ws::{Class, Connection};
use tokio::sync::{mpsc, watch};

use super::{
    alarm::{Alarm, Timer},
    audience::{Audience, frame_of},
    lifetime::Lifetime,
    mail::{Enter, Entry, Letter, Mail, Purpose},
    summary::Summary,
};
use crate::{
    domain::{
        AbandonReason, Act, ActionNumber, Actor, Answer, Awaited, Command, Entropy, PlayerId,
        Refusal, Room, Status,
    },
    observe::{Diary, RoomTelemetry},
    protocol::{self, Ack, Code, Epoch, LeftReason, Refused, RoomCode, ServerMessage, Setback},
    telemetry::{ACTIONS, Outcome},
};

/// How many letters may wait in a room's mailbox.
pub(super) const MAILBOX: usize = 256;

/// How long the room waits after a write that failed before its clock tries again.
const STORAGE_PAUSE: Duration = Duration::from_millis(500);

/// What a room's task works with.
#[derive(Debug, Clone)]
pub(super) struct Tools {
    pub(super) events: Arc<dyn EventStore>,
    pub(super) snapshots: Arc<dyn SnapshotStore>,
    /// How each room is kept.
    pub(super) machine: DurableOptions,
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
    /// The room as it is stored.
    pub(super) durable: Durable<Room>,
    /// The room as it was told: the same, unless the fate of a write is not known yet.
    pub(super) room: Room,
    epoch: Option<EventId>,
    pub(super) audience: Audience,
    summary: watch::Sender<Option<Summary>>,
    pub(super) diary: Diary,
    pub(super) lifetime: Lifetime,
}

impl RoomTask {
    /// Creates the task of a room that was opened; nobody listens yet, and what happened before is no news.
    pub(super) fn new(
        tools: Tools,
        code: RoomCode,
        durable: Durable<Room>,
        summary: watch::Sender<Option<Summary>>,
    ) -> Self {
        let (room, audience) = (durable.state().clone(), Audience::default());
        let mut diary = Diary::new(tools.telemetry.clone(), code);
        diary.open(&room);
        let (epoch, lifetime) = (None, Lifetime::Unknown { is_new: room.offset() == 0 });
        let task = Self { tools, code, durable, room, epoch, audience, summary, diary, lifetime };
        task.summarize();
        task
    }

    /// Serves the mailbox and the room's clock until the room is not needed in memory any more; then it is
    /// stored as a whole, so that it comes back quickly.
    pub(super) async fn run(mut self, mailbox: mpsc::Receiver<Letter>, stop: Stop) {
        let _recorded = self.diary.guard();
        self.serve_all(mailbox, stop).await;
        let code = self.code;
        if let Err(error) = self.durable.close().await {
            // The events are the truth: only the way back is longer.
            tracing::warn!(room = %code, error = &error as &dyn std::error::Error, "no snapshot");
        }
    }

    async fn serve_all(&mut self, mut mailbox: mpsc::Receiver<Letter>, stop: Stop) {
        let mut timer = Timer::default();
        loop {
            self.know_lifetime().await;
            let wake = timer.set(self);
            tokio::select! {
                mail = mailbox.recv() => match mail {
                    Some((context, mail)) => context.scope(self.serve(mail)).await,
                    None => return,
                },
                () = stop.requested() => return,
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
        let due = match set {
            Some(Alarm::Due(due)) => due,
            Some(Alarm::TimeUp) => {
                let end = Command::of(Actor::Clock, Act::TimeIsUp);
                if self.carry_out(end).await.is_err() {
                    timer.pause(STORAGE_PAUSE);
                }
                return false;
            }
            Some(Alarm::Rest { .. }) | None => return self.rest().await,
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
            Mail::ReadAnew(reply) => {
                let _heard = reply.send(self.read_anew().await).is_ok();
            }
        }
    }

    async fn enter(&mut self, enter: Enter) -> Entry {
        let Enter { connection, player, purpose, token } = enter;
        // First: what is found out now may end the room.
        if self.catch_up().await.is_err() {
            return Entry::Refused(Setback::StorageUnavailable.into());
        }
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
        if let Some(act) = act {
            match self.carry_out(Command::of(Actor::Player(player), act)).await {
                Ok(Ok(())) => {}
                Ok(Err(refusal)) => return Entry::Refused(refusal.into()),
                Err(_) => return Entry::Refused(Setback::StorageUnavailable.into()),
            }
        }
        if self.room.offset() == 0 {
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
        let carried_out = self.carry_out_in_time(Command::numbered(player, action, act)).await;
        let answer = match carried_out.unwrap_or_else(|_| Err(Setback::StorageUnavailable.into())) {
            Ok(()) => match self.room.answer(player, action) {
                Some(Answer::Accepted { offset }) => ServerMessage::Ack(Ack { action, offset }),
                Some(Answer::Refused { offset, reason }) => {
                    ServerMessage::Refused(refuse(reason.into()).recorded(offset))
                }
                None => ServerMessage::Refused(refuse(Refusal::NotInRoom.into())),
            },
            Err(code @ Code::Server(_)) => {
                ServerMessage::Refused(refuse(code).retry_after_ms(protocol::STORAGE_PAUSE))
            }
            Err(code @ Code::Game(_)) => ServerMessage::Refused(refuse(code)),
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

    /// Sends everybody away from a room that was given up.
    pub(super) fn dismiss(&mut self) {
        if self.room.status() != Some(Status::Abandoned) {
            return;
        }
        let left = frame_of(&ServerMessage::Left { room: self.code, reason: LeftReason::RoomGone });
        for connection in self.audience.take_all() {
            connection.send(left.clone(), Class::Durable);
        }
    }

    pub(super) fn summarize(&self) {
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
    pub(super) async fn epoch(&mut self) -> Result<Epoch> {
        if self.epoch.is_none() {
            let info = self.tools.events.stream_info(self.durable.stream()).await?;
            self.epoch = info.map(|info| info.incarnation);
        }
        let epoch = self.epoch.and_then(|epoch| Epoch::new(epoch.to_string()));
        epoch.ok_or_else(|| Error::new(ErrorKind::NotFound, "name epoch"))
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
