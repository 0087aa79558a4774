//! A queue of many processes over a log in NATS `JetStream`.

mod entry;
mod keeper;
mod picture;
mod replica;
mod request;
mod server;
mod tail;

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use infra_core::{
    Clock, Error, ErrorKind, Result,
    clock::Timestamp,
    durability::Durability,
    id::{MessageId, QueueName},
    queue::{Cause, DeadLetter, Delivery, Features, Lease, Message, Queue, Settlement, Stats},
};
use tokio::sync::{mpsc, oneshot};

pub use self::server::{JetStream, ServerReport};
use self::{
    entry::{Command, HEAD, LENGTH},
    keeper::Keeper,
    replica::durability,
    request::{Answer, Look, Request, Wish},
    server::Link,
};
use crate::{
    queue::Options,
    telemetry::{HANDED_OUT, Outcome, REFUSED, SETTLED},
};

/// Hands out the messages of all processes that open it over one NATS server or cluster. Clones are
/// the same queue.
///
/// `JetStream` keeps a log of commands; every process carries them out in the order of the log and
/// so holds the same queue in memory, within its capacity. Of the server this asks for a stream with
/// compare-and-set, so 2.9 does, and everything of the port's contract is kept on every version:
/// what the server has of its own (consumers, acknowledgements, delays, times to live) is not used,
/// since its late acknowledgement settles somebody else's delivery and it counts crashes, failures
/// and releases as one. An image of the queue is written now and then, and the log cut.
///
/// A server acknowledges before it syncs unless it was told otherwise, so
/// [`Durability::Durable`] is refused unless its operator asserts by [`JetStream::syncs_always`] that
/// it was, and a warning is logged. Processes need clocks that agree, since leases, delays and times
/// to live are judged by the wall clock of whoever asks. Looks tell what this process has heard,
/// which may be a moment behind. Publishers that wait for room, and fairness to keys, are refused.
#[derive(Debug, Clone)]
pub struct JetStreamQueue(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    name: QueueName,
    hand: Hand,
    report: ServerReport,
}

/// What the keeper of the replica is asked by.
#[derive(Clone)]
struct Hand {
    // Its length is bounded by the calls that are under way: each waits for its answer.
    requests: mpsc::UnboundedSender<Request>,
    failed: Arc<OnceLock<Error>>,
}

impl fmt::Debug for Hand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hand").field("failed", &self.failed).finish_non_exhaustive()
    }
}

impl Hand {
    fn send(&self, wish: Wish) -> Result<oneshot::Receiver<Result<Answer>>> {
        let (answer, receiver) = oneshot::channel();
        match self.requests.send(Request { wish, answer }) {
            Ok(()) => Ok(receiver),
            Err(_) => Err(self.gone()),
        }
    }

    async fn ask(&self, wish: Wish) -> Result<Answer> {
        self.send(wish)?.await.unwrap_or_else(|_| Err(self.gone()))
    }

    async fn write(&self, command: &Command) -> Result<Answer> {
        self.ask(Wish::Write(command.encode()?)).await
    }

    /// Returns why the keeper is not there any more.
    fn gone(&self) -> Error {
        match self.failed.get() {
            Some(error) => Error::new(ErrorKind::Poisoned, "use queue").because(error.clone()),
            None => Error::new(ErrorKind::Closed, "use queue"),
        }
    }
}

impl JetStreamQueue {
    /// Connects to a server and makes the queue's stream if it is not there. Every process that
    /// opens a queue does so with the same options.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](ErrorKind::Unavailable) if the server cannot be reached,
    /// [`Unsupported`](ErrorKind::Unsupported) if it is older than 2.9 or has no `JetStream`, if the
    /// stream was made by somebody else in a way that loses messages, or for options that this
    /// engine does not keep, and [`Invalid`](ErrorKind::Invalid) if the queue was made with others.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the stream there or not.
    pub async fn connect(
        server: JetStream,
        name: QueueName,
        options: Options,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        let link = Link::open(&server, &name, &options).await?;
        let report = link.report.clone();
        let (requests, receiver) = mpsc::unbounded_channel();
        let hand = Hand { requests, failed: Arc::default() };
        let keeper = Keeper::open(link, options, clock, &hand, receiver).await?;
        // It ends when nobody holds the queue or a delivery of it any more.
        tokio::spawn(keeper.run());
        // Once this is carried out, everything before it is.
        hand.write(&Command::Pass).await?;
        Ok(Self(Arc::new(Shared { name, hand, report })))
    }

    /// Returns what was found out about the server.
    pub fn server(&self) -> &ServerReport {
        &self.0.report
    }

