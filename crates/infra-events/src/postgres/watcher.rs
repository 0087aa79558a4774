//! The watcher: one task that knows the stable head, and wakes whoever waits for it.
//!
//! It looks when this process appended, when another one notified, and at least once per poll
//! interval; while an append is not visible yet it looks more and more seldom.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use infra_core::{Error, ErrorKind, Result, backoff::Backoff, version::Position};
use sqlx::{
    Acquire as _, Connection as _, PgConnection, PgExecutor, PgPool, Row as _, postgres::PgListener,
};
use tokio::sync::{Notify, watch};

use super::{
    failed,
    lane::{signed, unsigned},
    schema::named,
};
use crate::telemetry::HEAD;

/// How soon it is looked again for an append that is not visible yet; it doubles up to the poll
/// interval.
const SOON: Duration = Duration::from_millis(1);

/// The longest pause after a failure, however long the poll interval is.
const AGAIN: Duration = Duration::from_millis(500);

/// What the store, its listener and its watcher tell each other.
#[derive(Debug, Default)]
pub(super) struct Signals {
    wake: Notify,
    /// The highest position that is known to be appended; it may not be visible yet.
    wanted: AtomicU64,
    /// The highest position that this process appended.
    own: AtomicU64,
}

impl Signals {
    /// Tells of an append of this process, which the others are to hear of.
    pub(super) fn appended(&self, position: Position) {
        // SeqCst throughout: the numbers only grow, and nothing else hangs on them.
        self.own.fetch_max(position.get(), Ordering::SeqCst);
        self.heard(position);
    }

    fn heard(&self, position: Position) {
        self.wanted.fetch_max(position.get(), Ordering::SeqCst);
        self.wake.notify_one();
    }

    /// Makes the watcher look now.
    pub(super) fn look(&self) {
        self.wake.notify_one();
    }
}

pub(super) struct Watcher {
    pub(super) pool: PgPool,
    pub(super) schema: String,
    pub(super) poll: Duration,
    /// How long a look may take: on a dead connection it would never end.
    pub(super) patience: Duration,
    pub(super) signals: Arc<Signals>,
    pub(super) head: watch::Sender<Position>,
}

/// Reads the stable head.
pub(super) async fn stable_head(by: impl PgExecutor<'_>, schema: &str) -> Result<Position> {
    let fail = |cause| failed("read stable head", cause);
    let sql = named("select {schema}.stable_head()", schema);
    let row = sqlx::query(sql).fetch_one(by).await.map_err(fail)?;
    Ok(Position::new(unsigned(row.try_get(0).map_err(fail)?)))
}

/// Raises a head; it never goes back.
pub(super) fn publish(head: &watch::Sender<Position>, found: Position) {
    head.send_if_modified(|known| {
        let is_later = *known < found;
        *known = (*known).max(found);
        is_later
    });
}

impl Watcher {
    /// Watches until `stop` is closed.
    pub(super) async fn run(self, mut stop: watch::Receiver<()>) {
        tokio::select! {
            _ = stop.changed() => {}
            () = self.watch() => {}
            () = self.listen() => {}
        }
    }

    async fn watch(&self) {
        let mut announced = 0;
        let mut soon = SOON;
        loop {
            let late = |_| Err(Error::new(ErrorKind::Timeout, "read stable head"));
            let looking = tokio::time::timeout(self.patience, self.look(&mut announced));
            if let Err(error) = looking.await.unwrap_or_else(late) {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "stable head is not known"
                );
                tokio::time::sleep(self.poll.min(AGAIN)).await;
                continue;
            }
            let known = self.head.borrow().get();
            let wanted = self.signals.wanted.load(Ordering::SeqCst);
            soon = if known < wanted { (soon * 2).min(self.poll) } else { SOON };
            let pause = if known < wanted { soon } else { self.poll };
            tokio::select! {
                () = self.signals.wake.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Looks at the head once, and tells other processes what this one appended.
    async fn look(&self, announced: &mut u64) -> Result<(), Error> {
        let own = self.signals.own.load(Ordering::SeqCst);
        let head = stable_head(&self.pool, &self.schema).await?;
        publish(&self.head, head);
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a double")]
        HEAD.set(head.get() as f64);
        if *announced < own {
            let notify = sqlx::query("select pg_notify($1, $2)");
            let notify = notify.bind(self.schema.as_str()).bind(signed(own).to_string());
            let told = notify.execute(&self.pool).await;
            told.map_err(|cause| failed("announce events", cause))?;
            *announced = own;
        }
        Ok(())
    }

    /// Listens to what other processes announce; it never ends.
    async fn listen(&self) {
        let backoff =
            Backoff::exponential(Duration::from_millis(50)).capped_at(Duration::from_secs(5));
        for attempt in 1.. {
            let heard = self.hear().await;
            // Polling goes on meanwhile, so nothing is lost but time.
            if let Err(error) = heard {
                tracing::debug!(error = &error as &dyn std::error::Error, "not listening");
            }
            tokio::time::sleep(backoff.pause_before(attempt)).await;
        }
    }

    /// Listens until the line is lost.
    async fn hear(&self) -> sqlx::Result<()> {
        let mut listener = PgListener::connect_with(&self.pool).await?;
        let end = self.hear_by(&mut listener).await;
        // A listener takes leave of its server when it ends: over a dead line it would wait for the answer,
        // and keep its place in the pool meanwhile. So it gets another line first.
        while let Err(error) = self.in_time(renew(&self.pool, &mut listener)).await {
            tracing::debug!(error = &error as &dyn std::error::Error, "no new line to listen by");
            tokio::time::sleep(AGAIN).await;
        }
        end
    }

    async fn hear_by(&self, listener: &mut PgListener) -> sqlx::Result<()> {
        self.in_time(listener.listen(&self.schema)).await?;
        loop {
            match tokio::time::timeout(self.patience, listener.recv()).await {
                Ok(notification) => {
                    let position = notification?.payload().parse().unwrap_or_default();
                    self.signals.heard(Position::new(position));
                }
                // Nobody has spoken: perhaps nobody is there any more.
                Err(_) => self.in_time(ping(listener)).await?,
            }
        }
    }

    async fn in_time<T>(&self, asking: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
        let late = |_| Err(sqlx::Error::Io(io::ErrorKind::TimedOut.into()));
        tokio::time::timeout(self.patience, asking).await.unwrap_or_else(late)
    }
}

async fn ping(listener: &mut PgListener) -> sqlx::Result<()> {
    listener.acquire().await?.ping().await
}

/// Puts a new connection into the place of a listener's; the old one is closed without a word.
async fn renew(pool: &PgPool, listener: &mut PgListener) -> sqlx::Result<()> {
    let fresh = PgConnection::connect_with(&pool.connect_options()).await?;
    *listener.acquire().await? = fresh;
    Ok(())
}
