//! State machines as pure functions, and the upgrade of their old events.

use std::fmt::Debug;

use crate::{codec::Payload, error::Result, id::EventType};

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
