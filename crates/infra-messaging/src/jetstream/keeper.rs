//! The task of a process that holds a replica of the queue: it adds commands to the log, and carries
//! out what it hears of it.
//!
//! At most one entry of this process is on its way. It names the entry that it follows, so it is
//! refused if another process was quicker; then it is sent again behind that one. Whether an entry
//! is there is known when it is heard in the log, so an answer that is lost neither loses nor
//! repeats it.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use infra_core::{
    Clock, Error, ErrorKind, Result,
    queue::{DeadLetter, Delivery, Message, Stats},
    random::Random,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{Sleep, sleep},
};

use super::{
    Hand, Held,
    entry::{self, Command, HEAD, Head, LENGTH},
    picture::{self, Picture},
    replica::{Outcome, Replica},
    server::{Added, Link, PATIENCE},
    tail::Tail,
};
use crate::queue::{Options, Taken};

/// How many commands stand in an entry at most.
const MAX_COMMANDS: usize = 512;

/// How long is waited for what must be in the log, before it is read anew.
const SILENCE: Duration = Duration::from_secs(2);

/// How long is waited before something is sent again.
const PAUSE: Duration = Duration::from_millis(100);

/// How long is waited when nothing is due.
const LONG: Duration = Duration::from_hours(1);

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
    fn command(&self) -> Bytes {
        match &self.wish {
            Wish::Write(command) | Wish::Take(command) => command.clone(),
            Wish::Look(_) => Bytes::new(),
        }
    }

    fn give(self, answer: Result<Answer>) {
        // Messages that nobody waits for any more are given back as they are dropped.
        let _is_awaited = self.answer.send(answer).is_ok();
    }

    fn fail(self, kind: ErrorKind, detail: &'static str) {
        self.give(Err(Error::new(kind, "use queue").detail(detail)));
    }
}

/// What became of the entry that is on its way.
enum Said {
    Added(Added),
    /// What was expected was not heard.
    Silence,
    /// It is time to send it again.
    Again,
}

/// The entry that is on its way.
struct Flight {
    number: u64,
    commands: Vec<Bytes>,
    /// Who waits for which command; nobody waits for time to pass.
    requests: Vec<Request>,
    /// The entry that it was sent to follow.
    previous: u64,
    /// It was refused since another one follows that, which is still to be heard.
    is_behind: bool,
    next: Pin<Box<dyn Future<Output = Said> + Send>>,
    patience: Pin<Box<Sleep>>,
}

/// The task's state.
pub(super) struct Keeper {
    link: Link,
    options: Options,
    clock: Arc<dyn Clock>,
    requests: mpsc::UnboundedReceiver<Request>,
    /// What deliveries are settled by.
    hand: mpsc::WeakUnboundedSender<Request>,
    failed: Arc<OnceLock<Error>>,
    replica: Replica,
    tail: Tail,
    /// Wishes that are to be written, those that wait for messages, and looks that wait for time.
    outbox: VecDeque<Request>,
    takers: VecDeque<Request>,
    lookers: VecDeque<Request>,
    flight: Option<Flight>,
    /// Until when the connection may be away before whoever waits is told so.
    outage: Option<Pin<Box<Sleep>>>,
    picture: Option<JoinHandle<()>>,
    /// The log was read anew after this entry, since what came next did not follow it.
    doubted: Option<u64>,
    writer: u64,
    n_sent: u64,
    is_open: bool,
}

/// Reads the newest image, however often that takes.
async fn load(link: Link, options: Options) -> Result<Replica> {
    loop {
        match picture::load(&link, options).await {
            Err(error) if error.is_transient() => sleep(PAUSE).await,
            loaded => return Ok(loaded?.unwrap_or_else(|| Replica::new(options))),
        }
    }
}

/// Refuses a replica that lacks an entry which the log does not have any more.
fn holding(gone: Option<u64>, replica: Replica) -> Result<Replica> {
    match gone {
        Some(gone) if replica.applied < gone => {
            let detail = format!("sequence {gone} is in neither the log nor an image");
            Err(Error::new(ErrorKind::Corrupt, "read log of queue").detail(detail))
        }
        Some(_) | None => Ok(replica),
    }
}

async fn elapsed(pause: Duration, said: Said) -> Said {
    sleep(pause).await;
    said
}

