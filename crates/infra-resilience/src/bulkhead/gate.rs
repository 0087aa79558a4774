//! Places that are handed out, and handed on.
//!
//! This file and the line's are checked by loom (`tests/interleavings/bulkhead.rs`), which brings its own `sync`.

use std::{
    borrow::Cow,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use infra_core::budget::Priority;

use super::{
    line::{Joined, Line, Place},
    sync::{Mutex, oneshot},
};
use crate::refused::Reason;

/// Who asks: a client's name, to share fairly. Everybody is one client by default.
pub(crate) type ClientKey = Cow<'static, str>;

/// Hands out places up to a limit that may move; who gets none waits in line.
pub(crate) struct Gate {
    state: Mutex<Places>,
    refused: AtomicU64,
}

struct Places {
    limit: usize,
    running: usize,
    peak: usize,
    admitted: u64,
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

/// A place for as long as its gate is borrowed; dropped, it goes to the next in line.
#[must_use]
pub(crate) struct Lent<'a>(&'a Arc<Gate>);

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
            state: Mutex::new(Places { limit, running: 0, peak: 0, admitted: 0, line }),
            refused: AtomicU64::new(0),
        })
    }

    /// Hands out a place that is free and that nobody waits for.
    #[inline]
    pub(crate) fn enter_free(self: &Arc<Self>) -> Option<Lent<'_>> {
        let mut places = self.state.lock();
        if !places.is_free() {
            return None;
        }
        places.run();
        Some(Lent(self))
    }

    /// Hands out a place, or one in the line.
    pub(crate) fn enter(
        self: &Arc<Self>,
        priority: Priority,
        client: &ClientKey,
    ) -> Result<Entry, Reason> {
        let mut places = self.state.lock();
        if places.is_free() {
            places.run();
            drop(places);
            return Ok(Entry::Run(Held(Arc::clone(self))));
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
        loop {
            let next = self.state.lock().next();
            let Some(next) = next else { return };
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
            admitted: places.admitted,
            refused: self.refused.load(Relaxed),
        }
    }

    /// Hands a place that is counted already to somebody who waited; if it is gone, the place comes
    /// back by its drop.
    fn hand_to(self: &Arc<Self>, next: oneshot::Sender<Turn>) {
        let _gone = next.send(Turn::Run(Held(Arc::clone(self))));
    }

    /// Gives a place back; who may run now is told.
    #[inline]
    fn release(self: &Arc<Self>) {
        let next = {
            let mut places = self.state.lock();
            places.running -= 1;
            places.next()
        };
        if let Some(next) = next {
            self.hand_to(next);
        }
    }
}

impl Places {
    /// Returns whether a newcomer may run. Nobody overtakes: while somebody waits, it waits behind.
    #[inline]
    fn is_free(&self) -> bool {
        self.running < self.limit && self.line.len() == 0
    }

    /// Takes the next out of the line, if there is a place for it.
    #[inline]
    fn next(&mut self) -> Option<oneshot::Sender<Turn>> {
        if self.limit <= self.running || self.line.len() == 0 {
            return None;
        }
        let next = self.line.pop()?;
        self.run();
        Some(next)
    }

    #[inline]
    fn run(&mut self) {
        self.admitted += 1;
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

impl Drop for Lent<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.release();
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Held")
    }
}
