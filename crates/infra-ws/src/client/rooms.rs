//! A client of the protocol of rooms that stays connected.

use std::time::Duration;

use infra_core::{Error, ErrorKind, Result, context::Context};
use serde_json::Value;
use tokio::{
    sync::{
        mpsc::{self, error::SendTimeoutError},
        oneshot,
    },
    task::JoinHandle,
};

use super::{
    heard::Heard,
    options::RoomsOptions,
    work::{ASK, Command, Question, Work},
};
use crate::{
    history::Place,
    wire::{ClientMessage, ServerMessage},
};

/// How many things are heard before the application has to listen; beyond it nothing more is read.
const INBOX: usize = 1_024;

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
    patience: Duration,
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
        let patience = options.patience;
        let work = Work::new(options, orders, sender);
        Self { commands, heard, patience, task: tokio::spawn(work.run()) }
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
    /// [`ErrorKind::Closed`] if the client was stopped for good; [`ErrorKind::Timeout`] if it did not
    /// take the order within its [`patience`](RoomsOptions::patience), and nothing is done.
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

    /// Says something to a room; returns its place, if it is an event. It is of the trace of the
    /// [`Context`] that runs, if that has one.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Denied`] with the code as its detail, or one that says the same;
    /// [`ErrorKind::Indeterminate`] if the connection broke before the answer, or none came within the
    /// [`patience`](RoomsOptions::patience), such as to data nested so deep that the server cannot
    /// read whose question it is; else as for [`join`](Self::join).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves it said or not.
    pub async fn publish(&self, room: impl Into<String>, data: Value) -> Result<Option<Place>> {
        let (room, trace) = (room.into(), Context::current_trace());
        let publish = move |id| ClientMessage::Publish { id, room, data, trace };
        let answer = self.ask(Box::new(publish)).await?;
        let ServerMessage::Ack { place, .. } = answer else { return Err(odd(&answer)) };
        Ok(place)
    }

    /// Asks the application something, in the trace of the [`Context`] that runs.
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
        let (method, trace) = (method.into(), Context::current_trace());
        let request = move |id| ClientMessage::Request { id, room, method, data, trace };
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
        match tokio::time::timeout(self.patience, answered).await {
            Ok(answer) => answer.unwrap_or_else(|_| Err(Error::new(ErrorKind::Closed, ASK))),
            Err(_) => Err(Error::new(ErrorKind::Indeterminate, ASK).detail("no answer in time")),
        }
    }

    async fn order(&self, command: Command) -> Result<()> {
        let sent = self.commands.send_timeout(command, self.patience).await;
        sent.map_err(|unsent| {
            let kind = match unsent {
                SendTimeoutError::Timeout(_) => ErrorKind::Timeout,
                SendTimeoutError::Closed(_) => ErrorKind::Closed,
            };
            Error::new(kind, "ask client of rooms")
        })
    }
}

fn odd(answer: &ServerMessage) -> Error {
    Error::new(ErrorKind::Internal, ASK).detail(format!("{answer:?} answers something else"))
}
