//! Serialization failures, deadlocks and an exhausted pool: passing, and repeated where that is safe.

use std::{str::FromStr as _, sync::Arc, time::Duration};

use infra_core::{
    ErrorKind,
    codec::Payload,
    id::Collection,
    random::Random,
    store::{Batch, DocumentStore as _},
    version::Expected,
};
use infra_persistence::{PostgresDocuments, PostgresLeases, PostgresOptions};
use infra_testkit::{
    proxy::FaultProxy,
    server::{Kind, shared},
};
use sqlx::{
    AssertSqlSafe, Connection as _, Executor as _, PgConnection, postgres::PgConnectOptions,
};
use tokio::task::JoinSet;

/// A database of the test's own, with a setting that holds for each connection to it.
async fn database(setting: &str) -> (String, PgConnection) {
    let url = shared(Kind::Postgres).unwrap();
    let name = format!("limits_{:016x}", Random::from_system().next_u64());
    let options = PgConnectOptions::from_str(&url).unwrap();
    let mut admin = PgConnection::connect_with(&options).await.unwrap();
    admin.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
    let set = format!("ALTER DATABASE {name} SET {setting}");
    admin.execute(AssertSqlSafe(set)).await.unwrap();
    let (server, _) = url.rsplit_once('/').unwrap();
    let own = PgConnection::connect_with(&options.database(&name)).await.unwrap();
    (format!("{server}/{name}"), own)
}

