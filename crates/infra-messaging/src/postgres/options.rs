//! How a queue's PostgreSQL is reached.

use std::{fmt, time::Duration};

/// How a queue's PostgreSQL is reached.
#[derive(Clone)]
pub struct PostgresOptions {
    pub(super) url: String,
    pub(super) connections: u32,
    pub(super) patience: Duration,
}

impl PostgresOptions {
    /// Creates the options of a server; the URL names database and user.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), connections: 16, patience: Duration::from_secs(10) }
    }

    /// Sets the most connections; 16 by default. Who asks while all are taken waits.
    #[must_use]
    pub const fn connections(mut self, connections: u32) -> Self {
        self.connections = connections;
        self
    }

    /// Sets how long a step may take, waiting for a connection included; 10 s by default. How long
    /// [`Queue::receive`](infra_core::queue::Queue::receive) waits for a message is not bounded by it.
    #[must_use]
    pub const fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }
}

impl fmt::Debug for PostgresOptions {
    /// Leaves the URL out, which may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresOptions")
            .field("connections", &self.connections)
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}
