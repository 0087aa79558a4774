//! What the keeper of a replica is asked, and what it answers.

use bytes::Bytes;
use infra_core::{
    Error, ErrorKind, Result,
    queue::{DeadLetter, Delivery, Message, Stats},
};
use tokio::sync::oneshot;

/// What somebody wants to know of the queue.
#[derive(Debug)]
pub(super) enum Look {
    Stats,
    Dead(usize),
    Waiting(usize),
}

/// What somebody wants.
#[derive(Debug)]
pub(super) enum Wish {
    /// That an encoded command is carried out.
    Write(Bytes),
    /// The same of a command that takes messages, once there are some.
    Take(Bytes),
    Look(Look),
}

/// What they get.
#[derive(Debug)]
pub(super) enum Answer {
    New(Vec<bool>),
    Taken(Vec<Delivery>),
    Done,
    Is(bool),
    Count(u64),
    Stats(Stats),
    Dead(Vec<DeadLetter>),
    Waiting(Vec<Message>),
}

/// A wish and where its answer goes.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) wish: Wish,
    pub(super) answer: oneshot::Sender<Result<Answer>>,
}

impl Request {
    pub(super) fn command(&self) -> Bytes {
        match &self.wish {
            Wish::Write(command) | Wish::Take(command) => command.clone(),
            Wish::Look(_) => Bytes::new(),
        }
    }

    pub(super) fn give(self, answer: Result<Answer>) {
        // Messages that nobody waits for any more are given back as they are dropped.
        let _is_awaited = self.answer.send(answer).is_ok();
    }

    pub(super) fn fail(self, kind: ErrorKind, detail: &'static str) {
        self.give(Err(Error::new(kind, "use queue").detail(detail)));
    }
}
