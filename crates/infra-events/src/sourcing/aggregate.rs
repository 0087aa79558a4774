//! An aggregate: a state machine, its stream, its version, and what is not stored yet.

use infra_core::{
    Error, ErrorKind, Result,
    event::{NewEvent, RecordedEvent},
    id::StreamName,
    machine::{DomainEvent, StateMachine, Upcasters},
    version::{Expected, Version},
};

const REBUILD: &str = "rebuild aggregate";

/// A state machine at a version of its stream.
///
/// A refused command changes nothing. Accepted ones wait as uncommitted events until a
/// [`Repository`](super::Repository) has saved them.
///
/// Stored events are brought to the current schema by [`Upcasters`]. An event whose type the
/// machine does not know is an error and never skipped; to retire a type, turn it into a known one.
#[derive(Debug, Clone)]
pub struct Aggregate<M: StateMachine> {
    stream: StreamName,
    state: M,
    /// The version of the last stored event.
    stored: Version,
    uncommitted: Vec<M::Event>,
    /// The first of the uncommitted events as they were offered to a store: they keep their ids,
    /// so that saving again after an unknown fate is harmless.
    pub(super) offered: Vec<NewEvent>,
}

impl<M: StateMachine> Aggregate<M> {
    /// Creates the machine as it is before its first event.
    pub fn new(stream: StreamName) -> Self {
        Self::resume(stream, M::default(), Version::ZERO)
    }

    /// Continues from a state at a version, as a snapshot keeps it.
    pub const fn resume(stream: StreamName, state: M, version: Version) -> Self {
        Self { stream, state, stored: version, uncommitted: Vec::new(), offered: Vec::new() }
    }

    /// Returns the stream.
    pub const fn stream(&self) -> &StreamName {
        &self.stream
    }

    /// Returns the state, uncommitted events included.
    pub const fn state(&self) -> &M {
        &self.state
    }

    /// Returns the version after the uncommitted events.
    pub const fn version(&self) -> Version {
        self.stored.plus(self.uncommitted.len() as u64)
    }

    /// Returns the version of the last event that is known to be stored.
    pub const fn stored_version(&self) -> Version {
        self.stored
    }

    /// Returns the events that are not stored yet.
    pub fn uncommitted(&self) -> &[M::Event] {
        &self.uncommitted
    }

    /// Decides a command and folds its events into the state.
    ///
    /// # Errors
    ///
    /// The machine's refusal; nothing has changed then.
    pub fn handle(&mut self, command: M::Command) -> Result<(), M::Refusal> {
        for event in self.state.decide(command)? {
            self.state.evolve(&event);
            self.uncommitted.push(event);
        }
        Ok(())
    }

    /// Returns what the stream must be for the uncommitted events to fit.
    pub(super) fn expected(&self) -> Expected {
        match self.stored {
            Version::ZERO => Expected::Absent,
            stored => Expected::Exactly(stored),
        }
    }

    /// Takes the uncommitted events for stored.
    pub(super) fn committed(&mut self) {
        self.stored = self.version();
        self.uncommitted.clear();
        self.offered.clear();
    }
}

impl<M: StateMachine<Event: DomainEvent>> Aggregate<M> {
    /// Rebuilds a machine from the whole history of its stream.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) for no events, and those of [`Aggregate::replay`].
    pub fn rebuild(
        stream: StreamName,
        history: &[RecordedEvent],
        upcasters: &Upcasters,
    ) -> Result<Self> {
        if history.is_empty() {
            return Err(Error::new(ErrorKind::NotFound, REBUILD).detail(stream.to_string()));
        }
        let mut aggregate = Self::new(stream);
        aggregate.replay(history, upcasters)?;
        Ok(aggregate)
    }

    /// Folds the stored events that follow its version into the state.
    ///
    /// # Errors
    ///
    /// [`Invalid`](ErrorKind::Invalid) for an event of another stream, or if events are not stored
    /// yet; [`Corrupt`](ErrorKind::Corrupt) for a gap or an event that cannot be decoded;
    /// [`Unsupported`](ErrorKind::Unsupported) for a schema of the future. What came before the
    /// error is folded in.
    pub fn replay(&mut self, events: &[RecordedEvent], upcasters: &Upcasters) -> Result<()> {
        if !self.uncommitted.is_empty() {
            return Err(Error::invalid(REBUILD, "there are uncommitted events"));
        }
        for recorded in events {
            self.follow(recorded)?;
            let event: M::Event = decode(recorded, upcasters)?;
            self.state.evolve(&event);
            self.stored = recorded.version;
        }
        Ok(())
    }

    /// Refuses an event that is not the next one of the stream.
    fn follow(&self, recorded: &RecordedEvent) -> Result<()> {
        if recorded.stream != self.stream {
            let detail = format!("an event of {} in {}", recorded.stream, self.stream);
            return Err(Error::invalid(REBUILD, detail));
        }
        let next = self.stored.next();
        if recorded.version != next {
            let detail =
                format!("{}: {next} was expected, found {}", self.stream, recorded.version);
            return Err(Error::new(ErrorKind::Corrupt, REBUILD).detail(detail));
        }
        Ok(())
    }
}

/// Decodes a stored event, brought to the current schema.
pub(super) fn decode<E: DomainEvent>(recorded: &RecordedEvent, upcasters: &Upcasters) -> Result<E> {
    let NewEvent { event_type, payload, .. } = &recorded.event;
    let event: E = upcasters.upcast(event_type, payload.clone())?.decode()?;
    if event.name() == event_type.as_str() || payload.schema < upcasters.current() {
        return Ok(event);
    }
    let detail = format!("a {event_type} that decodes as {}", event.name());
    Err(Error::new(ErrorKind::Corrupt, "decode event").detail(detail))
}
