//! The contracts of documents, snapshots and archive over both engines.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::allow_attributes,
    reason = "a panic is how a test fails"
)]

use std::{
    future::{Ready, ready},
    sync::Arc,
};

use infra_core::{
    SystemClock, archive::ArchiveStore, snapshot::SnapshotStore, store::DocumentStore,
};
use infra_persistence::{Archive, Options, Snapshots, embedded, memory};

fn in_memory() -> Ready<Arc<dyn DocumentStore>> {
    ready(Arc::new(memory(SystemClock::shared()).unwrap()))
}

async fn on_disk() -> Arc<dyn DocumentStore> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap().keep();
    Arc::new(embedded(Options::new(folder)).await.unwrap().0)
}

fn snapshots(documents: Arc<dyn DocumentStore>) -> Ready<Arc<dyn SnapshotStore>> {
    ready(Arc::new(Snapshots::new(documents).unwrap()))
}

fn archive_in_memory() -> Ready<Arc<dyn ArchiveStore>> {
    ready(Arc::new(Archive::in_memory()))
}

fn archive_in_folder() -> Ready<Arc<dyn ArchiveStore>> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap().keep();
    ready(Arc::new(Archive::in_folder(folder.join("archive")).unwrap()))
}

mod archive_in_memory_keeps {
    infra_testkit::archive_store_contract!(super::archive_in_memory());
}

mod archive_in_folder_keeps {
    infra_testkit::archive_store_contract!(super::archive_in_folder());
}

mod memory_keeps {
    infra_testkit::document_store_contract!(super::in_memory());
}

mod disk_keeps {
    infra_testkit::document_store_contract!(super::on_disk());
}

mod snapshots_in_memory_keep {
    infra_testkit::snapshot_store_contract!(super::snapshots(super::in_memory().await));
}

mod snapshots_on_disk_keep {
    infra_testkit::snapshot_store_contract!(super::snapshots(super::on_disk().await));
}
