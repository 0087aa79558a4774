//! Lines to PostgreSQL whose other end may be gone without a word.
//!
//! This file stands, word for word, in each crate that has a pool: components depend on infra-core alone,
//! which knows no database (docs/decisions/0026). A test of xtask holds the copies together.

use std::{io, time::Duration};

use sqlx::{Connection as _, PgConnection, postgres::PgPoolOptions};

/// The longest that a connection has to show that it lives.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

/// Returns a pool's options: so many connections, and so long for who waits for one.
///
/// A connection shows that it lives when it is handed out and when it comes back. sqlx asks the same, without
/// a bound: whoever is handed a dead one would wait for its whole patience, and the place of one that comes
/// back would be taken for as long as the operating system believes in it. At most a quarter of the patience
/// goes into that, so that the rest is left to open a new one and to use it.
pub(super) fn pool(connections: u32, patience: Duration) -> PgPoolOptions {
    let bound = SIGN_OF_LIFE.min(patience / 4);
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(patience)
        .test_before_acquire(false)
        .before_acquire(move |connection, _| Box::pin(lives(connection, bound)))
        .after_release(move |connection, _| Box::pin(lives(connection, bound)))
}

/// Returns whether a connection answers in time; one that is an error is closed without a word to its server.
async fn lives(connection: &mut PgConnection, bound: Duration) -> sqlx::Result<bool> {
    match tokio::time::timeout(bound, connection.ping()).await {
        Ok(answer) => answer.map(|()| true),
        Err(_) => Err(sqlx::Error::Io(io::ErrorKind::TimedOut.into())),
    }
}
