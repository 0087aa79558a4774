//! Durable puts into PostgreSQL: our documents there, and a table of keys and bodies.

use std::sync::{Arc, OnceLock};

use infra_core::{
    codec::Payload,
    id::Collection,
    store::{Batch, DocumentStore},
    version::Expected,
};
use infra_persistence::{PostgresDocuments, PostgresOptions};
use infra_testkit::server::{Kind, Server};
use measure::{Workload, run};
use sqlx::{Connection as _, PgConnection};

const PUTS: u64 = 960;
const BODY: usize = 512;
/// How many connections either side has at most.
const CONNECTIONS: u32 = 16;

/// The URL of a server that is started at its first use and ends with this process.
fn url() -> &'static str {
    static SERVER: OnceLock<(Server, String)> = OnceLock::new();
    let (_, url) = SERVER.get_or_init(|| {
        let server = run(Server::start(Kind::Postgres)).unwrap();
        let url = format!("postgres://postgres@{}/postgres", server.addr());
        (server, url)
    });
    url
}

/// A name that no round before had.
fn fresh(what: &str) -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static ROUND: AtomicU64 = AtomicU64::new(0);
    format!("{what}_{}", ROUND.fetch_add(1, Ordering::Relaxed))
}

/// Compares puts by so many writers.
pub(crate) fn workload(name: &'static str, writers: u64) -> Workload {
    Workload::figure(name, "/s", measure::Better::Higher, move || ours(writers))
        .beside("insert", move || inserts(writers))
}

fn rate(begun: std::time::Instant) -> f64 {
    PUTS as f64 / begun.elapsed().as_secs_f64()
}

fn ours(writers: u64) -> f64 {
    let url = url();
    run(async {
        let options = PostgresOptions::new(url).schema(fresh("ours")).connections(CONNECTIONS);
        let store = Arc::new(PostgresDocuments::connect(&options).await.unwrap());
        let begun = std::time::Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for writer in 0..writers {
            let store = Arc::clone(&store);
            tasks.spawn(async move {
                let players = Collection::new("players").unwrap();
                for number in 0..PUTS / writers {
                    let body = Payload::raw(vec![7; BODY]);
                    let key = format!("{writer}-{number}");
                    let batch = Batch::new().put(players.clone(), key, Expected::Absent, body);
                    store.commit(batch).await.unwrap();
                }
            });
        }
        tasks.join_all().await;
        rate(begun)
    })
}

/// Each connection inserts for its share of the writers, which wait for it as ours do.
fn inserts(writers: u64) -> f64 {
    let url = url();
    run(async {
        let table = fresh("players");
        let mut connection = PgConnection::connect(url).await.unwrap();
        let create = format!("create table {table} (key bytea primary key, body bytea not null)");
        sqlx::query(sqlx::AssertSqlSafe(create)).execute(&mut connection).await.unwrap();
        let lines = writers.min(u64::from(CONNECTIONS));
        let mut all = Vec::new();
        for _ in 0..lines {
            all.push(PgConnection::connect(url).await.unwrap());
        }
        let begun = std::time::Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for (line, mut connection) in (0..).zip(all) {
            let insert = format!("insert into {table} values ($1, $2)");
            tasks.spawn(async move {
                for number in 0..PUTS / lines {
                    sqlx::query(sqlx::AssertSqlSafe(insert.clone()))
                        .bind(format!("{line}-{number}").into_bytes())
                        .bind(vec![7_u8; BODY])
                        .execute(&mut connection)
                        .await
                        .unwrap();
                }
            });
        }
        tasks.join_all().await;
        rate(begun)
    })
}
