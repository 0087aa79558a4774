//! State machines as pure functions, and the upgrade of their old events.

use std::{collections::BTreeMap, fmt::Debug, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    codec::Payload,
    error::{Error, ErrorKind, Result},
    id::EventType,
};

/// A state machine: `decide` turns a command into events, `evolve` folds an event into the state.
///
/// The value itself is the state; `Default` is the state before the first event.
///
/// # Contract
///
/// 1. **Pure:** both functions depend on their arguments alone; time, chance and the outside
///    world come in with the command.
/// 2. **Total:** `evolve` accepts every event that `decide` ever gave; it never fails or panics.
/// 3. **Sound:** after every `evolve` of decided events, `check` holds.
/// 4. **Unchanged on refusal:** a refused command has no event, so it changes nothing.
///
/// ```
/// use infra_core::machine::StateMachine;
///
/// #[derive(Debug, Clone, Default)]
/// struct Door { is_open: bool }
///
/// impl StateMachine for Door {
///     type Command = bool;
///     type Event = bool;
///     type Refusal = &'static str;
///     const NAME: &'static str = "door";
///     const SCHEMA_VERSION: u32 = 1;
///
///     fn decide(&self, open: bool) -> Result<Vec<bool>, &'static str> {
///         if self.is_open == open { Err("it is so already") } else { Ok(vec![open]) }
///     }
///
///     fn evolve(&mut self, is_open: &bool) {
///         self.is_open = *is_open;
///     }
/// }
///
/// let mut door = Door::default();
/// for event in door.decide(true).unwrap() {
///     door.evolve(&event);
/// }
/// assert_eq!(door.decide(true), Err("it is so already"));
/// ```
pub trait StateMachine: Debug + Default + Clone + Send + Sync + 'static {
    /// What is asked of the machine.
    type Command: Send;
    /// What happened, as it is stored.
    type Event: Debug + Clone + Send + Sync;
    /// Why a command was refused.
    type Refusal: Debug + Send;

    /// The machine's name in stored metadata and metrics.
    const NAME: &'static str;
    /// The version of the events' and the snapshots' schema, counted from 1.
    const SCHEMA_VERSION: u32;

    /// Decides what a command makes happen; an empty list if nothing has to.
    ///
    /// # Errors
    ///
    /// The refusal, if the machine does not accept the command in its present state.
    fn decide(&self, command: Self::Command) -> Result<Vec<Self::Event>, Self::Refusal>;

    /// Folds an event into the state.
    fn evolve(&mut self, event: &Self::Event);

    /// Checks the machine's invariants.
    ///
    /// # Errors
    ///
    /// What is broken, in words for an operator.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

/// An event that is stored under the name of its type.
pub trait DomainEvent: Serialize + DeserializeOwned {
    /// Returns the name of its type, which never changes once it is stored.
    fn name(&self) -> &'static str;
}

/// Turns an event's payload of one schema version into the next one.
pub trait Upcaster: Debug + Send + Sync {
    /// Returns the type of the events that it upgrades.
    fn event_type(&self) -> &EventType;

    /// Returns the schema version that it reads; it writes the next one.
    fn reads_version(&self) -> u32;

    /// Upgrades one payload.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](crate::error::ErrorKind::Corrupt) if the payload is not of the version it names.
    fn upcast(&self, payload: Payload) -> Result<Payload>;
}

/// Upcasters chained by event type and schema version.
///
/// ```
/// use infra_core::{codec::Payload, id::EventType, machine::Upcasters};
///
/// let played = EventType::new("played")?;
/// let payload = Payload::json(2, "ace")?;
/// // What is current already stays as it is; what comes from the future is refused.
/// assert_eq!(Upcasters::new(2).upcast(&played, payload.clone())?, payload);
/// assert!(Upcasters::new(1).upcast(&played, payload).is_err());
/// # Ok::<(), infra_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Upcasters {
    current: u32,
    steps: BTreeMap<(EventType, u32), Arc<dyn Upcaster>>,
}

impl Upcasters {
    /// Creates an empty chain that leads to schema version `current`.
    pub const fn new(current: u32) -> Self {
        Self { current, steps: BTreeMap::new() }
    }

    /// Returns the schema version that it leads to.
    pub const fn current(&self) -> u32 {
        self.current
    }

    /// Adds a step; a later one for the same type and version takes its place.
    #[must_use]
    pub fn with(mut self, step: impl Upcaster + 'static) -> Self {
        self.steps.insert((step.event_type().clone(), step.reads_version()), Arc::new(step));
        self
    }

    /// Brings a payload to the current schema version, step by step.
    ///
    /// An old version without a step is as it was: types that never changed need none.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](ErrorKind::Unsupported) if the payload is of a later version than the
    /// current one; [`Corrupt`](ErrorKind::Corrupt) if a step fails or does not write the next
    /// version.
    pub fn upcast(&self, event_type: &EventType, mut payload: Payload) -> Result<Payload> {
        const UPCAST: &str = "upcast event";
        if self.current < payload.schema {
            let detail =
                format!("{event_type} has schema {}, known is {}", payload.schema, self.current);
            return Err(Error::new(ErrorKind::Unsupported, UPCAST).detail(detail));
        }
        while payload.schema < self.current {
            let read = payload.schema;
            let Some(step) = self.steps.get(&(event_type.clone(), read)) else { break };
            payload = step.upcast(payload)?;
            if payload.schema != read.saturating_add(1) {
                let detail = format!("{event_type}: version {read} led to {}", payload.schema);
                return Err(Error::new(ErrorKind::Corrupt, UPCAST).detail(detail));
            }
        }
        Ok(payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes the next version and the word's repetition.
    #[derive(Debug)]
    struct Twice(EventType, u32, u32);

    impl Upcaster for Twice {
        fn event_type(&self) -> &EventType {
            &self.0
        }

        fn reads_version(&self) -> u32 {
            self.1
        }

        fn upcast(&self, payload: Payload) -> Result<Payload> {
            let word: String = payload.decode()?;
            Payload::json(self.2, &word.repeat(2))
        }
    }

    fn said() -> EventType {
        EventType::new("said").unwrap()
    }

    #[test]
    fn steps_are_chained_by_type_and_version() {
        let chain = Upcasters::new(3).with(Twice(said(), 1, 2)).with(Twice(said(), 2, 3));
        let cast = |schema, name: &str| {
            let payload = Payload::json(schema, "a").unwrap();
            let cast = chain.upcast(&EventType::new(name).unwrap(), payload);
            cast.map(|cast| (cast.schema, cast.decode::<String>().unwrap()))
        };
        assert_eq!(cast(1, "said").unwrap(), (3, "aaaa".to_owned()));
        assert_eq!(cast(2, "said").unwrap(), (3, "aa".to_owned()));
        assert_eq!(cast(3, "said").unwrap(), (3, "a".to_owned()));
        assert_eq!(cast(1, "sung").unwrap(), (1, "a".to_owned()));
        assert_eq!(*cast(4, "said").unwrap_err().kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn a_step_that_does_not_write_the_next_version_is_refused() {
        let chain = Upcasters::new(3).with(Twice(said(), 1, 1));
        let cast = chain.upcast(&said(), Payload::json(1, "a").unwrap());
        assert_eq!(*cast.unwrap_err().kind(), ErrorKind::Corrupt);
        let other = Payload { codec: crate::codec::CodecTag::Raw, ..Payload::raw("x") };
        let chain = Upcasters::new(3).with(Twice(said(), 1, 2));
        assert!(chain.upcast(&said(), other).is_err(), "what a step fails with is passed on");
    }
}
