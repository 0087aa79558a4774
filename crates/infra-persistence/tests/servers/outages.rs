//! PostgreSQL is killed, frozen and cut off during work: what a store says of each write is true, and
//! it goes on by itself when the server is back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use infra_core::{
    Error, ErrorKind,
    codec::Payload,
    id::Collection,
    store::{Batch, DocumentStore as _},
    version::{Expected, Version},
};
use infra_persistence::{PostgresDocuments, PostgresOptions};
use infra_testkit::{
    proxy::{FaultProxy, Faults, Weather},
    server::{Kind, Server},
};
use tokio::{sync::watch, task::JoinSet};

const WRITERS: u64 = 8;

/// What a writer came to: its commits, and the errors that it met by their names.
#[derive(Debug, Default)]
struct Story {
    commits: u64,
    errors: Vec<&'static str>,
}

fn is_outage(error: &Error) -> bool {
    let kind = error.kind();
    matches!(kind, ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Overloaded)
}

/// How many commits there were in all.
#[derive(Debug, Clone, Default)]
struct Progress(Arc<AtomicU64>);

impl Progress {
    /// Waits for more of them, however slow the machine is.
    async fn goes_on(&self) {
        let wanted = self.0.load(Ordering::SeqCst) + 4 * WRITERS;
        while self.0.load(Ordering::SeqCst) < wanted {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Counts its own document up until it is told to stop, and holds each answer against what is there.
async fn count_up(
    store: Arc<PostgresDocuments>,
    writer: u64,
    progress: Progress,
    stop: watch::Receiver<bool>,
) -> Story {
    let (collection, key) = (Collection::new("counts").unwrap(), writer.to_string());
    let mut told = Story::default();
    let mut version = Version::ZERO;
    while !*stop.borrow() {
        let expected =
            if version == Version::ZERO { Expected::Absent } else { Expected::Exactly(version) };
        let body = Payload::json(1, &version.next().get()).unwrap();
        let batch = Batch::new().put(collection.clone(), key.clone(), expected, body);
        let said = store.commit(batch).await;
        let may_be = match &said {
            Ok(receipt) => {
                told.commits += 1;
                progress.0.fetch_add(1, Ordering::SeqCst);
                version = receipt.versions[0];
                continue;
            }
            Err(error) if *error.kind() == ErrorKind::Indeterminate => [version, version.next()],
            Err(error) => {
                assert!(is_outage(error) && error.is_transient(), "writer {writer}: {error:?}");
                [version, version]
            }
        };
        told.errors.push(said.unwrap_err().kind().name());
        // The store is asked until it is back: by itself, with the pool that it has.
        let found = loop {
            match store.get(&collection, key.as_bytes()).await {
                Ok(found) => break found,
                Err(error) => assert!(is_outage(&error), "writer {writer} reads: {error:?}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let found = found.map_or(Version::ZERO, |found| found.version);
        assert!(may_be.contains(&found), "writer {writer}: {found} of {may_be:?}, {told:?}");
        told.commits += found.get() - version.get();
        version = found;
    }
    told
}

/// Lets writers work while something happens to the server.
async fn work(
    store: PostgresDocuments,
    happening: impl AsyncFnOnce(&Progress),
) -> (Arc<PostgresDocuments>, Vec<Story>) {
    let store = Arc::new(store);
    let (stop, stopped) = watch::channel(false);
    let progress = Progress::default();
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(count_up(Arc::clone(&store), writer, progress.clone(), stopped.clone()));
    }
    tokio::time::timeout(Duration::from_secs(200), happening(&progress)).await.unwrap();
    stop.send(true).unwrap();
    let stories = tokio::time::timeout(Duration::from_mins(2), writers.join_all()).await;
    (store, stories.expect("a writer hangs"))
}

async fn check(store: &PostgresDocuments, stories: &[Story]) {
    let collection = Collection::new("counts").unwrap();
    let mut sum = 0;
    for writer in 0..WRITERS {
        let found = store.get(&collection, writer.to_string().as_bytes()).await.unwrap();
        let Some(found) = found else { continue };
        assert_eq!(found.decode::<u64>().unwrap(), found.version.get());
        sum += found.version.get();
    }
    assert_eq!(sum, stories.iter().map(|story| story.commits).sum::<u64>(), "{stories:?}");
    let met = stories.iter().filter(|story| !story.errors.is_empty()).count();
    println!("{sum} commits, {met} writers met errors: {stories:?}");
}

fn options(url: String) -> PostgresOptions {
    PostgresOptions::new(url).connections(4).patience(Duration::from_secs(2))
}

/// Work for a while; how much is done in it does not matter.
async fn a_while() {
    tokio::time::sleep(Duration::from_millis(300)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_of_a_write_is_true_while_postgres_is_killed_and_frozen() {
    let mut server = Server::start(Kind::Postgres).await.unwrap();
    let store = PostgresDocuments::connect(&options(server.url())).await.unwrap();
    let (store, stories) = work(store, async |progress| {
        for _ in 0..2 {
            progress.goes_on().await;
            server.kill().unwrap();
            a_while().await;
            server.restart().await.unwrap();
        }
        progress.goes_on().await;
        server.freeze().unwrap();
        tokio::time::sleep(Duration::from_secs(3)).await;
        server.thaw().unwrap();
        progress.goes_on().await;
    })
    .await;
    check(&store, &stories).await;
    assert!(stories.iter().any(|story| !story.errors.is_empty()), "nobody met the outages");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_of_a_write_is_true_while_its_connections_are_cut() {
    let server = Server::start(Kind::Postgres).await.unwrap();
    let proxy = FaultProxy::start(server.addr()).await.unwrap();
    let url = format!("postgres://postgres@{}/postgres", proxy.addr());
    let store = PostgresDocuments::connect(&options(url)).await.unwrap();
    let (store, stories) = work(store, async |progress| {
        for round in 0..4 {
            proxy.set(Faults::default());
            proxy.cut();
            progress.goes_on().await;
            // These connections die in the middle of some answer.
            let cut_after = Some(3_000 + 517 * round);
            proxy.set(Faults { cut_after, ..Faults::default() });
            proxy.cut();
            a_while().await;
        }
        proxy.set(Faults::default());
        proxy.cut();
        progress.goes_on().await;
    })
    .await;
    check(&store, &stories).await;
    assert!(stories.iter().any(|story| !story.errors.is_empty()), "nobody met the cuts");
}

/// A line that is dead for a while leaves connections behind that nobody will ever answer; they are not cut.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_die_without_a_word_give_their_places_back() {
    let server = Server::start(Kind::Postgres).await.unwrap();
    let proxy = FaultProxy::start(server.addr()).await.unwrap();
    let url = format!("postgres://postgres@{}/postgres", proxy.addr());
    let store = PostgresDocuments::connect(&options(url).connections(2)).await.unwrap();
    let (collection, body) = (Collection::new("lines").unwrap(), Payload::json(1, &1).unwrap());
    let put = || Batch::new().put(collection.clone(), "a", Expected::Any, body.clone());
    store.commit(put()).await.unwrap();
    proxy.weather(Weather::Outage);
    // As many as there are places die while they read, and as many while they write.
    for _ in 0..2 {
        let (first, second) =
            tokio::join!(store.get(&collection, b"a"), store.get(&collection, b"a"));
        assert!(first.is_err() && second.is_err());
        assert!(store.commit(put()).await.is_err());
    }
    proxy.weather(Weather::Calm);
    let goes_on = async {
        while store.commit(put()).await.is_err() || store.get(&collection, b"a").await.is_err() {}
    };
    tokio::time::timeout(Duration::from_secs(20), goes_on).await.unwrap();
    tokio::time::timeout(Duration::from_secs(20), store.close()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_opens_over_a_line_that_is_slow_for_one_operation_but_not_too_slow() {
    let server = Server::start(Kind::Postgres).await.unwrap();
    let proxy = FaultProxy::start(server.addr()).await.unwrap();
    proxy.set(Faults { delay: Duration::from_millis(75), ..Faults::default() });
    let url = format!("postgres://postgres@{}/postgres", proxy.addr());
    let patience = Duration::from_millis(700);
    let store = PostgresDocuments::connect(&options(url).patience(patience)).await.unwrap();
    proxy.set(Faults::default());
    assert!(store.get(&Collection::new("lines").unwrap(), b"a").await.unwrap().is_none());
    store.close().await;
}
