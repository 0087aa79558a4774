//! Durable puts of 512 bytes into PostgreSQL, with at most 64 connections: our documents, and the plain
//! statement that a user would write. Each writer puts once before the time begins, so that its
//! connection is there.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use infra_core::{
    codec::Payload,
    id::Collection,
    store::{Batch, DocumentStore},
    version::Expected,
};
use infra_persistence::{PostgresDocuments, PostgresOptions};
use infra_testkit::server::{Kind, Server};
use measure::{Better, Workload, run};
use sqlx::postgres::PgPoolOptions;

use crate::puts::{BODY, PUTS};

const CONNECTIONS: u32 = 64;

/// Compares our documents in PostgreSQL with the plain statement, by so many writers.
pub(crate) fn workload(name: &'static str, writers: u64) -> Workload {
    Workload::figure(name, "/s", Better::Higher, move || ours(writers))
        .beside("postgres", move || plain(writers))
}

/// The address of a server that is started at its first use and ends with this process.
fn url() -> String {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| run(Server::start(Kind::Postgres)).unwrap()).url()
}

/// A name that no round before had.
fn fresh(what: &str) -> String {
    static ROUND: AtomicU64 = AtomicU64::new(0);
    format!("{what}_{}", ROUND.fetch_add(1, Ordering::Relaxed))
}

/// Lets each writer put its keys, a task each, and returns the puts per second.
async fn tasks<F>(writers: u64, put: impl Fn(String) -> F + Clone + Send + 'static) -> f64
where
    F: Future<Output = ()> + Send,
{
    let mut seconds = 0.0;
    for (round, each) in [("warm", 1), ("", PUTS / writers)] {
        let start = Instant::now();
        let writer = |writer| {
            let put = put.clone();
            tokio::spawn(async move {
                for number in 0..each {
                    put(format!("{round}{writer}-{number}")).await;
                }
            })
        };
        let all: Vec<_> = (0..writers).map(writer).collect();
        for one in all {
            one.await.unwrap();
        }
        seconds = start.elapsed().as_secs_f64();
    }
    (PUTS / writers * writers) as f64 / seconds
}

fn ours(writers: u64) -> f64 {
    let url = url();
    run(async {
        let options = PostgresOptions::new(url).schema(fresh("documents"));
        let store = PostgresDocuments::connect(&options.connections(CONNECTIONS)).await.unwrap();
        let (store, players) = (Arc::new(store), Collection::new("players").unwrap());
        tasks(writers, move |key| {
            let body = Payload::raw(vec![7; BODY]);
            let batch = Batch::new().put(players.clone(), key, Expected::Absent, body);
            let store = Arc::clone(&store);
            async move { drop(store.commit(batch).await.unwrap()) }
        })
        .await
    })
}

/// Puts with `INSERT ... ON CONFLICT DO UPDATE`: no versions, nothing expected, no terms.
pub(crate) fn plain(writers: u64) -> f64 {
    let url = url();
    run(async {
        let pool = PgPoolOptions::new().max_connections(CONNECTIONS).connect(&url).await.unwrap();
        let table = fresh("players");
        let create = format!("CREATE TABLE {table} (key bytea PRIMARY KEY, body bytea NOT NULL)");
        sqlx::query(sqlx::AssertSqlSafe(create)).execute(&pool).await.unwrap();
        let put: Arc<str> = format!(
            "INSERT INTO {table} VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET body = excluded.body"
        )
        .into();
        let done = tasks(writers, {
            let pool = pool.clone();
            move |key| {
                let (pool, put) = (pool.clone(), Arc::clone(&put));
                async move {
                    let put = sqlx::query(sqlx::AssertSqlSafe(put.to_string()));
                    put.bind(key.into_bytes()).bind(vec![7_u8; BODY]).execute(&pool).await.unwrap();
                }
            }
        })
        .await;
        pool.close().await;
        done
    })
}