    fn check(&self, wanted: Durability) -> Result<()> {
        if wanted <= self.features().durability {
            return Ok(());
        }
        let detail = "this JetStream acknowledges before it syncs, as far as is known";
        Err(Error::new(ErrorKind::Unsupported, "publish message").detail(detail))
    }
}

/// What an answer to another wish is told as.
fn other() -> Error {
    Error::new(ErrorKind::Internal, "use queue").detail("an answer to something else")
}

#[async_trait]
impl Queue for JetStreamQueue {
    fn name(&self) -> &QueueName {
        &self.0.name
    }

    fn features(&self) -> Features {
        Features::all(durability(self.0.report.syncs_always))
    }

    async fn publish(&self, messages: Vec<Message>, durability: Durability) -> Result<Vec<bool>> {
        self.check(durability)?;
        if messages.is_empty() {
            return Ok(Vec::new());
        }
        let command = Command::Publish(messages.iter().map(Into::into).collect()).encode()?;
        let most = self.0.report.max_batch_bytes.saturating_sub(HEAD + LENGTH);
        if most < command.len() {
            let detail = format!("{} bytes, the server takes {most}", command.len());
            return Err(Error::invalid("publish message", detail));
        }
        let said = self.0.hand.ask(Wish::Write(command)).await;
        let is_full = said.as_ref().is_err_and(|error| *error.kind() == ErrorKind::Overloaded);
        REFUSED.add(u64::from(is_full));
        let Answer::New(new) = said? else { return Err(other()) };
        Ok(new)
    }

    async fn receive(&self, limit: usize, lease: Duration) -> Result<Vec<Delivery>> {
        if limit == 0 || lease.is_zero() {
            let detail = format!("limit {limit}, lease {lease:?}");
            return Err(Error::invalid("receive message", detail));
        }
        let command = Command::Take { limit: limit as u64, lease };
        let answer = self.0.hand.ask(Wish::Take(command.encode()?)).await?;
        let Answer::Taken(taken) = answer else { return Err(other()) };
        HANDED_OUT.add(taken.len() as u64);
        Ok(taken)
    }

    async fn stats(&self) -> Result<Stats> {
        let answer = self.0.hand.ask(Wish::Look(Look::Stats)).await?;
        let Answer::Stats(stats) = answer else { return Err(other()) };
        Ok(stats)
    }

    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>> {
        let answer = self.0.hand.ask(Wish::Look(Look::Dead(limit))).await?;
        let Answer::Dead(letters) = answer else { return Err(other()) };
        Ok(letters)
    }

    async fn peek(&self, limit: usize) -> Result<Vec<Message>> {
        let answer = self.0.hand.ask(Wish::Look(Look::Waiting(limit))).await?;
        let Answer::Waiting(messages) = answer else { return Err(other()) };
        Ok(messages)
    }

    async fn replay(&self, id: MessageId) -> Result<bool> {
        let answer = self.0.hand.write(&Command::Replay(id)).await?;
        let Answer::Is(is) = answer else { return Err(other()) };
        Ok(is)
    }

    async fn purge_dead(&self, before: Timestamp, cause: Option<Cause>) -> Result<u64> {
        let answer = self.0.hand.write(&Command::purge(before, cause)).await?;
        let Answer::Count(count) = answer else { return Err(other()) };
        Ok(count)
    }

    async fn clear(&self) -> Result<u64> {
        let answer = self.0.hand.write(&Command::Clear).await?;
        let Answer::Count(count) = answer else { return Err(other()) };
        Ok(count)
    }

    async fn set_paused(&self, paused: bool) -> Result<()> {
        self.0.hand.write(&Command::Pause(paused)).await.map(|_| ())
    }
}

/// A lease of this queue.
#[derive(Debug)]
struct Held {
    hand: Hand,
    number: u64,
    lease: u64,
}

impl Held {
    fn settling(&self, settlement: Settlement) -> Command {
        let (number, lease) = (self.number, self.lease);
        Command::Settle { number, lease, verdict: settlement.into() }
    }
}

#[async_trait]
impl Lease for Held {
    async fn settle(&self, settlement: Settlement) -> Result<()> {
        let outcome = Outcome::of(&settlement);
        self.hand.write(&self.settling(settlement)).await?;
        SETTLED.add_for(outcome, 1);
        Ok(())
    }

    async fn extend(&self, lease: Duration) -> Result<()> {
        let (number, own) = (self.number, self.lease);
        self.hand.write(&Command::Extend { number, lease: own, length: lease }).await.map(|_| ())
    }

    fn abandon(&self) {
        // What is lost here ends with its lease.
        let release = self.settling(Settlement::Release).encode();
        let sent = release.and_then(|command| self.hand.send(Wish::Write(command)));
        if sent.is_ok() {
            SETTLED.add_for(Outcome::Released, 1);
        }
    }
}
