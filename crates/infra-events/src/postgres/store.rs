//! The event store over PostgreSQL.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use infra_core::{
    Clock, Error, ErrorKind, Result,
    context::Context,
    event::{
        Append, Appended, Direction, EventPage, EventStore, Filter, RecordedEvent, StreamInfo,
        Subscription,
    },
    id::StreamName,
    version::{Expected, Position, Version},
};
use parking_lot::Mutex;
use sqlx::{
    Connection as _, PgConnection, PgPool, Row as _,
    postgres::{PgConnectOptions, PgRow},
};
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    failed,
    lane::{self, Job, Lane, Offer, Order, unsigned},
    line,
    options::PostgresOptions,
    read, schema,
    watcher::{self, Signals, Watcher},
};
use crate::{
    index, memory,
    subscription::{self, Source},
    telemetry::{self, APPENDED, APPENDS, COMMIT},
};

const READ: &str = "read events";

/// Keeps events in a PostgreSQL database, which any number of processes may share.
///
/// A durable append is as durable as the server's `synchronous_commit` makes it. Dropping the
/// store ends its subscriptions.
///
/// ```no_run
/// use infra_core::event::EventStore as _;
/// use infra_events::{PostgresEventStore, PostgresOptions};
///
/// # async fn example() -> infra_core::Result<()> {
/// let store = PostgresEventStore::open(PostgresOptions::new("postgres://localhost/game")).await?;
/// println!("{} is the last event", store.stable_head().await?);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct PostgresEventStore {
    options: PostgresOptions,
    pool: PgPool,
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    signals: Arc<Signals>,
    head: watch::Receiver<Position>,
    stop: Mutex<Option<watch::Sender<()>>>,
}

impl PostgresEventStore {
    /// Connects, and brings the schema up to date.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](ErrorKind::Unavailable) if the database cannot be reached,
    /// [`Unsupported`](ErrorKind::Unsupported) if its schema is of a later version,
    /// [`Invalid`](ErrorKind::Invalid) for a bad URL or missing rights.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the schema as it was or up to date.
    pub async fn open(options: PostgresOptions) -> Result<Self> {
        const OPEN: &str = "open event store";
        let connect: PgConnectOptions = options
            .url
            .parse()
            .map_err(|cause: sqlx::Error| Error::invalid(OPEN, "database URL").because(cause))?;
        let connect = connect.application_name("infra-events");
        let fail = |cause| failed(OPEN, cause);
        let looking = async {
            let mut first = PgConnection::connect_with(&connect).await.map_err(fail)?;
            let head = schema::bring_up_to_date(&mut first, &options.schema).await?;
            first.close().await.map_err(fail)?;
            Ok(head)
        };
        // Another connection is opened meanwhile, which the first reader finds ready.
        let pool = line::pool(options.readers, options.patience).connect_with(connect.clone());
        let pool = async { pool.await.map_err(fail) };
        let (head, pool) = tokio::try_join!(Box::pin(looking), Box::pin(pool))?;
        Ok(Self::start(options, &connect, pool, head))
    }

    fn start(
        options: PostgresOptions,
        connect: &PgConnectOptions,
        pool: PgPool,
        head: Position,
    ) -> Self {
        let (sender, head) = watch::channel(head);
        let signals = Arc::new(Signals::default());
        let (stop, stopped) = watch::channel(());
        let watcher = Watcher {
            pool: pool.clone(),
            schema: options.schema.clone(),
            poll: options.poll,
            patience: options.patience,
            signals: Arc::clone(&signals),
            head: sender,
        };
        // The tasks end with the store, which holds the other ends of their channels.
        tokio::spawn(watcher.run(stopped));
        let (jobs, receiver) = mpsc::channel(options.queue);
        let receiver = Arc::new(tokio::sync::Mutex::new(receiver));
        for _ in 0..options.lanes {
            let lane = Lane {
                options: connect.clone(),
                schema: options.schema.clone(),
                patience: options.patience,
                connection: None,
            };
            tokio::spawn(lane::run(lane, Arc::clone(&receiver)));
        }
        let (jobs, stop) = (Mutex::new(Some(jobs)), Mutex::new(Some(stop)));
        Self { options, pool, jobs, signals, head, stop }
    }

    /// Ends subscriptions and takes no more appends; those that wait are still written.
    ///
    /// It waits no longer than a statement may take for connections that do not come back.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future lets the closing finish in the background.
    pub async fn close(&self) {
        drop(self.jobs.lock().take());
        drop(self.stop.lock().take());
        // The others are closed when they come back, or with the runtime.
        let _all_back =
            tokio::time::timeout(self.options.patience, self.pool.close()).await.is_ok();
    }

    pub(super) fn schema(&self) -> &str {
        &self.options.schema
    }

    pub(super) const fn pool(&self) -> &PgPool {
        &self.pool
    }

    pub(super) const fn patience(&self) -> Duration {
        self.options.patience
    }

    pub(super) const fn stall(&self) -> Duration {
        self.options.stall
    }

    fn source(&self) -> PostgresSource {
        let Self { options, pool, .. } = self;
        let (schema, patience) = (options.schema.clone(), options.patience);
        PostgresSource { pool: pool.clone(), schema, patience, head: self.head.clone() }
    }

    async fn order(&self, order: Order, operation: &'static str) -> Result<Appended> {
        let closed = || Error::new(ErrorKind::Closed, operation);
        let jobs = self.jobs.lock().clone().ok_or_else(closed)?;
        let (reply, answer) = oneshot::channel();
        jobs.send(Job { order, reply }).await.map_err(|_| closed())?;
        answer.await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Indeterminate, operation)
                .detail("the lane died")
                .idempotent())
        })
    }
}

