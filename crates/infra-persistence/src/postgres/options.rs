//! How PostgreSQL is reached.

use std::{str::FromStr, sync::Arc, time::Duration};

use infra_core::{Clock, Error, Result, SystemClock};
use sqlx::{PgPool, postgres::PgConnectOptions};

use super::{
    error::wrap,
    line,
    schema::{OPEN, bring_up_to_date, is_up_to_date},
};

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
        let pool = line::pool(self.connections, self.patience).connect_with(options.clone());
        let pool = async { pool.await.map_err(|cause| wrap(OPEN, cause)) };
        let looking = is_up_to_date(&options, self.patience);
        let (pool, is_up_to_date) = tokio::try_join!(Box::pin(pool), Box::pin(looking))?;
        if !is_up_to_date {
            Box::pin(bring_up_to_date(&pool, &self.schema, self.patience)).await?;
        }
        Ok(pool)
    }
}
