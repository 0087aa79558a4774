//! Given events, when a command comes, then these events, or this refusal.

use std::fmt::Debug;

use infra_core::{
    codec::{Codec as _, Json},
    machine::{DomainEvent, StateMachine},
};

/// Begins a test of a machine with its history.
///
/// ```
/// # use infra_core::machine::{DomainEvent, StateMachine};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Debug, Clone, Default)]
/// # struct Door { is_open: bool }
/// # #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
/// # enum Moved { Opened, Closed }
/// # impl DomainEvent for Moved {
/// #     fn name(&self) -> &'static str { match self { Self::Opened => "opened", Self::Closed => "closed" } }
/// # }
/// # impl StateMachine for Door {
/// #     type Command = Moved;
/// #     type Event = Moved;
/// #     type Refusal = &'static str;
/// #     const NAME: &'static str = "door";
/// #     const SCHEMA_VERSION: u32 = 1;
/// #     fn decide(&self, command: Moved) -> Result<Vec<Moved>, &'static str> {
/// #         if self.is_open == (command == Moved::Opened) { Err("it is so already") } else { Ok(vec![command]) }
/// #     }
/// #     fn evolve(&mut self, event: &Moved) { self.is_open = *event == Moved::Opened; }
/// # }
/// use infra_events::sourcing::given;
///
/// given::<Door>([]).when(Moved::Opened).then([Moved::Opened]);
/// given::<Door>([Moved::Opened]).when(Moved::Opened).then_refused(&"it is so already");
/// given::<Door>([Moved::Opened, Moved::Closed]).then_state(|door| assert!(!door.is_open));
/// ```
pub fn given<M: StateMachine<Event: DomainEvent>>(
    history: impl IntoIterator<Item = M::Event>,
) -> Given<M> {
    let mut state = M::default();
    for event in history {
        state.evolve(&event);
    }
    Given { state }
}

/// A machine with a history.
#[derive(Debug)]
pub struct Given<M> {
    state: M,
}

/// What a machine decided.
#[derive(Debug)]
pub struct When<M: StateMachine> {
    state: M,
    decided: Result<Vec<M::Event>, M::Refusal>,
}

impl<M: StateMachine<Event: DomainEvent>> Given<M> {
    /// Gives it a command.
    #[must_use]
    pub fn when(self, command: M::Command) -> When<M> {
        let decided = self.state.decide(command);
        When { state: self.state, decided }
    }

    /// Looks at the state.
    pub fn then_state(self, look: impl FnOnce(&M)) {
        look(&self.state);
    }
}

#[expect(clippy::panic, reason = "a panic is how a test fails")]
impl<M: StateMachine<Event: DomainEvent>> When<M> {
    /// Expects these events, that they can be stored and read back, and that the machine's
    /// invariants hold after them; returns the machine after them.
    ///
    /// # Panics
    ///
    /// If it is otherwise.
    #[track_caller]
    pub fn then(mut self, events: impl IntoIterator<Item = M::Event>) -> Given<M>
    where
        M::Event: PartialEq,
    {
        let expected: Vec<_> = events.into_iter().collect();
        let decided = match self.decided {
            Ok(decided) => decided,
            Err(refusal) => panic!("expected {expected:?}, but it was refused: {refusal:?}"),
        };
        assert_eq!(decided, expected, "what was decided");
        for event in &decided {
            let stored = Json::encode(event).and_then(|bytes| Json::decode::<M::Event>(&bytes));
            match stored {
                Ok(read) => assert_eq!(read, *event, "the event as it is read back"),
                Err(error) => panic!("{event:?} cannot be stored: {error}"),
            }
            self.state.evolve(event);
            if let Err(broken) = self.state.check() {
                panic!("after {event:?}: {broken}");
            }
        }
        Given { state: self.state }
    }

    /// Expects that nothing has to happen.
    ///
    /// # Panics
    ///
    /// If it is otherwise.
    #[track_caller]
    pub fn then_nothing(self) -> Given<M>
    where
        M::Event: PartialEq,
    {
        self.then([])
    }

    /// Expects this refusal.
    ///
    /// # Panics
    ///
    /// If it is otherwise.
    #[track_caller]
    pub fn then_refused(self, refusal: &M::Refusal)
    where
        M::Refusal: PartialEq + Debug,
    {
        match self.decided {
            Err(found) => assert_eq!(found, *refusal, "the refusal"),
            Ok(decided) => panic!("expected {refusal:?}, but it decided {decided:?}"),
        }
    }
}
