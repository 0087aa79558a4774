//! What an action of a player may take of the stores: time, and attempts beyond the first.

use std::time::Duration;

use infra_core::{
    budget::{CallBudget, Deadline},
    clock::Instant,
    context::Context,
};

/// How long an action may take, the time in its room's mailbox included. Nobody believes in an answer that
/// comes later; the client asks again, with the same number.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many attempts beyond the first all calls of the stores together may take for an action.
const EXTRA: u32 = 2;

/// Returns the present context, with what an action may take that is sent now.
pub(super) fn of_action(now: Instant) -> Context {
    Context::current().deadline(Deadline::after(now, PATIENCE)).budget(CallBudget::new(EXTRA))
}
