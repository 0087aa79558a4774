//! How PostgreSQL is reached, and how its tables come to be.

use std::{borrow::Cow, str::FromStr, sync::Arc, time::Duration};

use infra_core::{Clock, Error, ErrorKind, Result, SystemClock};
use sqlx::{
    AssertSqlSafe, Connection as _, PgConnection, PgPool, SqlStr,
    migrate::{MigrateError, Migration, MigrationType, Migrator},
    postgres::PgConnectOptions,
};

use super::{error::wrap, line};

const OPEN: &str = "open PostgreSQL";

/// How long each half of an opening may take at least: it asks a dozen times, one after the other.
const OPENING: Duration = Duration::from_secs(30);

/// The steps from nothing to today's tables. A step that was ever released is never changed.
static STEPS: [(&str, &str); 1] =
    [("documents", include_str!("../../migrations/0001_documents.sql"))];

/// sqlx's `migrate!` would do the same, and compile sqlx a second time for its macro.
fn migrations() -> Migrator {
    let step = |(version, (what, sql)): (i64, &(&'static str, &'static str))| {
        let sql = SqlStr::from_static(sql);
        Migration::new(version, Cow::Borrowed(*what), MigrationType::Simple, sql, false)
    };
    Migrator::with_migrations((1..).zip(&STEPS).map(step).collect())
}

/// How PostgreSQL is reached.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    url: String,
    schema: String,
    pub(super) connections: u32,
    pub(super) patience: Duration,
    pub(super) history: u64,
    pub(super) clock: Arc<dyn Clock>,
}

impl PostgresOptions {
    /// Creates the options of a server; the URL names database and user.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            schema: "infra_persistence".to_owned(),
            connections: 16,
            patience: Duration::from_secs(10),
            history: 0,
            clock: SystemClock::shared(),
        }
    }

    /// Sets the schema of our tables, which is made if it is not there; `infra_persistence` by
    /// default. Stores of different schemas know nothing of each other.
    #[must_use]
    pub fn schema(mut self, schema: impl Into<String>) -> Self {
        self.schema = schema.into();
        self
    }

    /// Sets the most connections; 16 by default. Who asks while all are taken waits.
    #[must_use]
    pub const fn connections(mut self, connections: u32) -> Self {
        self.connections = connections;
        self
    }

    /// Sets how long an operation may take, waiting for a connection included; 10 s by default. An opening,
    /// which is many, may take a minute.
    #[must_use]
    pub const fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Keeps the newest `versions` of each document; none beside the present one by default.
    #[must_use]
    pub const fn history(mut self, versions: u64) -> Self {
        self.history = versions;
        self
    }

    /// Sets where the times of documents come from; the system's clock by default.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Connects, and brings the tables up to date.
    pub(super) async fn connect(&self) -> Result<PgPool> {
        let is_letter = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
        let is_name = |letter: char| is_letter(letter) || letter == '_';
        if self.schema.is_empty() || 63 < self.schema.len() || !self.schema.chars().all(is_name) {
            let detail = format!("the schema {:?}: lower case letters, digits, _", self.schema);
            return Err(Error::invalid(OPEN, detail));
        }
        if self.connections == 0 {
            return Err(Error::invalid(OPEN, "a pool without connections"));
        }
        let options = PgConnectOptions::from_str(&self.url)
            .map_err(|cause| Error::invalid(OPEN, "the URL").because(cause))?
            .options([("search_path", self.schema.as_str())]);
        let preparing = async {
            let mut connection = PgConnection::connect_with(&options).await?;
            let create = format!("CREATE SCHEMA IF NOT EXISTS {}", self.schema);
            // Two that create the same schema at once would fail.
            let lock = "SELECT pg_advisory_lock(hashtextextended('infra_persistence', 0))";
            sqlx::query(lock).execute(&mut connection).await?;
            sqlx::query(AssertSqlSafe(create)).execute(&mut connection).await?;
            connection.close().await
        };
        let late = || Error::new(ErrorKind::Timeout, OPEN);
        let patience = self.patience.max(OPENING);
        let prepared = tokio::time::timeout(patience, preparing).await;
        prepared.map_err(|_| late())?.map_err(|cause| wrap(OPEN, cause))?;
        let pool = line::pool(self.connections, self.patience).connect_lazy_with(options);
        let migrated = tokio::time::timeout(patience, migrations().run(&pool)).await;
        migrated.map_err(|_| late())?.map_err(not_migrated)?;
        Ok(pool)
    }
}

/// Tells a schema that a later version of this crate has made from an outage.
fn not_migrated(cause: MigrateError) -> Error {
    if let MigrateError::VersionMissing(found) = cause {
        let known = STEPS.len();
        let detail = format!("the schema has version {found}, known is {known}");
        return Error::new(ErrorKind::Unsupported, OPEN).detail(detail);
    }
    Error::new(ErrorKind::Unavailable, OPEN).detail("migrate the schema").because(cause)
}
