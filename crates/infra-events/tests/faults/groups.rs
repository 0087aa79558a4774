//! How appends share the syncs of a slow disk.

use std::{sync::Arc, time::Duration};

use infra_core::{Result, event::EventStore};
use infra_events::{LogEventStore, Options};
use infra_testkit::disk::{DiskFaults, Fault, Operation};
use tokio::task::JoinSet;

use crate::{disk::FaultyDisk, support::to};

const APPENDERS: u64 = 8;
const EACH: u64 = 10;
const SYNC: Duration = Duration::from_millis(40);

/// Appends by tasks that pause a little before the next one, on a disk whose sync number `n_syncs`
/// breaks.
async fn appends(n_syncs: u64, change: impl FnOnce(Options) -> Options) -> Result<()> {
    let (folder, faults) = (tempfile::tempdir().unwrap(), DiskFaults::none());
    let options = Options::new(folder.path())
        .witness_interval(Duration::from_hours(1))
        .disk(Arc::new(FaultyDisk(faults.clone())));
    let log = Arc::new(LogEventStore::open(change(options)).await?.0);
    faults.once(Operation::Sync, Fault::Broken, n_syncs - 1);
    faults.always(Operation::Sync, Fault::Slow(SYNC));
    let mut tasks: JoinSet<Result<()>> = JoinSet::new();
    for appender in 0..APPENDERS {
        let log = Arc::clone(&log);
        tasks.spawn(async move {
            for _ in 0..EACH {
                log.append(to(&format!("s{appender}"), &["x"])).await?;
                tokio::time::sleep(Duration::from_millis(appender % 4)).await;
            }
            Ok(())
        });
    }
    tasks.join_all().await.into_iter().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appenders_that_were_just_answered_share_the_next_sync() {
    // Each for itself would need 80 syncs, and one while seven wait 20; all together need 10.
    let patient = |options: Options| options.latency_budget(Duration::from_secs(1));
    appends(APPENDERS * EACH / 5, patient).await.unwrap();
    // The count is no accident of the disk: without a group the same appends need them all.
    let alone = appends(APPENDERS * EACH, |options| options.latency_budget(Duration::ZERO)).await;
    alone.unwrap_err();
}