/// Waits for a timer that may not be set.
async fn fires(timer: Option<Pin<&mut Sleep>>) {
    match timer {
        Some(timer) => timer.await,
        None => std::future::pending().await,
    }
}

impl Keeper {
    pub(super) async fn open(
        link: Link,
        options: Options,
        clock: Arc<dyn Clock>,
        hand: &Hand,
        requests: mpsc::UnboundedReceiver<Request>,
    ) -> Result<Self> {
        let loaded = picture::load(&link, options).await?;
        let replica = loaded.unwrap_or_else(|| Replica::new(options));
        let tail = Tail::after(&link, replica.applied);
        Ok(Self {
            link,
            options,
            clock,
            requests,
            hand: hand.requests.downgrade(),
            failed: Arc::clone(&hand.failed),
            replica,
            tail,
            outbox: VecDeque::new(),
            takers: VecDeque::new(),
            lookers: VecDeque::new(),
            flight: None,
            outage: None,
            picture: None,
            doubted: None,
            writer: Random::from_system().next_u64(),
            n_sent: 0,
            is_open: true,
        })
    }

    /// Serves until nobody holds the queue any more, and everything that was asked is answered.
    pub(super) async fn run(mut self) {
        while self.is_open || self.flight.is_some() || !self.outbox.is_empty() {
            self.answer_lookers();
            self.launch();
            if let Err(error) = self.turn().await {
                // What it holds may be other than what the others hold, so nothing is promised.
                let _is_first = self.failed.set(error).is_ok();
                return;
            }
        }
    }

