//! The closed sets of labels of a game.

use infra_core::metric::{Label, LabelSet};

/// Who acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Actor {
    /// A person.
    Person,
    /// A program.
    Bot,
}

impl Actor {
    /// Tells bots by the prefix `bot_` of their id.
    pub fn of(id: &str) -> Self {
        if id.starts_with("bot_") { Self::Bot } else { Self::Person }
    }
}

impl Label for Actor {
    const SET: LabelSet = LabelSet { name: "actor", values: &["person", "bot"] };

    fn value(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Bot => "bot",
        }
    }
}

/// How a game ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ending {
    /// It was played to its end.
    Completed,
    /// It was given up.
    Abandoned,
}

impl Label for Ending {
    const SET: LabelSet = LabelSet { name: "ending", values: &["completed", "abandoned"] };

    fn value(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Abandoned => "abandoned",
        }
    }
}

/// How an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Well.
    Done,
    /// Badly.
    Failed,
}

impl Label for Outcome {
    const SET: LabelSet = LabelSet { name: "outcome", values: &["done", "failed"] };

    fn value(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}
