//! The statements of a queue in PostgreSQL.

use std::{collections::HashSet, time::Duration};

use infra_core::{
    Error, ErrorKind, Result,
    clock::Timestamp,
    id::{MessageId, QueueName},
    queue::{Cause, DeadLetter, Message, Settlement, Stats},
};
use sqlx::{AssertSqlSafe, PgPool, Postgres, Row as _, Transaction};

use super::row::{
    COLUMNS, Row, Taken, column_of, history_text, millis, open, open_letter, seal, seal_letter,
};
use crate::{
    queue::Options,
    telemetry::{DEAD, Death, FORGOTTEN},
    wire::number_of,
};

type Step<'a> = Transaction<'a, Postgres>;

/// How many messages end in one sweep.
const SWEEP: i64 = 500;

/// Wraps what the driver fails with; a commit whose answer is lost is indeterminate.
#[expect(clippy::wildcard_enum_match_arm, reason = "the driver's errors are many and may grow")]
pub(super) fn failed(operation: &'static str, cause: sqlx::Error) -> Error {
    let kind = match &cause {
        // A line that is cut while it is opened looks to the driver like a breach of the protocol.
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::WorkerCrashed => ErrorKind::Unavailable,
        sqlx::Error::PoolClosed => ErrorKind::Closed,
        // The classes of a server that ends, is out of means, or broke a transaction off.
        sqlx::Error::Database(error)
            if error.code().is_some_and(|code| {
                ["57", "53", "40", "08"].iter().any(|class| code.starts_with(class))
            }) =>
        {
            ErrorKind::Unavailable
        }
        _ => ErrorKind::Internal,
    };
    Error::new(kind, operation).because(cause)
}

/// A message that is added, fresh or replayed.
struct Fresh<'a> {
    message: &'a Message,
    delay: Duration,
    replays: u32,
    history: &'a str,
}

/// A queue in the tables.
pub(super) struct Store {
    pool: PgPool,
    queue: String,
    options: Options,
}

impl Store {
    pub(super) async fn open(pool: PgPool, name: &QueueName, options: Options) -> Result<Self> {
        const OPEN: &str = "open queue";
        let store = Self { pool, queue: name.to_string(), options };
        let fail = |cause| failed(OPEN, cause);
        let mut connection = store.pool.acquire().await.map_err(fail)?;
        // What is sent together is one transaction. Two processes that create the same table at once would
        // fail; the lock is any fixed number.
        let schema = concat!("SELECT pg_advisory_xact_lock(7203511);", include_str!("schema.sql"));
        sqlx::raw_sql(schema).execute(&mut *connection).await.map_err(fail)?;
        let own = "INSERT INTO infra_messaging.queue (name) VALUES ($1) ON CONFLICT DO NOTHING";
        let own = sqlx::query(own).bind(&store.queue);
        own.execute(&mut *connection).await.map_err(fail)?;
        drop(connection);
        Ok(store)
    }

    async fn begin(&self, operation: &'static str) -> Result<Step<'static>> {
        self.pool.begin().await.map_err(|cause| failed(operation, cause))
    }

    /// Makes the steps that add messages take turns, so that a capacity holds over all processes.
    async fn lock_queue(&self, operation: &'static str, step: &mut Step<'_>) -> Result<()> {
        let lock = "SELECT name FROM infra_messaging.queue WHERE name = $1 FOR UPDATE";
        run(operation, step, sqlx::query(lock).bind(&self.queue)).await
    }

    pub(super) async fn publish(&self, messages: &[Message], now: Timestamp) -> Result<Vec<bool>> {
        const PUBLISH: &str = "publish message";
        if messages.is_empty() {
            return Ok(Vec::new());
        }
        let mut step = self.begin(PUBLISH).await?;
        self.lock_queue(PUBLISH, &mut step).await?;
        self.sweep(&mut step, now).await?;
        let mut new = Vec::new();
        let mut ids = HashSet::new();
        for message in messages {
            new.push(self.is_new(&mut step, message, &mut ids, now).await?);
        }
        let count = new.iter().filter(|is_new| **is_new).count();
        self.check_room(&mut step, count).await?;
        for (message, _) in messages.iter().zip(&new).filter(|(_, is_new)| **is_new) {
            let (delay, replays, history) = (message.delay, 0, "[]");
            self.insert(&mut step, Fresh { message, delay, replays, history }, now).await?;
        }
        commit(PUBLISH, step).await?;
        Ok(new)
    }

    async fn is_new<'m>(
        &self,
        step: &mut Step<'_>,
        message: &'m Message,
        ids: &mut HashSet<&'m str>,
        now: Timestamp,
    ) -> Result<bool> {
        let Some(id) = &message.dedup else { return Ok(true) };
        if !ids.insert(id) {
            return Ok(false);
        }
        let learn = "INSERT INTO infra_messaging.known AS known (queue, id, until) \
             VALUES ($1, $2, $3) ON CONFLICT (queue, id) DO UPDATE SET until = $3 \
             WHERE known.until <= $4";
        let until = millis(now.plus(self.options.window));
        let query = sqlx::query(learn).bind(&self.queue).bind(id).bind(until).bind(millis(now));
        let done = query.execute(&mut **step).await;
        Ok(0 < done.map_err(|cause| failed("publish message", cause))?.rows_affected())
    }

