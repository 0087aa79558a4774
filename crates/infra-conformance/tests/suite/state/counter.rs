//! The machine of these tests: it counts, and notices what is lost or done twice.

use infra_core::machine::StateMachine;
use infra_persistence::state::{Edge, Persistent};
use serde::{Deserialize, Serialize};

/// Counts up by one; its sum tells more than its count if one was done twice.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Counter {
    pub(crate) count: u64,
    pub(crate) sum: u64,
}

/// The count has become this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counted(pub(crate) u64);

impl StateMachine for Counter {
    type Command = u64;
    type Event = Counted;
    type Refusal = &'static str;
    const NAME: &'static str = "counter";
    const SCHEMA_VERSION: u32 = 1;

    fn decide(&self, command: u64) -> Result<Vec<Counted>, &'static str> {
        if command == self.count + 1 { Ok(vec![Counted(command)]) } else { Err("not the next one") }
    }

    fn evolve(&mut self, Counted(to): &Counted) {
        self.count = *to;
        self.sum += to;
    }

    fn check(&self) -> Result<(), String> {
        let sum = self.count * (self.count + 1) / 2;
        if self.sum == sum { Ok(()) } else { Err(format!("the sum is {}, not {sum}", self.sum)) }
    }
}

impl Persistent for Counter {
    const EDGES: &'static [Edge] =
        &[Edge::new("odd", "counted", "even"), Edge::new("even", "counted", "odd")];

    fn kind(_: &Counted) -> &'static str {
        "counted"
    }

    fn phase(&self) -> &'static str {
        if self.count.is_multiple_of(2) { "even" } else { "odd" }
    }
}

/// Returns the state after counting to a number.
pub(crate) fn counted(to: u64) -> Counter {
    let mut counter = Counter::default();
    (1..=to).for_each(|number| counter.evolve(&Counted(number)));
    counter
}
