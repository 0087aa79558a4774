//! The games that are played, and what became of those that were.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    marker::PhantomData,
    sync::Arc,
    time::Duration,
};

use infra_core::{
    Clock,
    clock::Instant,
    metric::{Declaration, Label},
};
use parking_lot::Mutex;

use super::{
    actor::{Actor, Ending, Outcome},
    analytics::{Analytics, Hour, Hours, WinRate},
    metrics::{
        ACTION, ACTIVE, DURATION, ENDED, SEATS, STARTED, UNKNOWN, WINS, declarations, phase,
    },
    players::{PlayerFigures, Players},
};

/// How much is kept in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    games: usize,
    players: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { games: 100_000, players: 10_000 }
    }
}

impl Options {
    /// Sets how many games may be active; 100,000 by default. One more is counted as started, and
    /// its end as unknown.
    #[must_use]
    pub const fn games(mut self, count: usize) -> Self {
        self.games = count;
        self
    }

    /// Sets how many players have figures of their own; 10,000 by default. Then who was idle
    /// longest is forgotten.
    #[must_use]
    pub const fn players(mut self, count: usize) -> Self {
        self.players = count;
        self
    }
}

/// Who sits at a game.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seats {
    /// People.
    pub people: u32,
    /// Bots.
    pub bots: u32,
}

/// How a game ended, and who won if it was completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Result {
    /// It was played to its end; nobody may have won.
    Completed(Option<Actor>),
    /// It was given up.
    Abandoned,
}

impl Result {
    const fn ending(self) -> Ending {
        match self {
            Self::Completed(_) => Ending::Completed,
            Self::Abandoned => Ending::Abandoned,
        }
    }
}

#[derive(Debug)]
struct Game {
    seats: Seats,
    begun: Instant,
}

#[derive(Debug)]
struct Book {
    active: HashMap<String, Game>,
    players: Players,
    hours: Hours,
    totals: Totals,
}

#[derive(Debug, Default)]
struct Totals {
    started: u64,
    completed: u64,
    abandoned: u64,
    played: Duration,
    seats: [u64; 2],
    wins: [u64; 2],
}

/// Counts the games of a service whose phases are `P`. Cheap to clone.
///
/// Figures of one game or player never become labels; what belongs to all goes to the metrics, what
/// belongs to one is kept here in bounded memory.
pub struct Games<P> {
    options: Options,
    clock: Arc<dyn Clock>,
    book: Arc<Mutex<Book>>,
    phases: PhantomData<fn(P)>,
}

impl<P> Clone for Games<P> {
    fn clone(&self) -> Self {
        let (options, phases) = (self.options, self.phases);
        Self { options, clock: Arc::clone(&self.clock), book: Arc::clone(&self.book), phases }
    }
}

impl<P> fmt::Debug for Games<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let active = self.book.lock().active.len();
        f.debug_struct("Games").field("active", &active).finish_non_exhaustive()
    }
}

impl<P: Label> Games<P> {
    /// Creates the count of no game yet.
    pub fn new(options: Options, clock: Arc<dyn Clock>) -> Self {
        let book = Book {
            active: HashMap::new(),
            players: Players::new(options.players),
            hours: Hours::default(),
            totals: Totals::default(),
        };
        Self { options, clock, book: Arc::new(Mutex::new(book)), phases: PhantomData }
    }

    /// Returns the metrics of such games.
    pub fn declarations() -> Vec<Declaration> {
        declarations::<P>()
    }

    /// Counts a game that starts; returns false if it is active already.
    pub fn start(&self, game: &str, seats: Seats) -> bool {
        let (now, wall) = (self.clock.now(), self.clock.wall());
        let mut book = self.book.lock();
        let is_full = self.options.games <= book.active.len();
        match book.active.entry(game.to_owned()) {
            Entry::Occupied(_) => return false,
            Entry::Vacant(place) if !is_full => {
                place.insert(Game { seats, begun: now });
            }
            Entry::Vacant(_) => {}
        }
        book.totals.started += 1;
        book.hours.start(wall, u64::from(seats.people) + u64::from(seats.bots));
        STARTED.add(1);
        gauge(&book);
        true
    }

    /// Takes up a game that was begun elsewhere or before a restart: it is active, and its start is
    /// not counted again. Its duration is counted from now on.
    ///
    /// One that is active already stays as it is; one beyond the most that are followed is not
    /// followed, so its end is counted as unknown.
    pub fn resume(&self, game: &str, seats: Seats) {
        let begun = self.clock.now();
        let mut book = self.book.lock();
        if book.active.len() < self.options.games {
            book.active.entry(game.to_owned()).or_insert(Game { seats, begun });
        }
        gauge(&book);
    }

