//! The task of a process that holds a replica of the queue: it adds commands to the log, and carries
//! out what it hears of it.
//!
//! At most one entry of this process is on its way. It names the entry that it follows, so it is
//! refused if another process was quicker; then it is sent again behind that one. Whether an entry
//! is there is known when it is heard in the log, so an answer that is lost neither loses nor
//! repeats it.

mod anew;
mod flight;

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use infra_core::{Clock, Error, ErrorKind, Result, queue::Delivery, random::Random};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Sleep, sleep},
};

use self::flight::Flight;
use super::{
    Hand, Held, entry,
    picture::{self, Picture},
    replica::{Outcome, Replica},
    request::{Answer, Look, Request, Wish},
    server::{Link, PATIENCE},
    tail::Tail,
};
use crate::queue::{Options, Taken};

/// How long is waited before something is sent again.
const PAUSE: Duration = Duration::from_millis(100);

/// How long is waited when nothing is due.
const LONG: Duration = Duration::from_hours(1);

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
            () = fires(self.outage.as_mut().map(Pin::as_mut)) => {
                self.end_outage("the server cannot be reached");
            }
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

    /// Forgets takers that do not wait any more.
    fn forget_the_gone(&mut self) {
        self.takers.retain(|taker| !taker.answer.is_closed());
    }

    fn begin_outage(&mut self) {
        self.outage.get_or_insert_with(|| Box::pin(sleep(PATIENCE)));
    }

    /// Tells whoever waits why nothing comes of it for now. Takers go on waiting.
    fn end_outage(&mut self, why: &'static str) {
        self.outage = None;
        for request in self.outbox.drain(..).chain(self.lookers.drain(..)) {
            request.fail(ErrorKind::Unavailable, why);
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
            return self.load_anew(Some(head.previous)).await;
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
