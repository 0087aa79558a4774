//! How the store is opened.

use std::{sync::Arc, time::Duration};

use infra_core::{Clock, Error, Result, SystemClock};

/// How the PostgreSQL store is opened; every value but the URL has a default.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    pub(super) url: String,
    pub(super) schema: String,
    pub(super) lanes: usize,
    pub(super) readers: u32,
    pub(super) queue: usize,
    pub(super) poll: Duration,
    pub(super) patience: Duration,
    pub(super) stall: Duration,
    pub(super) clock: Arc<dyn Clock>,
}

impl PostgresOptions {
    /// Creates the options of a store in the database at `url`.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            schema: "infra_events".to_owned(),
            lanes: 8,
            readers: 8,
            queue: 4_096,
            poll: Duration::from_millis(500),
            patience: Duration::from_secs(30),
            stall: Duration::from_secs(5),
            clock: SystemClock::shared(),
        }
    }

    /// Sets the database schema that holds the tables; `infra_events` by default.
    ///
    /// # Errors
    ///
    /// [`Invalid`](infra_core::ErrorKind::Invalid) unless it is 1 to 40 of `a-z`, `0-9` and `_`,
    /// beginning with a letter.
    pub fn schema(mut self, schema: impl Into<String>) -> Result<Self> {
        let schema = schema.into();
        let is_plain = |letter: u8| matches!(letter, b'a'..=b'z' | b'0'..=b'9' | b'_');
        let begins = schema.bytes().next().is_some_and(|first| first.is_ascii_lowercase());
        if !begins || 40 < schema.len() || !schema.bytes().all(is_plain) {
            return Err(Error::invalid("name schema", format!("{schema:?}")));
        }
        self.schema = schema;
        Ok(self)
    }

    /// Sets over how many connections appends run at a time; 8 by default, at least 1.
    #[must_use]
    pub fn lanes(mut self, lanes: usize) -> Self {
        self.lanes = lanes.max(1);
        self
    }

    /// Sets how many connections serve reads; 8 by default, at least 2: one listens.
    #[must_use]
    pub fn readers(mut self, connections: u32) -> Self {
        self.readers = connections.max(2);
        self
    }

    /// Sets how many appends may wait for a lane; 4,096 by default. More wait their turn.
    #[must_use]
    pub fn queue(mut self, appends: usize) -> Self {
        self.queue = appends.max(1);
        self
    }

    /// Sets how often the head is looked at when no notification comes; 500 ms by default.
    #[must_use]
    pub const fn poll_interval(mut self, interval: Duration) -> Self {
        self.poll = interval;
        self
    }

    /// Sets how long a statement may take; 30 s by default.
    ///
    /// An append that takes longer is of unknown fate; repeating it is harmless.
    #[must_use]
    pub const fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Sets how long a transaction may hold the head back before health names it; 5 s by default.
    #[must_use]
    pub const fn stall_after(mut self, age: Duration) -> Self {
        self.stall = age;
        self
    }

    /// Sets where times come from; the system's clock by default.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_is_a_plain_name() {
        let named = |name: &str| PostgresOptions::new("").schema(name).is_ok();
        assert!(named("events_2"));
        for wrong in ["", "2events", "Events", "a;drop", "a\"b", &"a".repeat(41)] {
            assert!(!named(wrong), "{wrong}");
        }
    }
}
