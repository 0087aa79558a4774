//! Durable publishes by 1, 8 and 64 producers, each of which waits for its answer: the queue over the
//! embedded store beside servers on the same machine. Redis syncs each command (`appendfsync always`,
//! one sync for what arrives together), PostgreSQL each commit, and so does apalis in SQLite, its best
//! backend without a server; JetStream writes to a file and does not sync before it answers, which is
//! said in its goal.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use apalis_core::backend::TaskSink;
use apalis_sqlite::SqliteStorage;
use infra_core::{
    SystemClock,
    clock::Timestamp,
    codec::Payload,
    durability::Durability,
    id::{MessageId, QueueName},
    queue::{Message, Queue as _},
    random::Random,
};
use infra_messaging::{DurableQueue, Options};
use infra_testkit::server::{Kind, Server};
use measure::{Better, Workload, run};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use tokio::task::JoinSet;

const BODY: usize = 128;

/// How long the producers publish.
const SPAN: Duration = Duration::from_secs(2);

pub fn workloads() -> Vec<Workload> {
    [("queue-durable-1", 1), ("queue-durable-8", 8), ("queue-durable-64", 64)]
        .into_iter()
        .map(|(name, producers)| {
            Workload::figure(name, "/s", Better::Higher, move || ours(producers))
                .beside("Redis Streams", move || redis(producers))
                .beside("PostgreSQL", move || postgres(producers))
                .beside("JetStream", move || jetstream(producers))
                .beside("apalis", move || apalis(producers))
                .rounds(3)
        })
        .collect()
}

/// Runs producers side by side for a while, each of which returns how many messages it published, and
/// returns how many that were in a second.
async fn produce<F>(producers: usize, producer: impl Fn(usize, Instant) -> F) -> f64
where
    F: Future<Output = u64> + Send + 'static,
{
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for number in 0..producers {
        tasks.spawn(producer(number, begun));
    }
    let count: u64 = tasks.join_all().await.into_iter().sum();
    count as f64 / begun.elapsed().as_secs_f64()
}

/// Starts a server with nothing in it, as each of our rounds begins with an empty folder.
fn server(kind: Kind) -> Server {
    run(Server::start(kind)).unwrap()
}

fn ours(producers: usize) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    run(async {
        let stored = infra_persistence::Options::new(folder.path().join("db"));
        let (documents, _report) = infra_persistence::embedded(stored).await.unwrap();
        let name = QueueName::new("work").unwrap();
        let options = Options::new(10_000_000);
        let clock = SystemClock::shared();
        let queue = DurableQueue::open(Arc::new(documents), name, options, clock).await.unwrap();
        produce(producers, |_, begun| {
            let queue = queue.clone();
            async move {
                let random = Random::from_system();
                let mut count = 0;
                while begun.elapsed() < SPAN {
                    let id = MessageId::generate(Timestamp::EPOCH, &random);
                    let message = Message::new(id, Payload::raw(vec![7; BODY]));
                    queue.publish(vec![message], Durability::Durable).await.unwrap();
                    count += 1;
                }
                count
            }
        })
        .await
    })
}

fn redis(producers: usize) -> f64 {
    let server = server(Kind::Redis);
    run(async {
        let client = redis::Client::open(server.url()).unwrap();
        let connection = client.get_multiplexed_async_connection().await.unwrap();
        produce(producers, |_, begun| {
            let mut connection = connection.clone();
            async move {
                let body = vec![7_u8; BODY];
                let mut count = 0;
                while begun.elapsed() < SPAN {
                    let mut add = redis::cmd("XADD");
                    add.arg("work").arg("*").arg("body").arg(&body[..]);
                    add.query_async::<String>(&mut connection).await.unwrap();
                    count += 1;
                }
                count
            }
        })
        .await
    })
}

fn postgres(producers: usize) -> f64 {
    let server = server(Kind::Postgres);
    run(async {
        let connections = u32::try_from(producers).unwrap();
        let options = sqlx::postgres::PgPoolOptions::new().max_connections(connections);
        let pool = options.connect(&server.url()).await.unwrap();
        let table = "CREATE TABLE work \
             (number BIGSERIAL PRIMARY KEY, body BYTEA NOT NULL)";
        sqlx::query(table).execute(&pool).await.unwrap();
        produce(producers, |_, begun| {
            let pool = pool.clone();
            async move {
                let body = vec![7_u8; BODY];
                let mut count = 0;
                while begun.elapsed() < SPAN {
                    let add = sqlx::query("INSERT INTO work (body) VALUES ($1)").bind(&body[..]);
                    add.execute(&pool).await.unwrap();
                    count += 1;
                }
                count
            }
        })
        .await
    })
}

fn jetstream(producers: usize) -> f64 {
    let server = server(Kind::Nats);
    run(async {
        let client = async_nats::connect(server.url()).await.unwrap();
        let context = async_nats::jetstream::new(client);
        let config = async_nats::jetstream::stream::Config {
            name: "work".to_owned(),
            subjects: vec!["work".to_owned()],
            ..Default::default()
        };
        context.get_or_create_stream(config).await.unwrap();
        produce(producers, |_, begun| {
            let context = context.clone();
            async move {
                let mut count = 0;
                while begun.elapsed() < SPAN {
                    let sent = context.publish("work", vec![7_u8; BODY].into()).await.unwrap();
                    sent.await.unwrap();
                    count += 1;
                }
                count
            }
        })
        .await
    })
}

fn apalis(producers: usize) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    run(async {
        let options = SqliteConnectOptions::new()
            .filename(folder.path().join("jobs.db"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(30));
        // SQLite has one writer at a time: more connections would wait for each other's lock.
        let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
        SqliteStorage::setup(&pool).await.unwrap();
        produce(producers, |_, begun| {
            let mut jobs = SqliteStorage::<Vec<u8>>::new(&pool);
            async move {
                let mut count = 0;
                while begun.elapsed() < SPAN {
                    TaskSink::push(&mut jobs, vec![7; BODY]).await.unwrap();
                    count += 1;
                }
                count
            }
        })
        .await
    })
}
