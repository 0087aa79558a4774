//! Who wants to know: near limits, refusals, and what a limit on trial would refuse.

use std::fmt::Debug;

use infra_core::limit::{Charge, Decision};

/// What is told of a charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sign {
    /// It was admitted, and with it the limit's near mark was passed; told once for each passing.
    Near,
    /// It was refused.
    Refused,
    /// It would have been refused by a limit on trial, and was not.
    Shadowed,
}

/// Is told of charges that come near a limit or meet it.
///
/// It is called after the decision, outside of any lock, on the caller's task: it must not block.
pub trait Watch: Send + Sync + Debug {
    /// Takes note of a charge and of its own limit's decision.
    fn saw(&self, sign: Sign, charge: &Charge, decision: &Decision);
}