    /// Lets go of a game that goes on elsewhere, or later: it is not active here any more, and no
    /// end of it is counted.
    pub fn suspend(&self, game: &str) {
        let mut book = self.book.lock();
        book.active.remove(game);
        gauge(&book);
    }

    /// Counts a game that ended; returns false, and counts nothing but that, if it is not active.
    pub fn end(&self, game: &str, result: Result) -> bool {
        let (now, wall) = (self.clock.now(), self.clock.wall());
        let mut book = self.book.lock();
        let Some(ended) = book.active.remove(game) else {
            UNKNOWN.add(1);
            return false;
        };
        let took = now.since(ended.begun);
        let ending = result.ending();
        book.hours.end(wall, ending);
        match result {
            Result::Completed(winner) => book.totals.complete(ended.seats, winner, took),
            Result::Abandoned => book.totals.abandoned += 1,
        }
        ENDED.add_for(ending, 1);
        DURATION.record_for(ending, took.as_secs_f64());
        gauge(&book);
        true
    }

    /// Counts an action of a player; one that failed is no action of his.
    pub fn act(&self, player: &str, actor: Actor, outcome: Outcome, took: Duration) {
        ACTION.record_for((actor, outcome), took.as_secs_f64());
        if outcome == Outcome::Done {
            let wall = self.clock.wall();
            let mut book = self.book.lock();
            book.players.act(player, took);
            book.hours.act(wall);
        }
    }

    /// Counts the time that a game was in a phase.
    pub fn phase(&self, in_phase: P, took: Duration) {
        phase::<P>().record_for(in_phase, took.as_secs_f64());
    }

    /// Returns whether a game is active.
    pub fn is_active(&self, game: &str) -> bool {
        self.book.lock().active.contains_key(game)
    }

    /// Returns the ids of the games that are active.
    pub fn active(&self) -> Vec<String> {
        let mut active: Vec<String> = self.book.lock().active.keys().cloned().collect();
        active.sort_unstable();
        active
    }

    /// Returns what a player did, unless he was forgotten.
    pub fn player(&self, player: &str) -> Option<PlayerFigures> {
        self.book.lock().players.get(player)
    }

    /// Returns how many players have figures.
    pub fn players(&self) -> usize {
        self.book.lock().players.len()
    }

    /// Returns the last `count` hours of the clock, with the one that runs, oldest first; hours in
    /// which nothing happened are left out. 24 are kept.
    pub fn hours(&self, count: u64) -> Vec<Hour> {
        self.book.lock().hours.last(self.clock.wall(), count)
    }

    /// Forgets the hours that are over for a day.
    pub fn forget_hours(&self) {
        let wall = self.clock.wall();
        self.book.lock().hours.forget(wall);
    }

    /// Returns what all games say together.
    #[expect(clippy::cast_precision_loss, reason = "shares and averages")]
    pub fn analytics(&self) -> Analytics {
        let book = self.book.lock();
        let totals = &book.totals;
        let share = |part: f64, whole: u64| if whole == 0 { 0.0 } else { part / whole as f64 };
        let minutes = totals.played.as_secs_f64() / 60.0;
        Analytics {
            started: totals.started,
            active: book.active.len() as u64,
            completed: totals.completed,
            abandoned: totals.abandoned,
            completion_rate: share(totals.completed as f64, totals.completed + totals.abandoned),
            average_minutes: share(minutes, totals.completed),
            games_per_hour: book.hours.per_hour(self.clock.wall()),
            people: totals.win_rate(Actor::Person),
            bots: totals.win_rate(Actor::Bot),
        }
    }
}

impl Totals {
    fn complete(&mut self, seats: Seats, winner: Option<Actor>, took: Duration) {
        self.completed += 1;
        self.played += took;
        for (actor, count) in [(Actor::Person, seats.people), (Actor::Bot, seats.bots)] {
            SEATS.add_for(actor, u64::from(count));
            let wins = u64::from(winner == Some(actor));
            if let Some(sum) = self.seats.get_mut(actor as usize) {
                *sum += u64::from(count);
            }
            if let Some(sum) = self.wins.get_mut(actor as usize) {
                *sum += wins;
            }
            WINS.add_for(actor, wins);
        }
    }

    fn win_rate(&self, actor: Actor) -> WinRate {
        let of = |sums: &[u64; 2]| sums.get(actor as usize).copied().unwrap_or(0);
        WinRate::of(of(&self.seats), of(&self.wins))
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge")]
fn gauge(book: &Book) {
    ACTIVE.set(book.active.len() as f64);
}
