//! What is PostgreSQL's own: the gate, who holds it, round trips, other processes, restarts.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures_util::StreamExt as _;
use infra_core::{
    ErrorKind, Result, SystemClock,
    event::{
        Append, Appended, Direction, EventPage, EventStore, Filter, RecordedEvent, StreamInfo,
        Subscription, SubscriptionItem,
    },
    health::{HealthCheck, Status},
    id::StreamName,
    random::Random,
    version::{Expected, Position, Version},
};
use infra_events::{PostgresEventStore, PostgresOptions};
use infra_testkit::{
    contract::event::pages_never_skip,
    proxy::{FaultProxy, Faults, Weather},
    server::{Kind, Server, shared},
};
use parking_lot::Mutex;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, PgPool, Row as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::game::{Event, append, created, stored, stream};

pub(crate) fn options(url: &str) -> PostgresOptions {
    let number = Random::from_system().next_u64();
    PostgresOptions::new(url).schema(format!("events_{number:016x}")).unwrap().lanes(4).readers(6)
}

/// Returns a fresh schema's name, and options for it.
fn fresh(url: &str) -> (String, PostgresOptions) {
    let schema = format!("events_{:016x}", Random::from_system().next_u64());
    (schema.clone(), PostgresOptions::new(url).schema(schema).unwrap().lanes(4).readers(6))
}

async fn positions(store: &dyn EventStore) -> Vec<Position> {
    let page = store.read_all(Position::ZERO, &Filter::default(), 1_000).await.unwrap();
    page.events.iter().map(|event| event.position).collect()
}

