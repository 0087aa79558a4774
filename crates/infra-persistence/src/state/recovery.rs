//! How a machine comes back: to what point, from what, and what was found on the way.

use std::{sync::Arc, time::Duration};

use infra_core::{Error, Result, clock::Timestamp, id::StreamName, version::Version};
use tokio::{sync::Semaphore, task::JoinSet};

use super::{
    envelope::Anchor, journal::Journal, options::DurableOptions, persistent::Persistent, telemetry,
};

/// What to come back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Everything that was acknowledged.
    Latest,
    /// The state right after one version.
    Version(Version),
    /// A snapshot and nothing else.
    Snapshot(Version),
    /// What was stored up to and at a point in time, by the store's clock.
    At(Timestamp),
    /// What was there before the newest remembered refusal; see [`Refusals`](super::Refusals).
    BeforeLastError,
}

/// A snapshot that was not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// The version it is of.
    pub version: Version,
    /// Why, in words for an operator.
    pub why: String,
}

/// What a recovery used, and what it found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What was asked for.
    pub target: Target,
    /// The version that the machine came back to; zero if there was nothing.
    pub version: Version,
    /// The snapshot that it began with.
    pub snapshot: Option<Version>,
    /// How many events were replayed after it.
    pub replayed: u64,
    /// The snapshots that were newer than the one it began with and were of no use.
    pub skipped: Vec<Skipped>,
    /// The first event whose phase before it is not the one that the replay had come to: the machine
    /// folds events otherwise than when this one was stored.
    pub broken: Option<Version>,
    /// Changes that are lost: of a strategy without events, those behind the snapshot that was used.
    pub lost: u64,
    /// How long it took.
    pub took: Duration,
}

/// A machine that came back.
#[derive(Debug, Clone)]
pub struct Recovered<M> {
    /// The machine; its invariants hold.
    pub machine: M,
    /// What was used and found.
    pub report: Report,
    /// The id of the last event that is folded in.
    pub(super) anchor: Anchor,
}

/// Recovers the machine of a stream to a target, and writes nothing.
///
/// # Errors
///
/// - `NotFound` if the version, the snapshot or an error to go before does not exist.
/// - `Corrupt` if what is left does not make a state that keeps the machine's invariants.
/// - `Unsupported` if a newer version of the program wrote it, or no migration leads here.
/// - `Overloaded` if more events would have to be replayed than the options allow.
/// - What the stores fail with.
///
/// # Cancel safety
///
/// Dropping the future has no effect.
pub async fn recover<M: Persistent>(
    stream: &StreamName,
    options: &DurableOptions,
    target: Target,
) -> Result<Recovered<M>> {
    let recovered = Journal::new(stream.clone(), options.clone()).recover::<M>(target).await;
    telemetry::recovery(&recovered);
    recovered
}

/// Recovers many machines at once, `n_parallel` at a time, and tells the progress as `(done, all)`.
///
/// Each stream has its own result, in the order given.
///
/// # Cancel safety
///
/// Dropping the future ends the recoveries that run; they write nothing.
pub async fn recover_all<M: Persistent>(
    streams: Vec<StreamName>,
    options: &DurableOptions,
    n_parallel: usize,
    progress: impl Fn(usize, usize),
) -> Vec<(StreamName, Result<Recovered<M>>)> {
    let places = Arc::new(Semaphore::new(n_parallel.max(1)));
    let n_all = streams.len();
    let mut tasks = JoinSet::new();
    for (place, stream) in streams.iter().cloned().enumerate() {
        let (places, options) = (Arc::clone(&places), options.clone());
        tasks.spawn(async move {
            let _permit = places.acquire_owned().await;
            (place, recover::<M>(&stream, &options, Target::Latest).await)
        });
    }
    let mut results: Vec<_> = streams.into_iter().map(|stream| (stream, Err(given_up()))).collect();
    let mut n_done = 0;
    while let Some(joined) = tasks.join_next().await {
        n_done += 1;
        if let Ok((place, recovered)) = joined
            && let Some((_, result)) = results.get_mut(place)
        {
            *result = recovered;
        }
        progress(n_done, n_all);
    }
    results
}

/// What stands for a recovery whose task panicked.
fn given_up() -> Error {
    Error::new(infra_core::ErrorKind::Internal, "recover machine").detail("the machine panicked")
}