    async fn check_room(&self, step: &mut Step<'_>, count: usize) -> Result<()> {
        let size = "SELECT (SELECT count(*) FROM infra_messaging.message WHERE queue = $1), \
             (SELECT count(*) FROM infra_messaging.known WHERE queue = $1)";
        let row = sqlx::query(size).bind(&self.queue).fetch_one(&mut **step).await;
        let row = row.map_err(|cause| failed("publish message", cause))?;
        let (size, known): (i64, i64) = (row.get(0), row.get(1));
        let room = usize::try_from(size).unwrap_or(usize::MAX).saturating_add(count);
        let is_full = self.options.capacity < room;
        if is_full || self.options.max_dedup < usize::try_from(known).unwrap_or(usize::MAX) {
            let detail = format!("{size} messages and {known} dedup ids are there");
            return Err(Error::new(ErrorKind::Overloaded, "publish message").detail(detail));
        }
        Ok(())
    }

    async fn insert(&self, step: &mut Step<'_>, fresh: Fresh<'_>, now: Timestamp) -> Result<()> {
        let Fresh { message, delay, replays, history } = fresh;
        let insert = "INSERT INTO infra_messaging.message \
             (queue, priority, key, published, due, expires, replays, history, envelope) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
        let query = sqlx::query(insert)
            .bind(&self.queue)
            .bind(i16::from(number_of(message.priority)))
            .bind(&message.key)
            .bind(millis(now))
            .bind(millis(now.plus(delay)))
            .bind(message.ttl.map(|ttl| millis(now.plus(ttl))))
            .bind(signed(replays))
            .bind(history)
            .bind(seal(message)?);
        run("publish message", step, query).await
    }

    pub(super) async fn take(
        &self,
        limit: usize,
        lease: Duration,
        now: Timestamp,
        is_aged: bool,
    ) -> Result<Vec<Taken>> {
        const TAKE: &str = "receive message";
        let mut step = self.begin(TAKE).await?;
        self.sweep(&mut step, now).await?;
        // Of a key only its first message is looked at, locked or not, so none overtakes it.
        let (order, limit) = if is_aged { ("number", 1) } else { ("priority DESC, number", limit) };
        let take = format!(
            "WITH chosen AS (SELECT number FROM infra_messaging.message AS message \
             WHERE queue = $1 AND lease IS NULL AND due <= $2 \
             AND NOT (SELECT is_paused FROM infra_messaging.queue WHERE name = $1) \
             AND (key IS NULL OR NOT EXISTS (SELECT 1 FROM infra_messaging.message AS first \
             WHERE first.queue = $1 AND first.key = message.key AND first.number < message.number)) \
             ORDER BY {order} LIMIT $3 FOR UPDATE SKIP LOCKED) \
             UPDATE infra_messaging.message AS message \
             SET lease = nextval('infra_messaging.lease'), due = $4, deliveries = deliveries + 1 \
             FROM chosen WHERE message.number = chosen.number \
             RETURNING message.*"
        );
        let rows = sqlx::query(AssertSqlSafe(take))
            .bind(&self.queue)
            .bind(millis(now))
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .bind(millis(now.plus(lease)))
            .fetch_all(&mut *step)
            .await
            .map_err(|cause| failed(TAKE, cause))?;
        let mut taken = Vec::new();
        for row in &rows {
            let lease = column_of(row, "lease")?;
            let Row { number, message, attempts, published, .. } = Row::read(row)?;
            taken.push(Taken { number, lease, message, attempts, published });
        }
        commit(TAKE, step).await?;
        // `RETURNING` has no order of its own.
        let place = |one: &Taken| (std::cmp::Reverse(one.message.priority), one.number);
        taken.sort_by_key(place);
        Ok(taken)
    }