    /// Waits until something happens and deals with it.
    async fn turn(&mut self) -> Result<()> {
        let wall = self.clock.wall();
        let is_awaited = !self.takers.is_empty() && self.flight.is_none();
        let due = self.replica.state.due().filter(|_| is_awaited);
        let pause = match &self.outage {
            // What is due cannot be written, so it is only looked whether the link is up again.
            Some(_) => PAUSE,
            None => due.map_or(LONG, |due| due.since(self.replica.moment(wall).now)),
        };
        let (next, patience) = match &mut self.flight {
            Some(flight) => (Some(&mut flight.next), Some(flight.patience.as_mut())),
            None => (None, None),
        };
        let said = async {
            match next {
                Some(next) => next.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            (sequence, body) = self.tail.next(&self.link, self.replica.applied) => {
                self.hear(sequence, body).await?;
            }
            said = said => self.go_on(said),
            () = fires(patience) => self.give_up(),
            () = fires(self.outage.as_mut().map(Pin::as_mut)) => self.end_outage(),
            () = self.link.back.notified() => {
                self.outage = None;
                self.read_anew();
            }
            request = self.requests.recv(), if self.is_open => self.take_in(request),
            () = sleep(pause) => {}
        }
        Ok(())
    }

    fn take_in(&mut self, request: Option<Request>) {
        self.is_open = request.is_some();
        let mut next = request;
        while let Some(request) = next {
            match request.wish {
                Wish::Write(_) => self.outbox.push_back(request),
                Wish::Take(_) => self.takers.push_back(request),
                Wish::Look(_) => self.lookers.push_back(request),
            }
            // What came at the same time goes into the same entry.
            next = self.requests.try_recv().ok();
        }
    }

    /// Answers looks, unless something is due that the log must let happen first.
    fn answer_lookers(&mut self) {
        let wall = self.clock.wall();
        if self.replica.is_due(wall) {
            return;
        }
        let state = &self.replica.state;
        for looker in self.lookers.drain(..) {
            let seen = match &looker.wish {
                Wish::Look(Look::Stats) => Answer::Stats(state.stats(self.replica.moment(wall))),
                Wish::Look(Look::Dead(limit)) => Answer::Dead(state.dead_letters(*limit)),
                Wish::Look(Look::Waiting(limit)) => Answer::Waiting(state.peek(*limit)),
                Wish::Write(_) | Wish::Take(_) => continue,
            };
            looker.give(Ok(seen));
        }
    }

    /// Sends an entry of what is wished, if none is on its way.
    fn launch(&mut self) {
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
    fn send(&mut self) {
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

    fn go_on(&mut self, said: Said) {
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

    fn read_anew(&mut self) {
        self.tail = Tail::after(&self.link, self.replica.applied);
    }

    /// Tells whoever waits for the entry that nobody knows what becomes of it. Takers go on waiting:
    /// should it be there after all, what it took is given back as it is heard.
    fn give_up(&mut self) {
        for request in self.flight.take().into_iter().flat_map(|flight| flight.requests) {
            match request.wish {
                Wish::Take(_) => self.takers.push_back(request),
                Wish::Write(_) | Wish::Look(_) => {
                    request.fail(ErrorKind::Indeterminate, "no answer of the server");
                }
            }
        }
    }

    /// Forgets takers that do not wait any more.
    fn forget_the_gone(&mut self) {
        self.takers.retain(|taker| !taker.answer.is_closed());
    }

    fn begin_outage(&mut self) {
        self.outage.get_or_insert_with(|| Box::pin(sleep(PATIENCE)));
    }

    fn end_outage(&mut self) {
        self.outage = None;
        for request in self.outbox.drain(..).chain(self.lookers.drain(..)) {
            request.fail(ErrorKind::Unavailable, "the link is down");
        }
    }

    /// Carries out an entry of the log.
    async fn hear(&mut self, sequence: u64, body: Bytes) -> Result<()> {
        if sequence <= self.replica.applied {
            return Ok(());
        }
        let (head, commands) = entry::decode(body)?;
        if head.previous != self.replica.applied {
            // Entries got lost on their way here, or, if that is so again, were cut away.
            if self.doubted.replace(self.replica.applied) != Some(self.replica.applied) {
                self.read_anew();
                return Ok(());
            }
            return self.pass_over(head.previous).await;
        }
        let is_own = head.writer == self.writer;
        let outcomes = self.replica.apply(sequence, head.at, commands, is_own)?;
        if is_own {
            self.answer(head.number, outcomes);
            self.take_picture()?;
        } else if self.flight.as_ref().is_some_and(|flight| flight.is_behind) {
            self.send();
        }
        Ok(())
    }

    fn answer(&mut self, number: u64, outcomes: Vec<Outcome>) {
        let flight = self.flight.take_if(|flight| flight.number == number);
        let mut requests = flight.into_iter().flat_map(|flight| flight.requests);
        let mut idle = Vec::new();
        for outcome in outcomes {
            // Of an entry that was given up, what it took is given back as it is dropped.
            let request = requests.next();
            let is_empty = matches!(&outcome, Outcome::Taken(taken) if taken.is_empty());
            let answer = self.answer_of(outcome);
            match request {
                Some(taker) if is_empty => idle.push(taker),
                Some(request) => request.give(answer),
                None => drop(answer),
            }
        }
        for taker in idle.into_iter().rev() {
            self.takers.push_front(taker);
        }
    }

    fn answer_of(&self, outcome: Outcome) -> Result<Answer> {
        Ok(match outcome {
            Outcome::New(new) => Answer::New(new?),
            Outcome::Taken(taken) => {
                Answer::Taken(taken.into_iter().filter_map(|one| self.deliver(one)).collect())
            }
            Outcome::Done(done) => done.map(|()| Answer::Done)?,
            Outcome::Is(is) => Answer::Is(is),
            Outcome::Count(count) => Answer::Count(count),
        })
    }

    fn deliver(&self, taken: Taken) -> Option<Delivery> {
        let requests = self.hand.upgrade()?;
        let hand = Hand { requests, failed: Arc::clone(&self.failed) };
        let Taken { number, lease, message, attempts, published } = taken;
        let held = Held { hand, number, lease };
        Some(Delivery::new(message, attempts, published, Box::new(held)))
    }

    /// Takes up an image instead of the entry `missing`, which the log does not bring.
    async fn pass_over(&mut self, missing: u64) -> Result<()> {
        // An entry is cut away after the image that holds it was written, so it is looked first.
        let gone = self.link.is_gone(missing).await.then_some(missing);
        self.load_anew(gone).await
    }

    /// Takes up the newest image, which must hold the entry `gone`, and the log from there on. As
    /// long as it cannot be read, whoever asks is told so as in any other outage; nothing is read if
    /// nobody holds the queue any more.
    async fn load_anew(&mut self, gone: Option<u64>) -> Result<()> {
        let mut loading = Box::pin(load(self.link.clone(), self.options));
        while self.is_open || !self.outbox.is_empty() {
            self.begin_outage();
            tokio::select! {
                loaded = &mut loading => {
                    self.replica = holding(gone, loaded?)?;
                    self.outage = None;
                    self.read_anew();
                    break;
                }
                request = self.requests.recv(), if self.is_open => self.take_in(request),
                () = fires(self.outage.as_mut().map(Pin::as_mut)) => {
                    self.end_outage();
                    self.give_up();
                }
            }
            self.forget_the_gone();
        }
        // What was on its way may be in the image, where nobody sees what became of it.
        self.give_up();
        Ok(())
    }

    /// Begins to write an image if the log has become long.
    fn take_picture(&mut self) -> Result<()> {
        let is_busy = self.picture.as_ref().is_some_and(|task| !task.is_finished());
        if is_busy || self.replica.n_since < self.link.cut_log_every {
            return Ok(());
        }
        self.replica.n_since = 0;
        let picture = Picture::of(&self.replica)?;
        let link = self.link.clone();
        self.picture = Some(tokio::spawn(async move {
            // If it fails, the log stays as long as it is until the next one.
            if let Err(error) = picture.save(link.clone()).await {
                tracing::warn!(
                    stream = link.images,
                    error = &error as &(dyn std::error::Error + 'static),
                    "the image of a queue was not written, so its log is not cut"
                );
            }
        }));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use infra_core::{SystemClock, id::QueueName, queue::Queue as _};
    use infra_testkit::server::{Kind, Server};

    use super::*;
    use crate::jetstream::{JetStream, JetStreamQueue};

    fn queue_name(name: &str) -> QueueName {
        QueueName::new(name).unwrap()
    }

    #[tokio::test]
    async fn an_entry_that_somebody_removed_from_the_log_is_named_instead_of_looked_for_for_ever() {
        let server = Server::start(Kind::Nats).await.unwrap();
        let (at, options) = (JetStream::at(server.url()), Options::new(9));
        let open = || {
            let (at, clock) = (at.clone(), SystemClock::shared());
            JetStreamQueue::connect(at, queue_name("work"), options, clock)
        };
        let queue = open().await.unwrap();
        queue.set_paused(true).await.unwrap();
        queue.set_paused(false).await.unwrap();
        let link = Link::open(&at, &queue_name("work"), &options).await.unwrap();
        let (last, _) = link.last(&link.stream, link.log()).await.unwrap().unwrap();
        let stream = link.context.get_stream_no_info(&link.stream).await.unwrap();
        assert!(!link.is_gone(last - 1).await);
        stream.delete_message(last - 1).await.unwrap();
        assert!(link.is_gone(last - 1).await);
        let refused = open().await.unwrap_err();
        assert_eq!(*refused.kind(), ErrorKind::Poisoned);
        let cause = refused.source().unwrap().to_string();
        assert!(cause.contains(&format!("sequence {} is in neither", last - 1)), "{cause}");
        queue.set_paused(true).await.unwrap();
    }

    #[tokio::test]
    async fn who_asks_while_no_image_can_be_read_is_told_and_a_dropped_queue_ends_the_keeper() {
        let mut server = Server::start(Kind::Nats).await.unwrap();
        let (at, options) = (JetStream::at(server.url()), Options::new(9));
        let link = Link::open(&at, &queue_name("work"), &options).await.unwrap();
        let (requests, receiver) = mpsc::unbounded_channel();
        let hand = Hand { requests, failed: Arc::default() };
        let clock = SystemClock::shared();
        let mut keeper = Keeper::open(link, options, clock, &hand, receiver).await.unwrap();
        server.kill().unwrap();
        let (answer, taken) = oneshot::channel();
        keeper.takers.push_back(Request { wish: Wish::Take(Bytes::new()), answer });
        let loading = tokio::spawn(async move {
            keeper.load_anew(None).await.unwrap();
            keeper.takers.len()
        });
        let looked = hand.ask(Wish::Look(Look::Stats));
        let (written, looked) = tokio::join!(hand.write(&Command::Pass), looked);
        for said in [written, looked] {
            assert_eq!(*said.unwrap_err().kind(), ErrorKind::Unavailable);
        }
        drop(hand);
        assert_eq!(loading.await.unwrap(), 1, "a taker goes on waiting");
        drop(taken);
    }
}
