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

fn in_memory_with_history() -> Ready<Arc<dyn DocumentStore>> {
    ready(Arc::new(infra_persistence::memory_with_history(SystemClock::shared(), 5).unwrap()))
}

async fn on_disk_with_history() -> Arc<dyn DocumentStore> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap().keep();
    Arc::new(embedded(Options::new(folder).history(5)).await.unwrap().0)
}

mod memory_with_history_keeps {
    infra_testkit::document_store_contract!(super::in_memory_with_history());
}

mod disk_with_history_keeps {
    infra_testkit::document_store_contract!(super::on_disk_with_history());
}

/// Paused time runs on while a store's own thread works, so here the model keeps the documents.
fn leases_in_memory() -> Ready<Arc<dyn infra_core::lease::Leases>> {
    let clock = SystemClock::shared();
    let documents: Arc<dyn DocumentStore> =
        Arc::new(infra_testkit::model::ModelDocuments::new(Arc::clone(&clock)));
    ready(Arc::new(infra_persistence::DocumentLeases::new(documents, clock).unwrap()))
}

async fn leases_on_disk() -> Arc<dyn infra_core::lease::Leases> {
    let leases = infra_persistence::DocumentLeases::new(on_disk().await, SystemClock::shared());
    Arc::new(leases.unwrap())
}

mod leases_in_memory_keep {
    infra_testkit::leases_contract!(super::leases_in_memory());
}

mod leases_on_disk_keep {
    infra_testkit::leases_contract!(real super::leases_on_disk());
}

#[cfg(feature = "postgres")]
mod postgres {
    use infra_core::lease::Leases;
    use infra_persistence::{PostgresDocuments, PostgresLeases, PostgresOptions};
    use infra_testkit::server::{Kind, shared};

    use super::*;

    fn options() -> PostgresOptions {
        let random = infra_core::random::Random::from_system();
        let schema = format!("contract_{:016x}", random.next_u64());
        PostgresOptions::new(shared(Kind::Postgres).unwrap()).schema(schema).connections(4)
    }

    async fn documents(history: u64) -> Arc<dyn DocumentStore> {
        Arc::new(PostgresDocuments::connect(&options().history(history)).await.unwrap())
    }

    async fn leases() -> Arc<dyn Leases> {
        Arc::new(PostgresLeases::connect(&options()).await.unwrap())
    }

    mod documents_keep {
        infra_testkit::document_store_contract!(super::documents(0));
    }

    mod documents_with_history_keep {
        infra_testkit::document_store_contract!(super::documents(5));
    }

    mod snapshots_keep {
        infra_testkit::snapshot_store_contract!(super::snapshots(super::documents(0).await));
    }

    mod leases_keep {
        infra_testkit::leases_contract!(real super::leases());
    }
}

#[cfg(feature = "s3")]
mod bucket {
    use infra_persistence::S3Options;
    use infra_testkit::server::{BUCKET, Kind, shared};

    use super::*;

    fn archive() -> Ready<Arc<dyn ArchiveStore>> {
        let own = format!("{:016x}", infra_core::random::Random::from_system().next_u64());
        let options = S3Options::new(BUCKET).prefix(own).endpoint(shared(Kind::S3).unwrap());
        ready(Arc::new(Archive::in_bucket(&options.credentials("any", "secret")).unwrap()))
    }

    mod archive_keeps {
        infra_testkit::archive_store_contract!(super::archive());
    }
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
