//! The entry of this process that is on its way to the log.

use std::{future::Future, pin::Pin, time::Duration};

use bytes::Bytes;
use infra_core::ErrorKind;
use tokio::time::{Sleep, sleep};

use super::{Keeper, LONG, PAUSE};
use crate::jetstream::{
    entry::{self, Command, HEAD, Head, LENGTH},
    request::{Request, Wish},
    server::{Added, PATIENCE},
};

/// How many commands stand in an entry at most.
const MAX_COMMANDS: usize = 512;

/// How long is waited for what must be in the log, before it is read anew.
const SILENCE: Duration = Duration::from_secs(2);

/// What became of the entry that is on its way.
pub(super) enum Said {
    Added(Added),
    /// What was expected was not heard.
    Silence,
    /// It is time to send it again.
    Again,
}

/// The entry that is on its way.
pub(super) struct Flight {
    pub(super) number: u64,
    pub(super) commands: Vec<Bytes>,
    /// Who waits for which command; nobody waits for time to pass.
    pub(super) requests: Vec<Request>,
    /// The entry that it was sent to follow.
    pub(super) previous: u64,
    /// It was refused since another one follows that, which is still to be heard.
    pub(super) is_behind: bool,
    pub(super) next: Pin<Box<dyn Future<Output = Said> + Send>>,
    pub(super) patience: Pin<Box<Sleep>>,
}

async fn elapsed(pause: Duration, said: Said) -> Said {
    sleep(pause).await;
    said
}

impl Keeper {
    /// Sends an entry of what is wished, if none is on its way.
    pub(super) fn launch(&mut self) {
        if self.flight.is_some() {
            return;
        }
        self.forget_the_gone();
        let is_due = self.replica.is_due(self.clock.wall());
        let is_awaited = is_due && !(self.takers.is_empty() && self.lookers.is_empty());
        let has_some = 0 < self.replica.state.n_ready() && !self.takers.is_empty();
        if self.outbox.is_empty() && !is_awaited && !has_some {
            return;
        }
        if !self.link.is_up() {
            self.begin_outage();
            return;
        }
        self.outage = None;
        let requests = self.gather(is_due);
        let mut commands: Vec<Bytes> = requests.iter().map(Request::command).collect();
        if commands.is_empty() {
            // An entry without commands lets time pass, and nothing else.
            commands = Command::Pass.encode().into_iter().collect();
        }
        self.n_sent += 1;
        let number = self.n_sent;
        let next = Box::pin(elapsed(LONG, Said::Again));
        let patience = Box::pin(sleep(PATIENCE * 2));
        let (previous, is_behind) = (self.replica.applied, false);
        let flight = Flight { number, commands, requests, previous, is_behind, next, patience };
        self.flight = Some(flight);
        self.send();
    }

    /// Takes wishes that fit into one entry: what is to be written, and takers for what is ready.
    fn gather(&mut self, is_due: bool) -> Vec<Request> {
        let mut room = self.link.report.max_batch_bytes.saturating_sub(HEAD);
        let mut gathered = Vec::new();
        let mut fits = |request: &Request, count: usize| {
            let size = request.command().len() + LENGTH;
            let fits = count < MAX_COMMANDS && size <= room;
            room -= if fits { size } else { 0 };
            fits
        };
        while let Some(next) = self.outbox.pop_front_if(|next| fits(next, gathered.len())) {
            gathered.push(next);
        }
        // What is written now may make messages ready, for takers of the same entry.
        let n_ready = self.replica.state.n_ready() + gathered.len() + usize::from(is_due);
        for _ in 0..n_ready {
            let next = self.takers.pop_front_if(|next| fits(next, gathered.len()));
            let Some(taker) = next else { break };
            gathered.push(taker);
        }
        gathered
    }

    /// Sends the entry that is on its way, behind what was heard last.
    pub(super) fn send(&mut self) {
        let Some(flight) = &mut self.flight else { return };
        let (writer, number, previous) = (self.writer, flight.number, self.replica.applied);
        let at = self.replica.time(self.clock.wall());
        let head = Head { writer, number, previous, at };
        let body = entry::encode(head, &flight.commands);
        let link = self.link.clone();
        (flight.previous, flight.is_behind) = (previous, false);
        flight.next = Box::pin(async move {
            let log = link.log();
            Said::Added(link.add(log, body, previous).await)
        });
    }

    pub(super) fn go_on(&mut self, said: Said) {
        match (said, &mut self.flight) {
            (_, None) => {}
            (Said::Added(Added::At(_)), Some(flight)) => {
                flight.next = Box::pin(elapsed(SILENCE, Said::Silence));
            }
            // What came before it was heard already, while the refusal was on its way.
            (Said::Added(Added::Behind), Some(flight))
                if flight.previous != self.replica.applied =>
            {
                self.send();
            }
            (Said::Added(Added::Behind), Some(flight)) => {
                flight.is_behind = true;
                flight.next = Box::pin(elapsed(SILENCE, Said::Silence));
            }
            (Said::Added(Added::Lost), Some(flight)) => {
                flight.next = Box::pin(elapsed(PAUSE, Said::Again));
            }
            (Said::Silence, Some(flight)) => {
                flight.next = Box::pin(elapsed(SILENCE, Said::Silence));
                self.read_anew();
            }
            (Said::Again, Some(_)) => self.send(),
        }
    }

    /// Tells whoever waits for the entry that nobody knows what becomes of it. Takers go on waiting:
    /// should it be there after all, what it took is given back as it is heard.
    pub(super) fn give_up(&mut self) {
        for request in self.flight.take().into_iter().flat_map(|flight| flight.requests) {
            match request.wish {
                Wish::Take(_) => self.takers.push_back(request),
                Wish::Write(_) | Wish::Look(_) => {
                    request.fail(ErrorKind::Indeterminate, "no answer of the server");
                }
            }
        }
    }
}
