//! The repository: machines loaded from streams and saved to them.

use std::{marker::PhantomData, sync::Arc};

use infra_core::{
    Clock, Error, ErrorKind, Result,
    codec::Payload,
    event::{Append, Appended, Direction, EventStore, NewEvent},
    id::{EventId, EventType, StreamName},
    machine::{DomainEvent, StateMachine, Upcasters},
    random::Random,
    version::{Position, Version},
};

use super::aggregate::Aggregate;

/// How many events are read at a time.
const PAGE: usize = 512;

/// What became of a command.
#[derive(Debug, Clone)]
pub enum Execution<M: StateMachine> {
    /// It was accepted and its events are stored.
    Accepted(Aggregate<M>),
    /// The machine refused it; nothing was written.
    Refused(M::Refusal),
}

/// Loads and saves aggregates of one kind.
///
/// ```
/// use std::sync::Arc;
/// use infra_core::{SystemClock, id::StreamName, machine::{DomainEvent, StateMachine}};
/// use infra_events::{MemoryEventStore, sourcing::Repository};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, Clone, Default)]
/// struct Counter(u64);
///
/// #[derive(Debug, Clone, Serialize, Deserialize)]
/// struct Counted(u64);
///
/// impl DomainEvent for Counted {
///     fn name(&self) -> &'static str { "counted" }
/// }
///
/// impl StateMachine for Counter {
///     type Command = u64;
///     type Event = Counted;
///     type Refusal = &'static str;
///     const NAME: &'static str = "counter";
///     const SCHEMA_VERSION: u32 = 1;
///     fn decide(&self, by: u64) -> Result<Vec<Counted>, &'static str> {
///         if by == 0 { Err("nothing to count") } else { Ok(vec![Counted(by)]) }
///     }
///     fn evolve(&mut self, event: &Counted) { self.0 += event.0; }
/// }
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let store = Arc::new(MemoryEventStore::new(SystemClock::shared()));
/// let counters = Repository::<Counter>::new(store, SystemClock::shared());
/// let sheep = StreamName::new("counter-sheep")?;
/// counters.execute(&sheep, 3).await?;
/// counters.execute(&sheep, 4).await?;
/// assert_eq!(counters.load(&sheep).await?.state().0, 7);
/// # Ok::<(), infra_core::Error>(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct Repository<M> {
    store: Arc<dyn EventStore>,
    clock: Arc<dyn Clock>,
    random: Random,
    upcasters: Upcasters,
    tries: u32,
    machine: PhantomData<fn() -> M>,
}

impl<M: StateMachine<Event: DomainEvent>> Repository<M> {
    /// Creates a repository without upcasters, whose commands are tried 5 times.
    pub fn new(store: Arc<dyn EventStore>, clock: Arc<dyn Clock>) -> Self {
        let upcasters = Upcasters::new(M::SCHEMA_VERSION);
        let random = Random::from_system();
        Self { store, clock, random, upcasters, tries: 5, machine: PhantomData }
    }

    /// Sets how events of older schemas are read.
    #[must_use]
    pub fn upcasters(mut self, upcasters: Upcasters) -> Self {
        self.upcasters = upcasters;
        self
    }

    /// Sets how often a command is tried when others write to its stream; 5 by default.
    #[must_use]
    pub fn tries(mut self, tries: u32) -> Self {
        self.tries = tries.max(1);
        self
    }

    /// Sets where event ids come from, so that a test can repeat them.
    #[must_use]
    pub fn random(mut self, random: Random) -> Self {
        self.random = random;
        self
    }

