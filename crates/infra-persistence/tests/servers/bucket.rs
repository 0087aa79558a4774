//! A bucket whose server is killed, frozen and cut off: typed errors meanwhile, and nothing lost.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use infra_core::{
    ErrorKind, Result, SystemClock,
    archive::ArchiveStore,
    backoff::Backoff,
    lifecycle::Shutdown,
    store::{DocumentStore, Term},
    version::Expected,
};
use infra_persistence::{
    Archive, Entity, Hybrid, HybridOptions, Limits, S3Options, Standing, Vault, memory,
};
use infra_testkit::{
    proxy::{FaultProxy, Faults},
    server::{BUCKET, Kind, Server},
};
use serde::{Deserialize, Serialize};

const GAMES: u64 = 24;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Game(u64);

impl Entity for Game {
    const COLLECTION: &'static str = "games";
    const SCHEMA: u32 = 1;

    fn key(&self) -> Bytes {
        Bytes::from(self.0.to_string())
    }

    fn terms(&self) -> Result<Vec<Term>> {
        Ok(Vec::new())
    }

    fn standing(&self) -> Standing {
        Standing::Completed
    }
}

/// An archive that waits longer than any answer takes on a busy machine.
fn archive(at: impl std::fmt::Display) -> Archive {
    patient(at, Duration::from_secs(20))
}

fn patient(at: impl std::fmt::Display, patience: Duration) -> Archive {
    let options = S3Options::new(BUCKET).endpoint(format!("http://{at}")).region("eu-north-1");
    let options = options.credentials("any", "secret").retries(1);
    Archive::in_bucket(&options.patience(patience)).unwrap()
}

/// What a caller hears of an outage: never a miss, never a conflict, never a success that was none.
fn is_outage<T: std::fmt::Debug>(said: Result<T>) -> bool {
    let error = said.expect_err("the server is gone");
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Indeterminate | ErrorKind::Timeout)
}

async fn all_fail(archive: &Archive) {
    assert!(is_outage(archive.get("a").await));
    assert!(is_outage(archive.head("a").await));
    assert!(is_outage(archive.list("", "", 10).await));
    assert!(is_outage(archive.create("b", Bytes::from_static(b"2")).await));
    assert!(is_outage(archive.replace("a", Bytes::from_static(b"2")).await));
    assert!(is_outage(archive.delete("a").await));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn games_wait_for_a_bucket_that_is_gone_and_each_is_there_once_when_it_is_back() {
    let mut server = Server::start(Kind::S3).await.unwrap();
    let objects = patient(server.addr(), Duration::from_secs(3));
    objects.probe().await.unwrap();
    let documents: Arc<dyn DocumentStore> = Arc::new(memory(SystemClock::shared()).unwrap());
    let backoff = Backoff::fixed(Duration::from_millis(100));
    let options = HybridOptions::new(Limits::entries(100))
        .concurrency(4, Duration::from_secs(5))
        .retries(1_000, backoff);
    let vault = Vault::new(Arc::new(objects.clone()));
    let (hybrid, archivist) = Hybrid::<Game>::open(documents, vault, options).await.unwrap();
    let shutdown = Shutdown::new();
    let stop = shutdown.stop();
    shutdown.spawn(async move {
        archivist.run(stop).await;
    });
    for id in 0..GAMES {
        hybrid.save(Game(id), Expected::Absent).await.unwrap();
        match id {
            6 => server.kill().unwrap(),
            12 => server.restart().await.unwrap(),
            15 => server.freeze().unwrap(),
            20 => server.thaw().unwrap(),
            _ => tokio::time::sleep(Duration::from_millis(20)).await,
        }
        let found = hybrid.get(id.to_string().as_bytes()).await;
        assert!(id == 6 || found.unwrap().is_some(), "a game is read wherever it is");
    }
    let archived = async {
        while hybrid.lifecycle().await.unwrap().archived < GAMES {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), archived).await.unwrap();
    for id in 0..GAMES {
        let found = hybrid.get(id.to_string().as_bytes()).await.unwrap().unwrap();
        assert_eq!(*found.entity, Game(id));
    }
    let reconciled = hybrid.reconcile(Duration::ZERO).await.unwrap();
    assert_eq!((reconciled.named, reconciled.missing), (GAMES, 0));
    assert_eq!(objects.list("games", "", 1_000).await.unwrap().len() as u64, GAMES);
    shutdown.close(Duration::from_secs(10)).await;
}

#[tokio::test]
async fn a_bucket_that_is_gone_frozen_or_cut_off_is_an_outage_and_never_a_miss() {
    let mut server = Server::start(Kind::S3).await.unwrap();
    let direct = archive(server.addr());
    let body = Bytes::from(vec![7; 1 << 20]);
    direct.create("a", body.clone()).await.unwrap();
    server.freeze().unwrap();
    all_fail(&patient(server.addr(), Duration::from_millis(200))).await;
    server.thaw().unwrap();
    server.kill().unwrap();
    all_fail(&direct).await;
    server.restart().await.unwrap();
    // What was under way when the server froze may have been done when it went on: made whole again.
    direct.replace("a", body.clone()).await.unwrap();
    let proxy = FaultProxy::start(server.addr()).await.unwrap();
    let through = archive(proxy.addr());
    assert_eq!(through.get("a").await.unwrap(), Some(body.clone()));
    proxy.set(Faults { cut_after: Some(10_000), ..Faults::default() });
    assert!(is_outage(through.get("a").await), "an object in part");
    proxy.set(Faults { cut_after: Some(3), ..Faults::default() });
    for (number, name) in ["c/1", "c/2", "c/3"].iter().enumerate() {
        let said = through.create(name, Bytes::from(vec![8; 100])).await.unwrap_err();
        assert_eq!(*said.kind(), ErrorKind::Indeterminate, "{number}: it was sent: {said}");
        let found = direct.get(name).await.unwrap();
        assert_eq!(found.map(|body| body.len()), Some(100), "it happened, and nobody was told");
    }
    proxy.set(Faults::default());
    assert_eq!(through.get("a").await.unwrap(), Some(body));
    assert_eq!(through.list("c", "", 10).await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_an_outage() {
    let server = Server::start(Kind::S3).await.unwrap();
    let endpoint = format!("s3://nowhere/x?endpoint=http://{}&region=eu-north-1", server.addr());
    // Such an address names no key; the environment of this test has none.
    let options = S3Options::new("nowhere").endpoint(format!("http://{}", server.addr()));
    let archive = Archive::in_bucket(&options.credentials("any", "secret").retries(0)).unwrap();
    all_fail(&archive).await;
    assert!(archive.probe().await.is_err());
    assert!(Archive::open(&endpoint).unwrap().folder().is_none());
    assert_eq!(*Archive::open("s3://").unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(*Archive::open("s3://b?secret=x").unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(*Archive::open("ftp://b").unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn an_archive_is_opened_by_its_address_and_probed() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let address = format!("file://{}", folder.path().join("archive").display());
    for address in ["memory:", &address, &folder.path().join("plain").display().to_string()] {
        let archive = Archive::open(address).unwrap();
        archive.probe().await.unwrap();
        assert_eq!(archive.list("", "", 10).await.unwrap(), [], "a probe leaves nothing");
    }
}
