//! What a message of a player may take of the stores: time, and attempts beyond the first.

use std::time::Duration;

use infra_core::{
    budget::{CallBudget, Deadline},
    clock::Instant,
    context::Context,
};

/// How long a message may take, the time in its room's mailbox included. Nobody believes in an answer that
/// comes later; the client asks again, an action with the same number.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many attempts beyond the first all calls of the stores together may take for a message.
const EXTRA: u32 = 2;

/// Returns a context with what a message may take that comes now.
pub(super) fn of_message(now: Instant) -> Context {
    Context::default().deadline(Deadline::after(now, PATIENCE)).budget(CallBudget::new(EXTRA))
}