    /// Ends what is due: leases, times to live, dedup ids.
    async fn sweep(&self, step: &mut Step<'_>, now: Timestamp) -> Result<()> {
        let lost = "lease IS NOT NULL AND due <= $2";
        for mut row in self.locked(step, lost, now).await? {
            row.attempts.crashes += 1;
            row.note(now, "its lease ended without a verdict");
            self.put_back(step, row, now, now).await?;
        }
        let over = "lease IS NULL AND expires <= $2";
        for row in self.locked(step, over, now).await? {
            self.bury(step, row, (Cause::Expired, "its time to live is over"), now).await?;
        }
        let forget = "DELETE FROM infra_messaging.known WHERE ctid IN (SELECT ctid \
             FROM infra_messaging.known WHERE queue = $1 AND until <= $2 LIMIT 500 \
             FOR UPDATE SKIP LOCKED)";
        run("sweep queue", step, sqlx::query(forget).bind(&self.queue).bind(millis(now))).await
    }

    async fn locked(&self, step: &mut Step<'_>, which: &str, now: Timestamp) -> Result<Vec<Row>> {
        let select = format!(
            "SELECT {COLUMNS} FROM infra_messaging.message WHERE queue = $1 AND {which} \
             ORDER BY number LIMIT {SWEEP} FOR UPDATE SKIP LOCKED"
        );
        let query = sqlx::query(AssertSqlSafe(select)).bind(&self.queue).bind(millis(now));
        let rows = query.fetch_all(&mut **step).await;
        rows.map_err(|cause| failed("sweep queue", cause))?.iter().map(Row::read).collect()
    }

    pub(super) async fn settle(
        &self,
        number: i64,
        lease: i64,
        settlement: Settlement,
        now: Timestamp,
    ) -> Result<()> {
        const SETTLE: &str = "settle delivery";
        if settlement == Settlement::Ack {
            let gone = "DELETE FROM infra_messaging.message \
                 WHERE number = $1 AND lease = $2 AND $3 < due";
            let query = sqlx::query(gone).bind(number).bind(lease).bind(millis(now));
            let done = query.execute(&self.pool).await.map_err(|cause| failed(SETTLE, cause))?;
            return held(SETTLE, done.rows_affected());
        }
        let mut step = self.begin(SETTLE).await?;
        let select = format!(
            "SELECT {COLUMNS} FROM infra_messaging.message \
             WHERE number = $1 AND lease = $2 AND $3 < due FOR UPDATE"
        );
        let query = sqlx::query(AssertSqlSafe(select)).bind(number).bind(lease).bind(millis(now));
        let row = query.fetch_optional(&mut *step).await.map_err(|cause| failed(SETTLE, cause))?;
        let Some(row) = row else { return held(SETTLE, 0) };
        self.judge(&mut step, Row::read(&row)?, settlement, now).await?;
        commit(SETTLE, step).await
    }

    async fn judge(
        &self,
        step: &mut Step<'_>,
        mut row: Row,
        settlement: Settlement,
        now: Timestamp,
    ) -> Result<()> {
        match settlement {
            Settlement::Ack => Ok(()),
            Settlement::Release => {
                row.attempts.releases += 1;
                self.put_back(step, row, now, now).await
            }
            Settlement::Crash { reason } => {
                row.attempts.crashes += 1;
                row.note(now, &reason);
                self.put_back(step, row, now, now).await
            }
            Settlement::DeadLetter { reason } => {
                self.bury(step, row, (Cause::Refused, &reason), now).await
            }
            Settlement::Nack { delay, reason } => {
                row.attempts.failures += 1;
                row.note(now, &reason);
                if self.options.max_failures <= row.attempts.failures {
                    return self.bury(step, row, (Cause::Failed, &reason), now).await;
                }
                self.put_back(step, row, now, now.plus(delay)).await
            }
        }
    }