    /// Loads an aggregate; one that was never stored, or is tombstoned, is as before its first
    /// event.
    ///
    /// # Errors
    ///
    /// What the store fails with, and those of [`Aggregate::replay`]: also of a stream whose
    /// beginning was truncated, which only a snapshot can replace.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn load(&self, stream: &StreamName) -> Result<Aggregate<M>> {
        let mut aggregate = Aggregate::new(stream.clone());
        self.refresh(&mut aggregate).await?;
        Ok(aggregate)
    }

    /// Brings an aggregate to the end of its stream.
    ///
    /// # Errors
    ///
    /// As for [`Repository::load`], and [`Invalid`](ErrorKind::Invalid) if it has uncommitted
    /// events.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves it at some version up to the end.
    pub async fn refresh(&self, aggregate: &mut Aggregate<M>) -> Result<()> {
        loop {
            let (stream, from) = (aggregate.stream().clone(), aggregate.stored_version().next());
            let page = self.store.read_stream(&stream, from, Direction::Forward, PAGE).await?;
            let is_last = page.len() < PAGE;
            aggregate.replay(&page, &self.upcasters)?;
            if is_last {
                return Ok(());
            }
        }
    }

    /// Stores the uncommitted events of an aggregate.
    ///
    /// # Errors
    ///
    /// [`Conflict`](ErrorKind::Conflict) if somebody else wrote to the stream, and what the store
    /// fails with. The events stay uncommitted; saving again is harmless.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves them uncommitted, though they may be stored: save again.
    pub async fn save(&self, aggregate: &mut Aggregate<M>) -> Result<Appended> {
        for event in aggregate.uncommitted().to_vec().iter().skip(aggregate.offered.len()) {
            aggregate.offered.push(self.encode(event)?);
        }
        let events = aggregate.offered.clone();
        if events.is_empty() {
            let versions = vec![aggregate.stored_version()];
            return Ok(Appended { position: Position::ZERO, versions, is_duplicate: false });
        }
        let append = Append::to(aggregate.stream().clone(), aggregate.expected(), events);
        let appended = self.store.append(append).await?;
        aggregate.committed();
        Ok(appended)
    }

    /// Loads, decides and saves; decides again when somebody else was faster.
    ///
    /// # Errors
    ///
    /// [`Conflict`](ErrorKind::Conflict) if others were faster each time, and what loading and
    /// saving fail with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the events stored or not, never in part.
    pub async fn execute(&self, stream: &StreamName, command: M::Command) -> Result<Execution<M>>
    where
        M::Command: Clone,
    {
        let mut aggregate = self.load(stream).await?;
        let mut tries = 0;
        loop {
            if let Err(refusal) = aggregate.handle(command.clone()) {
                return Ok(Execution::Refused(refusal));
            }
            tries += 1;
            match self.save_surely(&mut aggregate).await {
                Ok(_) => return Ok(Execution::Accepted(aggregate)),
                Err(error) if self.tries <= tries || !is_conflict(&error) => return Err(error),
                Err(_) => aggregate = self.load(stream).await?,
            }
        }
    }

    /// Saves, and asks once more if the fate of the first time is unknown.
    async fn save_surely(&self, aggregate: &mut Aggregate<M>) -> Result<Appended> {
        match self.save(aggregate).await {
            Err(error) if *error.kind() == ErrorKind::Indeterminate && error.is_transient() => {
                self.save(aggregate).await
            }
            saved => saved,
        }
    }

    /// Loads an aggregate as it was at a version, or at its end if that comes before.
    ///
    /// # Errors
    ///
    /// As for [`Repository::load`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn load_at(&self, stream: &StreamName, version: Version) -> Result<Aggregate<M>> {
        let mut aggregate = Aggregate::new(stream.clone());
        while aggregate.stored_version() < version {
            let from = aggregate.stored_version().next();
            let left = version.get() - aggregate.stored_version().get();
            let limit = usize::try_from(left).unwrap_or(PAGE).min(PAGE);
            let page = self.store.read_stream(stream, from, Direction::Forward, limit).await?;
            if page.is_empty() {
                break;
            }
            aggregate.replay(&page, &self.upcasters)?;
        }
        Ok(aggregate)
    }

    fn encode(&self, event: &M::Event) -> Result<NewEvent> {
        let id = EventId::generate(self.clock.wall(), &self.random);
        let payload = Payload::json(M::SCHEMA_VERSION, event)?;
        Ok(NewEvent::new(id, EventType::new(event.name())?, payload))
    }
}

fn is_conflict(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Conflict { .. })
}