/// Reads of the whole store, by subscriptions that may live on their own.
#[derive(Debug)]
struct PostgresSource {
    pool: PgPool,
    schema: String,
    patience: Duration,
    head: watch::Receiver<Position>,
}

impl PostgresSource {
    async fn rows(&self, mut sql: sqlx::QueryBuilder<sqlx::Postgres>) -> Result<Vec<PgRow>> {
        let reading = sql.build().fetch_all(&self.pool);
        match tokio::time::timeout(self.patience, reading).await {
            Ok(rows) => rows.map_err(|cause| failed(READ, cause)),
            Err(_) => Err(Error::new(ErrorKind::Timeout, READ)),
        }
    }
}

#[async_trait]
impl Source for PostgresSource {
    async fn page(&self, after: Position, filter: &Filter, limit: usize) -> Result<EventPage> {
        let rows = self.rows(read::page_statement(&self.schema, after, filter, limit)).await?;
        let fail = |cause| failed(READ, cause);
        let mut head = Position::ZERO;
        let mut events = Vec::with_capacity(rows.len());
        for row in &rows {
            head = Position::new(unsigned(row.try_get("head").map_err(fail)?));
            let position: Option<i64> = row.try_get("position").map_err(fail)?;
            if position.is_some() {
                events.push(read::event(row)?);
            }
        }
        let last = events.last().map_or(after, |event: &RecordedEvent| event.position);
        let is_end = events.len() < limit || head <= last;
        let read_to = if is_end && 0 < limit { head.max(last) } else { last };
        Ok(EventPage { events, read_to, is_end })
    }

    async fn changed(&self, after: Position) -> bool {
        subscription::beyond(&self.head, after).await
    }
}

#[async_trait]
impl EventStore for PostgresEventStore {
    #[tracing::instrument(level = "debug", skip_all, fields(streams = append.streams.len()))]
    async fn append(&self, append: Append) -> Result<Appended> {
        index::check_shape(&append)?;
        let begun = self.options.clock.now();
        let context = Context::current();
        let n_events: usize = append.streams.iter().map(|part| part.events.len()).sum();
        let offer = Offer {
            append,
            recorded: self.options.clock.wall(),
            correlation: context.correlation_id(),
            trace: context.trace_context(),
            headers: context.headers(),
        };
        let result = self.order(Order::Append(Box::new(offer)), "append to stream").await;
        APPENDS.add_for(telemetry::outcome(&result), 1);
        COMMIT.record(self.options.clock.now().since(begun).as_secs_f64());
        if let Ok(appended) = &result
            && !appended.is_duplicate
            && 0 < n_events
        {
            APPENDED.add(n_events as u64);
            self.signals.appended(appended.position);
        }
        result
    }

    #[tracing::instrument(name = "read stream", level = "debug", skip_all, fields(%stream, limit))]
    async fn read_stream(
        &self,
        stream: &StreamName,
        from: Version,
        direction: Direction,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>> {
        let schema = &self.options.schema;
        let sql = read::stream_statement(schema, stream, (from, direction), limit);
        self.source().rows(sql).await?.iter().map(read::event).collect()
    }

    #[tracing::instrument(name = "read all events", level = "debug", skip_all, fields(%after, limit))]
    async fn read_all(&self, after: Position, filter: &Filter, limit: usize) -> Result<EventPage> {
        self.source().page(after, filter, limit).await
    }

    async fn subscribe(&self, after: Position, filter: Filter) -> Result<Subscription> {
        Ok(subscription::start(Arc::new(self.source()), after, filter))
    }

    async fn stream_info(&self, stream: &StreamName) -> Result<Option<StreamInfo>> {
        let mut sql = sqlx::QueryBuilder::new(format!(
            "select first, last, incarnation::text as incarnation from {}.streams \
            where not is_tombstoned and name = ",
            self.options.schema
        ));
        sql.push_bind(stream.as_str().to_owned());
        let rows = self.source().rows(sql).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let fail = |cause| failed(READ, cause);
        let incarnation: String = row.try_get("incarnation").map_err(fail)?;
        Ok(Some(StreamInfo {
            incarnation: incarnation.parse()?,
            first: Version::new(unsigned(row.try_get("first").map_err(fail)?)),
            last: Version::new(unsigned(row.try_get("last").map_err(fail)?)),
        }))
    }

    async fn stable_head(&self) -> Result<Position> {
        watcher::stable_head(&self.pool, &self.options.schema).await
    }

    async fn wait_for(&self, position: Position, patience: Duration) -> Result<()> {
        // The watcher may not have seen yet what can be read already.
        let is_known = position <= *self.head.borrow();
        if is_known || self.stable_head().await.is_ok_and(|head| position <= head) {
            return Ok(());
        }
        self.signals.look();
        memory::wait_for(self.head.clone(), position, patience).await
    }

    async fn truncate_before(&self, stream: &StreamName, before: Version) -> Result<()> {
        let order = Order::Truncate { stream: stream.clone(), before };
        self.order(order, "truncate stream").await.map(|_| ())
    }

    async fn tombstone(&self, stream: &StreamName, expected: Expected) -> Result<()> {
        let order = Order::Tombstone { stream: stream.clone(), expected };
        self.order(order, "tombstone stream").await.map(|_| ())
    }
}
