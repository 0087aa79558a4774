//! Places that are handed out, and handed on.

use std::{
    borrow::Cow,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use infra_core::budget::Priority;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::line::{Joined, Line, Place};
use crate::refused::Reason;

/// Who asks: a client's name, to share fairly. Everybody is one client by default.
pub(crate) type ClientKey = Cow<'static, str>;

/// Hands out places up to a limit that may move; who gets none waits in line.
pub(crate) struct Gate {
    state: Mutex<Places>,
    admitted: AtomicU64,
    refused: AtomicU64,
}

struct Places {
    limit: usize,
    running: usize,
    peak: usize,
    line: Line<ClientKey, oneshot::Sender<Turn>>,
}

/// What a waiter is told.
#[derive(Debug)]
enum Turn {
    /// Here is its place.
    Run(Held),
    /// Somebody else got its place in the line.
    Displaced,
}

/// A place; dropped, it goes to the next in line.
#[must_use]
pub(crate) struct Held(Arc<Gate>);

/// A place in the line; dropped, it is given up.
pub(crate) struct Waiting {
    gate: Arc<Gate>,
    priority: Priority,
    place: Place,
    turn: oneshot::Receiver<Turn>,
}

/// What became of somebody who asked.
pub(crate) enum Entry {
    Run(Held),
    Wait(Waiting),
}

/// What a gate counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    pub(crate) limit: usize,
    pub(crate) running: usize,
    pub(crate) waiting: usize,
    pub(crate) peak: usize,
    pub(crate) admitted: u64,
    pub(crate) refused: u64,
}

impl Gate {
    pub(crate) fn new(limit: usize, queue: usize) -> Arc<Self> {
        let line = Line::new(queue);
        Arc::new(Self {
            state: Mutex::new(Places { limit, running: 0, peak: 0, line }),
            admitted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        })
    }

    /// Hands out a place, or one in the line.
    pub(crate) fn enter(
        self: &Arc<Self>,
        priority: Priority,
        client: &ClientKey,
    ) -> Result<Entry, Reason> {
        let mut places = self.state.lock();
        // Nobody overtakes: while somebody waits, newcomers wait behind.
        if places.running < places.limit && places.line.len() == 0 {
            places.run();
            drop(places);
            return Ok(Entry::Run(self.hold()));
        }
        let (sender, turn) = oneshot::channel();
        match places.line.join(priority, client, sender) {
            Joined::Waits { place, displaced } => {
                drop(places);
                if let Some(displaced) = displaced {
                    let _gone = displaced.send(Turn::Displaced);
                }
                let gate = Arc::clone(self);
                Ok(Entry::Wait(Waiting { gate, priority, place, turn }))
            }
            Joined::Full => {
                drop(places);
                self.refuse();
                Err(Reason::QueueFull)
            }
        }
    }

    /// Moves the limit; those who may run now are told.
    pub(crate) fn set_limit(self: &Arc<Self>, limit: usize) {
        self.state.lock().limit = limit;
        while let Some(next) = self.next() {
            self.hand_to(next);
        }
    }

    /// Counts somebody who was refused a place.
    pub(crate) fn refuse(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    pub(crate) fn counts(&self) -> Counts {
        let places = self.state.lock();
        Counts {
            limit: places.limit,
            running: places.running,
            waiting: places.line.len(),
            peak: places.peak,
            admitted: self.admitted.load(Relaxed),
            refused: self.refused.load(Relaxed),
        }
    }

    fn hold(self: &Arc<Self>) -> Held {
        self.admitted.fetch_add(1, Relaxed);
        Held(Arc::clone(self))
    }

    /// Takes the next out of the line, if there is a place for it.
    fn next(&self) -> Option<oneshot::Sender<Turn>> {
        let mut places = self.state.lock();
        if places.limit <= places.running {
            return None;
        }
        let next = places.line.pop()?;
        places.run();
        Some(next)
    }

    /// Hands a place that is counted already to somebody who waited; if it is gone, the place comes
    /// back by its drop.
    fn hand_to(self: &Arc<Self>, next: oneshot::Sender<Turn>) {
        let _gone = next.send(Turn::Run(self.hold()));
    }

    /// Gives a place back; those who may run now are told.
    fn release(self: &Arc<Self>) {
        self.state.lock().running -= 1;
        if let Some(next) = self.next() {
            self.hand_to(next);
        }
    }
}

impl Places {
    fn run(&mut self) {
        self.running += 1;
        self.peak = self.peak.max(self.running);
    }
}

impl Waiting {
    /// Waits for the turn.
    pub(crate) async fn turn(mut self) -> Result<Held, Reason> {
        match (&mut self.turn).await {
            Ok(Turn::Run(held)) => Ok(held),
            Ok(Turn::Displaced) | Err(_) => {
                self.gate.refuse();
                Err(Reason::Displaced)
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // If a place was handed over meanwhile it lies in the channel, and comes back with it.
        self.gate.state.lock().line.leave(self.priority, self.place);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Held")
    }
}
