//! What follows the log behind the games: which rooms are unfinished, the archive, what is cleaned up, standings.
//!
//! Each reads on from its checkpoint as a task of `core`, which ends after the sockets: no game waits for it.

use std::{sync::Arc, time::Duration};

use infra_core::{Clock, lifecycle::Shutdown};

use super::{
    archive_queue::ArchiveQueue, archivist::Archivist, backends::Backends, clean_up::CleanUp,
    forgetting::Memory, projection::Follower, standings::Standings, task_queue::Place,
    unfinished::Unfinished,
};
use crate::{config::Settings, rooms::Registry};

/// Opens the rooms that were playing when the last process ended, and follows from then on which are.
pub(super) async fn go_on(
    registry: &Arc<Registry>,
    backends: &Backends,
    core: &Shutdown,
) -> infra_core::Result<()> {
    let (events, documents) = (Arc::clone(&backends.events), Arc::clone(&backends.documents));
    let projection = Unfinished::new(Arc::clone(&documents))?;
    let unfinished = Follower::new(events, documents, projection)?;
    unfinished.catch_up().await?;
    let rooms = unfinished.projection.rooms().await?;
    let returned = registry.bring_back(&rooms).await?;
    tracing::info!(
        rooms = returned.rooms,
        failed = returned.failed,
        from_snapshot = returned.from_snapshot,
        snapshots_skipped = returned.skipped,
        events_replayed = returned.replayed,
        took = ?returned.took,
        "unfinished rooms are back"
    );
    let stop = core.stop();
    core.spawn(async move { unfinished.run(stop).await });
    Ok(())
}

/// Returns where tasks wait.
pub(super) fn place(settings: &Settings, backends: &Backends, clock: &Arc<dyn Clock>) -> Place {
    let (documents, clock) = (Arc::clone(&backends.documents), Arc::clone(clock));
    Place { documents, backend: settings.queues.clone(), clock }
}

/// Archives finished games from the log, behind the games.
pub(super) async fn archive(
    backends: &Backends,
    memory: &Memory,
    place: Place,
    core: &Shutdown,
) -> infra_core::Result<ArchiveQueue> {
    let (events, documents) = (Arc::clone(&backends.events), Arc::clone(&backends.documents));
    let (archive, people) = (Arc::clone(&backends.archive), memory.people.clone());
    let archivist = Archivist { events: Arc::clone(&events), archive, people };
    let queue = ArchiveQueue::open(place).await?;
    let follower = Follower::new(events, documents, queue.clone())?;
    let (working, stop) = (queue.clone(), core.stop());
    core.spawn(async move { working.run(archivist, stop).await });
    let stop = core.stop();
    core.spawn(async move { follower.run(stop).await });
    Ok(queue)
}

/// Removes what rooms that are over leave behind.
pub(super) async fn clean_up(
    backends: &Backends,
    memory: &Memory,
    place: Place,
    after: Duration,
    core: &Shutdown,
) -> infra_core::Result<CleanUp> {
    let (events, documents) = (Arc::clone(&backends.events), Arc::clone(&backends.documents));
    let clean_up = CleanUp::open(place, Arc::clone(&memory.snapshots)).await?.after(after);
    let follower = Follower::new(events, documents, clean_up.clone())?;
    let (working, stop) = (clean_up.clone(), core.stop());
    core.spawn(async move { working.run(stop).await });
    let stop = core.stop();
    core.spawn(async move { follower.run(stop).await });
    Ok(clean_up)
}

/// Counts the results of games from the log, behind the games.
pub(super) fn standings(
    backends: &Backends,
    memory: &Memory,
    clock: &Arc<dyn Clock>,
    core: &Shutdown,
) -> infra_core::Result<Standings> {
    let (events, documents) = (Arc::clone(&memory.events), Arc::clone(&backends.documents));
    let standings = memory.standings(backends, clock)?;
    let follower = Follower::new(events, documents, standings.clone())?;
    let stop = core.stop();
    core.spawn(async move { follower.run(stop).await });
    Ok(standings)
}