    /// Puts a message back, or makes it a dead letter if it may not live on.
    async fn put_back(
        &self,
        step: &mut Step<'_>,
        row: Row,
        now: Timestamp,
        due: Timestamp,
    ) -> Result<()> {
        let last = row.history.last().map(|last| last.reason.clone()).unwrap_or_default();
        if let Some((cause, reason)) = self.options.verdict(row.attempts, &last) {
            return self.bury(step, row, (cause, &reason), now).await;
        }
        if row.expires.is_some_and(|end| end <= now) {
            return self.bury(step, row, (Cause::Expired, "its time to live is over"), now).await;
        }
        let back = "UPDATE infra_messaging.message SET lease = NULL, due = $2, failures = $3, \
             crashes = $4, releases = $5, history = $6 WHERE number = $1";
        let query = sqlx::query(back)
            .bind(row.number)
            .bind(millis(due))
            .bind(signed(row.attempts.failures))
            .bind(signed(row.attempts.crashes))
            .bind(signed(row.attempts.releases))
            .bind(history_text(&row.history)?);
        run("put message back", step, query).await
    }

    async fn bury(
        &self,
        step: &mut Step<'_>,
        row: Row,
        (cause, reason): (Cause, &str),
        now: Timestamp,
    ) -> Result<()> {
        const BURY: &str = "bury message";
        let gone = "DELETE FROM infra_messaging.message WHERE number = $1";
        run(BURY, step, sqlx::query(gone).bind(row.number)).await?;
        let letter = row.die(cause, reason, now);
        let insert = "INSERT INTO infra_messaging.dead (queue, id, cause, died, letter) \
             VALUES ($1, $2, $3, $4, $5)";
        let query = sqlx::query(insert)
            .bind(&self.queue)
            .bind(letter.message.id.to_string())
            .bind(cause.name())
            .bind(millis(now))
            .bind(seal_letter(&letter)?);
        run(BURY, step, query).await?;
        DEAD.add_for(Death(cause), 1);
        let bound = "DELETE FROM infra_messaging.dead WHERE number IN (SELECT number \
             FROM infra_messaging.dead WHERE queue = $1 ORDER BY number DESC OFFSET $2)";
        let most = i64::try_from(self.options.max_dead).unwrap_or(i64::MAX);
        let done = sqlx::query(bound).bind(&self.queue).bind(most).execute(&mut **step).await;
        FORGOTTEN.add(done.map_err(|cause| failed(BURY, cause))?.rows_affected());
        Ok(())
    }

    pub(super) async fn extend(
        &self,
        number: i64,
        lease: i64,
        length: Duration,
        now: Timestamp,
    ) -> Result<()> {
        const EXTEND: &str = "extend lease";
        let extend = "UPDATE infra_messaging.message SET due = $4 \
             WHERE number = $1 AND lease = $2 AND $3 < due";
        let query = sqlx::query(extend).bind(number).bind(lease).bind(millis(now));
        let query = query.bind(millis(now.plus(length)));
        let done = query.execute(&self.pool).await.map_err(|cause| failed(EXTEND, cause))?;
        held(EXTEND, done.rows_affected())
    }

    /// Ends what is due, in a step of its own.
    async fn pass(&self, now: Timestamp) -> Result<()> {
        let mut step = self.begin("sweep queue").await?;
        self.sweep(&mut step, now).await?;
        commit("sweep queue", step).await
    }

    pub(super) async fn stats(&self, now: Timestamp) -> Result<Stats> {
        self.pass(now).await?;
        let count = "SELECT count(*) FILTER (WHERE lease IS NULL AND due <= $2), \
             count(*) FILTER (WHERE lease IS NULL AND $2 < due), \
             count(*) FILTER (WHERE lease IS NOT NULL), \
             (SELECT count(*) FROM infra_messaging.dead WHERE queue = $1), \
             min(published) FILTER (WHERE lease IS NULL AND due <= $2) \
             FROM infra_messaging.message WHERE queue = $1";
        let row = sqlx::query(count).bind(&self.queue).bind(millis(now)).fetch_one(&self.pool);
        let row = row.await.map_err(|cause| failed("count messages", cause))?;
        let number = |place: usize| u64::try_from(row.get::<i64, _>(place)).unwrap_or(0);
        let oldest: Option<i64> = row.get(4);
        let oldest = oldest.and_then(|oldest| u64::try_from(oldest).ok());
        let age = oldest.map(|oldest| now.since(Timestamp::from_millis(oldest)));
        Ok(Stats {
            ready: number(0),
            delayed: number(1),
            leased: number(2),
            dead: number(3),
            oldest: age.unwrap_or_default(),
        })
    }

