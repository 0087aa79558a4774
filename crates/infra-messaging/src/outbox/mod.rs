//! Outboxes: what was committed is published, at least once, with a dedup id, so that its effect
//! happens once.

mod documents;
mod events;

pub use self::{documents::DocumentRelay, events::EventRelay};

use std::time::Duration;

use async_trait::async_trait;
use infra_core::{ErrorKind, Result, lifecycle::Stop};

/// How many messages are relayed at once.
const PAGE: usize = 256;

/// How long is waited after a failure that may pass.
const PAUSE: Duration = Duration::from_millis(200);

/// Whether a failure may pass, such as a full queue or a lost link.
fn may_pass(kind: &ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Unavailable
            | ErrorKind::Timeout
            | ErrorKind::Overloaded
            | ErrorKind::Throttled { .. }
            | ErrorKind::Indeterminate
    )
}

/// A relay, as its loop sees it.
#[async_trait]
trait Relay: Sync {
    /// Relays what there is, and returns how much it was.
    async fn relay(&self) -> Result<usize>;

    /// Waits until there may be more.
    async fn idle(&self);
}

/// Relays until it is told to stop.
async fn run(relay: &dyn Relay, stop: &Stop) -> Result<()> {
    loop {
        let relayed = tokio::select! {
            biased;
            () = stop.requested() => return Ok(()),
            relayed = relay.relay() => relayed,
        };
        match relayed {
            Ok(0) => tokio::select! {
                biased;
                () = stop.requested() => return Ok(()),
                () = relay.idle() => {}
            },
            Ok(_) => {}
            Err(error) if may_pass(error.kind()) => tokio::time::sleep(PAUSE).await,
            Err(error) => return Err(error),
        }
    }
}