fn batch(keys: [&str; 2]) -> Batch {
    let collection = Collection::new("things").unwrap();
    let body = || Payload::json(1, &"x").unwrap();
    keys.into_iter().fold(Batch::new(), |batch, key| {
        batch.put(collection.clone(), key.to_owned(), Expected::Any, body())
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serialization_failures_are_repeated_until_every_commit_is_done() {
    let (url, mut own) = database("default_transaction_isolation = 'serializable'").await;
    let store = PostgresDocuments::connect(&PostgresOptions::new(url).connections(8)).await;
    let store = Arc::new(store.unwrap());
    let mut writers = JoinSet::new();
    for _ in 0..8 {
        let store = Arc::clone(&store);
        writers.spawn(async move {
            for _ in 0..10 {
                while let Err(error) = store.commit(batch(["a", "b"])).await {
                    // On a slow disk it may be too late as well, or no connection free of what was given up
                    // before; nothing was committed then.
                    let is_undone = matches!(
                        error.kind(),
                        ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Overloaded
                    );
                    assert!(is_undone && error.is_transient(), "{error:?}");
                }
            }
        });
    }
    writers.join_all().await;
    let found = store.get(&Collection::new("things").unwrap(), b"a").await.unwrap().unwrap();
    assert_eq!(found.version.get(), 80, "each commit counts once");
    own.execute("SELECT pg_stat_force_next_flush()").await.unwrap();
    let rolled_back: i64 = sqlx::query_scalar(
        "SELECT xact_rollback FROM pg_stat_database WHERE datname = current_database()",
    )
    .fetch_one(&mut own)
    .await
    .unwrap();
    println!("{rolled_back} transactions were rolled back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadlock_with_a_stranger_is_repeated() {
    let (url, mut stranger) = database("deadlock_timeout = '2s'").await;
    let store = PostgresDocuments::connect(&PostgresOptions::new(url).connections(2)).await;
    let store = Arc::new(store.unwrap());
    store.commit(batch(["a", "b"])).await.unwrap();
    stranger.execute("SET deadlock_timeout = '100s'").await.unwrap();
    stranger.execute("SET search_path = infra_persistence").await.unwrap();
    let mut held = stranger.begin().await.unwrap();
    held.execute("UPDATE documents SET version = version WHERE key = 'b'").await.unwrap();
    let committing = Arc::clone(&store);
    let commit = tokio::spawn(async move { committing.commit(batch(["a", "b"])).await });
    let waits = "SELECT EXISTS (SELECT FROM pg_locks JOIN pg_stat_activity USING (pid) \
                 WHERE NOT granted AND datname = current_database())";
    while !sqlx::query_scalar::<_, bool>(waits).fetch_one(&mut *held).await.unwrap() {
        assert!(!commit.is_finished(), "it did not wait");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // It holds `a` and waits for `b`; the stranger holds `b` and waits for `a`: the store gives way.
    held.execute("UPDATE documents SET version = version WHERE key = 'a'").await.unwrap();
    held.commit().await.unwrap();
    let receipt = commit.await.unwrap().unwrap();
    assert_eq!(receipt.versions.iter().map(|version| version.get()).collect::<Vec<_>>(), [2, 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exhausted_pool_is_said_to_pass_and_passes() {
    let (url, mut stranger) = database("lock_timeout = 0").await;
    let options = PostgresOptions::new(url).connections(1);
    // The schema is made, and the first document written, with all the time that a slow disk needs.
    let patient = PostgresDocuments::connect(&options).await.unwrap();
    patient.commit(batch(["a", "b"])).await.unwrap();
    let options = options.patience(Duration::from_millis(700));
    let store = Arc::new(PostgresDocuments::connect(&options).await.unwrap());
    let mut held = stranger.begin().await.unwrap();
    held.execute("LOCK TABLE infra_persistence.documents").await.unwrap();
    let mut callers = JoinSet::new();
    for _ in 0..4 {
        let store = Arc::clone(&store);
        callers.spawn(async move { store.get(&Collection::new("things").unwrap(), b"a").await });
    }
    for said in callers.join_all().await {
        let error = said.unwrap_err();
        let is_limit = matches!(error.kind(), ErrorKind::Overloaded | ErrorKind::Timeout);
        assert!(is_limit && error.is_transient(), "{error:?}");
    }
    held.rollback().await.unwrap();
    let again = async {
        loop {
            // The connection that waited is given back once the server took its question back.
            if let Ok(found) = store.get(&Collection::new("things").unwrap(), b"a").await {
                break found;
            }
        }
    };
    let found = tokio::time::timeout(Duration::from_mins(1), again).await;
    let found = found.expect("the pool does not recover");
    assert_eq!(found.unwrap().version.get(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_that_a_later_version_has_made_is_refused_and_not_as_an_outage() {
    let (url, mut own) = database("lock_timeout = 0").await;
    let options = PostgresOptions::new(url);
    PostgresDocuments::connect(&options).await.unwrap().close().await;
    let table = "SELECT schemaname::text FROM pg_tables WHERE tablename = '_sqlx_migrations'";
    let schema: String = sqlx::query_scalar(table).fetch_one(&mut own).await.unwrap();
    let later = format!(
        "INSERT INTO {schema}._sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (99, 'later', true, '', 0)"
    );
    own.execute(AssertSqlSafe(later)).await.unwrap();
    let refused = PostgresDocuments::connect(&options).await.unwrap_err();
    assert_eq!(refused.kind(), &ErrorKind::Unsupported, "{refused}");
    assert!(!refused.is_transient() && refused.to_string().contains("version 99, known is 1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_that_are_up_to_date_are_found_so_by_one_question() {
    let (url, _own) = database("lock_timeout = 0").await;
    let (_, rest) = url.rsplit_once('@').unwrap();
    let (server, _) = rest.split_once('/').unwrap();
    let proxy = FaultProxy::start(server.parse().unwrap()).await.unwrap();
    let options = PostgresOptions::new(url.replace(server, &proxy.addr().to_string()));
    let mut asked = Vec::new();
    for _ in 0..3 {
        let before = proxy.questions();
        PostgresDocuments::connect(&options).await.unwrap().close().await;
        asked.push(proxy.questions() - before);
    }
    let before = proxy.questions();
    PostgresLeases::connect(&options.connections(1)).await.unwrap();
    asked.push(proxy.questions() - before);
    println!("questions of openings, connections included: {asked:?}");
    // Two connections at the same time, the question, and a word at the end of each.
    let is_little = |n: &u64| *n <= 10;
    assert!(20 <= asked[0] && asked[1..].iter().all(is_little), "{asked:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_that_start_at_once_on_an_empty_database_all_find_the_tables() {
    let (url, _own) = database("lock_timeout = 0").await;
    let options = PostgresOptions::new(url).connections(1);
    let mut starts = JoinSet::new();
    for _ in 0..6 {
        let options = options.clone();
        starts.spawn(async move { PostgresDocuments::connect(&options).await });
    }
    for store in starts.join_all().await {
        store.unwrap().commit(batch(["a", "b"])).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steps_that_were_taken_by_half_or_otherwise_are_refused() {
    let (url, mut own) = database("search_path = infra_persistence").await;
    let options = PostgresOptions::new(url).connections(1);
    PostgresDocuments::connect(&options).await.unwrap().close().await;
    own.execute("SET search_path = infra_persistence").await.unwrap();
    for (wrong, right, why) in [
        ("success = false", "success = true", "partially applied"),
        (
            "checksum = checksum || '!'",
            "checksum = substring(checksum FOR length(checksum) - 1)",
            "has been modified",
        ),
    ] {
        let set = |what| AssertSqlSafe(format!("UPDATE _sqlx_migrations SET {what}"));
        own.execute(set(wrong)).await.unwrap();
        let refused = PostgresDocuments::connect(&options).await.unwrap_err();
        let cause = std::error::Error::source(&refused).unwrap().to_string();
        assert!(cause.contains(why), "{refused}: {cause}");
        own.execute(set(right)).await.unwrap();
        PostgresDocuments::connect(&options).await.unwrap().close().await;
    }
}