    async fn bodies(&self, select: &'static str, limit: usize) -> Result<Vec<Vec<u8>>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = sqlx::query_scalar(select).bind(&self.queue).bind(limit);
        rows.fetch_all(&self.pool).await.map_err(|cause| failed("look at queue", cause))
    }

    pub(super) async fn dead_letters(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<DeadLetter>> {
        self.pass(now).await?;
        let select =
            "SELECT letter FROM infra_messaging.dead WHERE queue = $1 ORDER BY number LIMIT $2";
        self.bodies(select, limit).await?.into_iter().map(open_letter).collect()
    }

    pub(super) async fn peek(&self, now: Timestamp, limit: usize) -> Result<Vec<Message>> {
        self.pass(now).await?;
        let select = "SELECT envelope FROM infra_messaging.message WHERE queue = $1 ORDER BY number LIMIT $2";
        self.bodies(select, limit).await?.into_iter().map(open).collect()
    }

    pub(super) async fn replay(&self, id: MessageId, now: Timestamp) -> Result<bool> {
        const REPLAY: &str = "replay dead letter";
        let mut step = self.begin(REPLAY).await?;
        self.lock_queue(REPLAY, &mut step).await?;
        let gone = "DELETE FROM infra_messaging.dead WHERE number = (SELECT min(number) \
             FROM infra_messaging.dead WHERE queue = $1 AND id = $2) RETURNING letter";
        let letter = sqlx::query_scalar(gone).bind(&self.queue).bind(id.to_string());
        let letter: Option<Vec<u8>> =
            letter.fetch_optional(&mut *step).await.map_err(|cause| failed(REPLAY, cause))?;
        let Some(letter) = letter else { return Ok(false) };
        let DeadLetter { message, attempts, history, .. } = open_letter(letter)?;
        let replays = attempts.replays.saturating_add(1);
        let history = history_text(&history)?;
        let (message, history, delay) = (&message, history.as_str(), Duration::ZERO);
        self.insert(&mut step, Fresh { message, delay, replays, history }, now).await?;
        commit(REPLAY, step).await?;
        Ok(true)
    }

    pub(super) async fn purge_dead(&self, before: Timestamp, cause: Option<Cause>) -> Result<u64> {
        let gone = "DELETE FROM infra_messaging.dead \
             WHERE queue = $1 AND died < $2 AND ($3::text IS NULL OR cause = $3)";
        let query = sqlx::query(gone).bind(&self.queue).bind(millis(before));
        let done = query.bind(cause.map(Cause::name)).execute(&self.pool).await;
        Ok(done.map_err(|cause| failed("purge dead letters", cause))?.rows_affected())
    }

    pub(super) async fn clear(&self, now: Timestamp) -> Result<u64> {
        // A lease that is over holds nothing.
        self.pass(now).await?;
        let gone = "DELETE FROM infra_messaging.message WHERE queue = $1 AND lease IS NULL";
        let done = sqlx::query(gone).bind(&self.queue).execute(&self.pool).await;
        Ok(done.map_err(|cause| failed("clear queue", cause))?.rows_affected())
    }

    pub(super) async fn set_paused(&self, paused: bool) -> Result<()> {
        let set = "UPDATE infra_messaging.queue SET is_paused = $2 WHERE name = $1";
        let done = sqlx::query(set).bind(&self.queue).bind(paused).execute(&self.pool).await;
        done.map(|_| ()).map_err(|cause| failed("pause queue", cause))
    }
}

fn signed(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

fn held(operation: &'static str, rows: u64) -> Result<()> {
    if rows == 0 { Err(Error::new(ErrorKind::LeaseLost, operation)) } else { Ok(()) }
}

async fn run(
    operation: &'static str,
    step: &mut Step<'_>,
    query: sqlx::query::Query<'_, Postgres, sqlx::postgres::PgArguments>,
) -> Result<()> {
    query.execute(&mut **step).await.map(|_| ()).map_err(|cause| failed(operation, cause))
}

/// Commits; if the answer is lost, nobody knows whether it took place.
async fn commit(operation: &'static str, step: Step<'_>) -> Result<()> {
    step.commit().await.map_err(|cause| match failed(operation, cause) {
        error if *error.kind() == ErrorKind::Unavailable => {
            Error::new(ErrorKind::Indeterminate, operation).because(error)
        }
        error => error,
    })
}