/// Calls the append function in a transaction that stays open.
async fn append_slowly(connection: &mut PgConnection, schema: &str) -> Position {
    let sql = format!(
        "select head from {schema}.append(array['slow'], array[0::smallint], array[0::bigint],
            array[1], array[gen_random_uuid()], array['said'], array[1::smallint],
            array[1::bigint], array['\\x31'::bytea], array[null::uuid], array[null::bytea],
            1, null, null, null, null, null)"
    );
    connection.execute("begin").await.unwrap();
    let row = sqlx::query(AssertSqlSafe(sql)).fetch_one(&mut *connection).await.unwrap();
    Position::new(row.get::<i64, _>(0).try_into().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_transaction_holds_the_head_back_is_named_and_never_skipped() {
    let mut server = Server::start(Kind::Postgres).await.unwrap();
    let (schema, options) = fresh(&server.url());
    let options = options.stall_after(Duration::ZERO).patience(Duration::from_secs(3));
    let store = loop {
        match PostgresEventStore::open(options.clone()).await {
            Ok(store) => break store,
            Err(error) => assert!(error.is_transient(), "it is still starting: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let first = append(&store, "fast", created(&["p1"])).await;
    store.wait_for(first, Duration::from_secs(20)).await.unwrap();
    assert_eq!(store.check().await.status, Status::Up);
    let named = format!("{}?application_name=sleeper", server.url());
    let mut other = PgConnection::connect(&named).await.unwrap();
    let pid: i32 =
        sqlx::query("select pg_backend_pid()").fetch_one(&mut other).await.unwrap().get(0);
    let slow = append_slowly(&mut other, &schema).await;
    let fast = append(&store, "fast", created(&["p2"])).await;
    assert!(slow < fast, "the slow one began before");
    assert_eq!(positions(&store).await, [first], "nothing beyond what may still appear");
    let early = store.wait_for(fast, Duration::from_millis(50)).await.unwrap_err();
    assert_eq!(*early.kind(), ErrorKind::Timeout);
    let own = store.read_stream(&stream("fast"), Version::new(1), Direction::Forward, 9).await;
    assert_eq!(own.unwrap().len(), 2, "its own stream is read at once");
    let finding = store.check().await;
    assert_eq!(finding.status, Status::Degraded);
    for part in
        [format!("process {pid}"), "sleeper".into(), "idle in transaction".into(), "s old".into()]
    {
        assert!(finding.detail.contains(&part), "{part}: {}", finding.detail);
    }
    other.execute("commit").await.unwrap();
    store.wait_for(fast, Duration::from_secs(20)).await.unwrap();
    assert_eq!(positions(&store).await, [first, slow, fast], "the late one is not skipped");
    assert_eq!(store.check().await.status, Status::Up);
    other.close().await.unwrap();
    server.restart().await.unwrap();
    let later = loop {
        let event = stored(&created(&["p3"]));
        let offer = Append::to(stream("fast"), Expected::Any, vec![event]);
        match store.append(offer).await {
            Ok(appended) => break appended.position,
            // The server is not ready yet, or the connection is from before.
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    store.wait_for(later, Duration::from_secs(20)).await.unwrap();
    assert_eq!(
        positions(&store).await,
        [first, slow, fast, later],
        "a killed server loses nothing"
    );
    server.kill().unwrap();
    assert_eq!(store.check().await.status, Status::Down);
}

/// Opens a store whose patience may be too short for a slow machine.
async fn opened(options: &PostgresOptions) -> PostgresEventStore {
    loop {
        match PostgresEventStore::open(options.clone().clock(SystemClock::shared())).await {
            Ok(store) => return store,
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
    }
}

/// Appends until it is done; to repeat what was of unknown fate is harmless.
async fn appended(store: &PostgresEventStore, append: Append) -> Appended {
    loop {
        match store.append(append.clone()).await {
            Ok(appended) => return appended,
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_waits_for_ever_for_a_server_that_takes_connections_and_says_nothing() {
    let url = shared(Kind::Postgres).unwrap();
    let proxy = FaultProxy::start(url::address(&url)).await.unwrap();
    let through = url.replace(&url::address(&url).to_string(), &proxy.addr().to_string());
    let options = options(&through).patience(Duration::from_millis(700)).lanes(1).queue(1);
    let store = opened(&options).await;
    let offer = || Append::to(stream("a"), Expected::Any, vec![stored(&created(&["p1"]))]);
    appended(&store, offer()).await;
    let before = store.stream_info(&stream("a")).await.unwrap().unwrap().last;
    proxy.set(Faults { half_open: true, ..Faults::default() });
    proxy.cut();
    let sent = offer();
    let failed = store.append(sent.clone()).await.unwrap_err();
    assert!(failed.is_transient(), "{failed}");
    let read = store.read_stream(&stream("a"), Version::new(1), Direction::Forward, 9).await;
    let late = read.unwrap_err();
    assert!(late.is_transient(), "{late}");
    assert_eq!((store.name(), store.check().await.status), ("events", Status::Down));
    proxy.set(Faults::default());
    proxy.cut();
    // Repeating what was of unknown fate is harmless.
    appended(&store, sent).await;
    let info = loop {
        match store.stream_info(&stream("a")).await {
            Ok(info) => break info.unwrap(),
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
    };
    assert_eq!(info.last, before.next(), "the repeated one is there once");
    proxy.weather(Weather::Outage);
    let end = tokio::time::timeout(Duration::from_secs(10), store.close()).await;
    assert!(end.is_ok(), "its end waits for no connection that is dead");
}

/// A line that is dead for a while leaves connections behind that nobody will ever answer; they are not cut.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_die_without_a_word_give_their_places_back() {
    let url = shared(Kind::Postgres).unwrap();
    let proxy = FaultProxy::start(url::address(&url)).await.unwrap();
    let through = url.replace(&url::address(&url).to_string(), &proxy.addr().to_string());
    // One of the two readers listens.
    let options = options(&through).patience(Duration::from_millis(700)).lanes(1).readers(2);
    let store = opened(&options).await;
    let offer = || Append::to(stream("a"), Expected::Any, vec![stored(&created(&["p1"]))]);
    appended(&store, offer()).await;
    proxy.weather(Weather::Outage);
    for _ in 0..3 {
        assert!(store.append(offer()).await.unwrap_err().is_transient());
        let read = store.read_stream(&stream("a"), Version::new(1), Direction::Forward, 9).await;
        assert!(read.unwrap_err().is_transient());
    }
    proxy.weather(Weather::Calm);
    let position = appended(&store, offer()).await.position;
    store.wait_for(position, Duration::from_secs(20)).await.unwrap();
    let read = loop {
        match store.read_stream(&stream("a"), Version::new(1), Direction::Forward, 99).await {
            Ok(read) => break read,
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
    };
    assert_eq!(read.last().unwrap().position, position);
    tokio::time::timeout(Duration::from_secs(20), store.close()).await.unwrap();
}

/// Whose listener's line died hears of other processes' events again, without a poll.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_whose_line_died_without_a_word_listens_again() {
    let url = shared(Kind::Postgres).unwrap();
    let proxy = FaultProxy::start(url::address(&url)).await.unwrap();
    let through = url.replace(&url::address(&url).to_string(), &proxy.addr().to_string());
    let (schema, options) = fresh(&url);
    let other = PostgresEventStore::open(options).await.unwrap();
    let options = PostgresOptions::new(through).schema(schema).unwrap().lanes(1).readers(3);
    // Polling alone would take an hour.
    let options = options.patience(Duration::from_millis(700));
    let options = options.poll_interval(Duration::from_hours(1));
    let store = loop {
        match PostgresEventStore::open(options.clone()).await {
            Ok(store) => break store,
            Err(error) => assert!(error.is_transient(), "a slow machine: {error}"),
        }
    };
    proxy.weather(Weather::Outage);
    // Long enough for the silence to be noticed, and asked about in vain.
    let struck = proxy.struck();
    while proxy.struck() == struck {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    proxy.weather(Weather::Calm);
    let mut heard = store.subscribe(Position::ZERO, Filter::default()).await.unwrap();
    let listening = async {
        let mut in_a_row = 0;
        while in_a_row < 5 {
            let told = append(&other, "a", created(&["p1"])).await;
            let hearing = async {
                let is_told = |item: &SubscriptionItem| matches!(item, SubscriptionItem::Event(event) if event.position == told);
                while !is_told(&heard.next().await.unwrap().unwrap()) {}
            };
            let is_heard = tokio::time::timeout(Duration::from_secs(1), hearing).await.is_ok();
            in_a_row = if is_heard { in_a_row + 1 } else { 0 };
        }
    };
    tokio::time::timeout(Duration::from_mins(1), listening).await.expect("it listens no more");
    tokio::time::timeout(Duration::from_secs(20), store.close()).await.unwrap();
}

/// A store that reads by position alone, as one does that is gated on a sequence.
#[derive(Debug)]
struct Ungated(PostgresEventStore, PgPool, String);

#[async_trait]
impl EventStore for Ungated {
    async fn append(&self, append: Append) -> Result<Appended> {
        self.0.append(append).await
    }

    async fn read_stream(
        &self,
        stream: &StreamName,
        from: Version,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>> {
        self.0.read_stream(stream, from, direction, limit).await
    }

    async fn read_all(&self, after: Position, _filter: &Filter, limit: usize) -> Result<EventPage> {
        let sql = format!(
            "select s.name, e.version from {0}.events e join {0}.streams s on s.id = e.stream
            where e.position > $1 order by e.position limit $2",
            self.2
        );
        let rows = sqlx::query(AssertSqlSafe(sql)).bind(i64::try_from(after.get()).unwrap());
        let rows = rows.bind(i64::try_from(limit).unwrap()).fetch_all(&self.1).await.unwrap();
        let mut events = Vec::new();
        for row in &rows {
            let name = stream(&row.get::<String, _>(0));
            let version = Version::new(row.get::<i64, _>(1).try_into().unwrap());
            events.extend(self.0.read_stream(&name, version, Direction::Forward, 1).await?);
        }
        let read_to = events.last().map_or(after, |event| event.position);
        Ok(EventPage { is_end: events.len() < limit, events, read_to })
    }

    async fn subscribe(&self, after: Position, filter: Filter) -> Result<Subscription> {
        self.0.subscribe(after, filter).await
    }

    async fn stream_info(&self, stream: &StreamName) -> Result<Option<StreamInfo>> {
        self.0.stream_info(stream).await
    }

    async fn stable_head(&self) -> Result<Position> {
        self.0.stable_head().await
    }

    async fn wait_for(&self, position: Position, patience: Duration) -> Result<()> {
        self.0.wait_for(position, patience).await
    }

    async fn truncate_before(&self, stream: &StreamName, before: Version) -> Result<()> {
        self.0.truncate_before(stream, before).await
    }

    async fn tombstone(&self, stream: &StreamName, expected: Expected) -> Result<()> {
        self.0.tombstone(stream, expected).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_without_the_gate_is_caught_skipping_by_its_clause() {
    let url = shared(Kind::Postgres).unwrap();
    for _ in 0..20 {
        let (schema, options) = fresh(&url);
        let store = PostgresEventStore::open(options).await.unwrap();
        let pool = PgPool::connect(&url).await.unwrap();
        if pages_never_skip(Arc::new(Ungated(store, pool, schema))).await.is_err() {
            return;
        }
    }
    panic!("a store that skips was never caught");
}

/// What came from clients, by connection: how many pieces, and whether one prepared the append.
#[derive(Debug, Default)]
struct Traffic {
    pieces: AtomicU64,
    appends: AtomicBool,
}

async fn count(server: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<Arc<Traffic>>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, all) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<_>>>::default());
    let connections = Arc::clone(&all);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let traffic = Arc::new(Traffic::default());
            connections.lock().push(Arc::clone(&traffic));
            let server = TcpStream::connect(server).await.unwrap();
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
            tokio::spawn(async move {
                let mut piece = vec![0; 1 << 16];
                while let Ok(length @ 1..) = from_client.read(&mut piece).await {
                    traffic.pieces.fetch_add(1, Ordering::SeqCst);
                    if String::from_utf8_lossy(&piece[..length]).contains("select outcome, place") {
                        traffic.appends.store(true, Ordering::SeqCst);
                    }
                    to_server.write_all(&piece[..length]).await.unwrap();
                }
            });
        }
    });
    (address, all)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_one_round_trip() {
    let url = shared(Kind::Postgres).unwrap();
    let parsed = url::address(&url);
    let (proxy, traffic) = count(parsed).await;
    let through = url.replace(&parsed.to_string(), &proxy.to_string());
    let store = PostgresEventStore::open(options(&through).lanes(1)).await.unwrap();
    let batch = || (0..20).map(|_| stored(&Event::PhaseChanged { to: "TURN".into() })).collect();
    let offer = || Append::to(stream("a"), Expected::Any, batch());
    for _ in 0..3 {
        store.append(offer()).await.unwrap();
    }
    let lane = traffic.lock().iter().find(|one| one.appends.load(Ordering::SeqCst)).cloned();
    let lane = lane.unwrap();
    let before = lane.pieces.load(Ordering::SeqCst);
    for _ in 0..50 {
        store.append(offer()).await.unwrap();
    }
    assert_eq!(lane.pieces.load(Ordering::SeqCst) - before, 50, "round trips of 50 batches");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_that_is_up_to_date_is_found_so_by_one_question() {
    let url = shared(Kind::Postgres).unwrap();
    let proxy = FaultProxy::start(url::address(&url)).await.unwrap();
    let through = url.replace(&url::address(&url).to_string(), &proxy.addr().to_string());
    let (_, options) = fresh(&through);
    let store = PostgresEventStore::open(options.clone()).await.unwrap();
    let last = append(&store, "a", created(&["p1"])).await;
    store.wait_for(last, Duration::from_secs(20)).await.unwrap();
    store.close().await;
    // So slow that what the store's tasks ask, once it is open, is not counted with it.
    proxy.set(Faults { delay: Duration::from_millis(20), ..Faults::default() });
    let before = proxy.questions();
    let store = PostgresEventStore::open(options).await.unwrap();
    let asked = proxy.questions() - before;
    // Two connections at the same time, the question, and the first words of the tasks.
    assert!(asked <= 10, "{asked} questions, connections included");
    assert_eq!(positions(&store).await, [last]);
    store.close().await;
}

/// The little of URLs that is needed here.
mod url {
    pub(super) fn address(url: &str) -> std::net::SocketAddr {
        let rest = url.split('@').nth(1).unwrap();
        rest.split('/').next().unwrap().parse().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_process_is_woken_by_a_notification_and_sees_the_same_order() {
    let (_, options) = fresh(&shared(Kind::Postgres).unwrap());
    // Polling alone would take an hour.
    let options = options.poll_interval(Duration::from_hours(1));
    let one = PostgresEventStore::open(options.clone()).await.unwrap();
    let other = PostgresEventStore::open(options).await.unwrap();
    let mut heard = other.subscribe(Position::ZERO, Filter::default()).await.unwrap();
    let mut seen = Vec::new();
    let mut told = Vec::new();
    // The listener may not be there yet for the first one, but it is soon.
    for _ in 0..200 {
        told.push(append(&one, "a", created(&["p1"])).await);
        let waited = async {
            while seen.len() < told.len() {
                if let Some(Ok(SubscriptionItem::Event(event))) = heard.next().await {
                    seen.push(event.position);
                }
            }
        };
        if tokio::time::timeout(Duration::from_millis(500), waited).await.is_ok() && 20 < told.len()
        {
            break;
        }
    }
    assert_eq!(seen, told);
    let mut open = other.subscribe(Position::ZERO, Filter::default()).await.unwrap();
    other.close().await;
    let rest = async { while open.next().await.is_some_and(|item| item.is_ok()) {} };
    tokio::time::timeout(Duration::from_secs(20), rest).await.expect("it ends with the store");
    let refused = other.append(Append::to(stream("a"), Expected::Any, vec![])).await;
    assert_eq!(*refused.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn positions_go_on_after_a_restore_into_a_younger_cluster() {
    let url = shared(Kind::Postgres).unwrap();
    let (schema, options) = fresh(&url);
    let store = PostgresEventStore::open(options.clone()).await.unwrap();
    append(&store, "a", created(&["p1"])).await;
    store.close().await;
    let mut database = PgConnection::connect(&url).await.unwrap();
    // As if the event had been written by a cluster that has seen many more transactions.
    let sql = format!("update {schema}.events set position = position + (100000000::bigint << 14)");
    database.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.unwrap();
    let store = PostgresEventStore::open(options.clone()).await.unwrap();
    let later = append(&store, "a", created(&["p2"])).await;
    store.wait_for(later, Duration::from_secs(20)).await.unwrap();
    let all = positions(&store).await;
    assert_eq!((all.len(), all.last()), (2, Some(&later)), "{all:?}");
    store.close().await;
    let sql = format!("insert into {schema}.migrations (version) values (99)");
    database.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.unwrap();
    let newer = PostgresEventStore::open(options).await.unwrap_err();
    assert_eq!(*newer.kind(), ErrorKind::Unsupported, "{newer}");
    assert!(newer.to_string().contains("version 99, known is 1"), "{newer}");
    let nowhere = PostgresOptions::new("postgres://127.0.0.1:1/none");
    let refused = PostgresEventStore::open(nowhere).await.unwrap_err();
    assert_eq!(*refused.kind(), ErrorKind::Unavailable, "{refused}");
    let nonsense = PostgresEventStore::open(PostgresOptions::new("nonsense")).await.unwrap_err();
    assert_eq!(*nonsense.kind(), ErrorKind::Invalid, "{nonsense}");
}
