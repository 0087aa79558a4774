//! The store on PostgreSQL: several processes share one order, and no reader skips an event.
//!
//! A position is the id of the transaction that wrote the event, and its place in it. A
//! transaction takes its id only when it holds the advisory locks of its streams, so positions of a
//! stream grow with its versions. Readers see what lies below the oldest transaction that still
//! runs (`pg_snapshot_xmin`): nothing can appear there any more. A sequence would not do: its
//! numbers become visible in another order than they are drawn in, and readers skip the late ones.
//!
//! One append is one call of a function, so one round trip. `NOTIFY` is sent outside of the
//! transactions that append, since it would make them commit one after the other.

mod health;
mod lane;
mod line;
mod options;
mod read;
mod schema;
mod store;
mod watcher;

pub use options::PostgresOptions;
pub use store::PostgresEventStore;

use infra_core::{Error, ErrorKind};

/// Turns an error of the database into ours; one of an append may not know its fate.
#[expect(clippy::wildcard_enum_match_arm, reason = "an enum of another crate that grows")]
pub(crate) fn failed(operation: &'static str, cause: sqlx::Error) -> Error {
    let kind = match &cause {
        sqlx::Error::Database(database) => {
            let code = database.code().unwrap_or_default();
            match code.get(..2).unwrap_or_default() {
                // Serialization failures and deadlocks, shutdowns and failed connections.
                "40" | "57" | "08" => ErrorKind::Unavailable,
                "53" => ErrorKind::Overloaded,
                "42" | "3F" => ErrorKind::Invalid,
                _ => ErrorKind::Internal,
            }
        }
        sqlx::Error::PoolClosed => ErrorKind::Closed,
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => ErrorKind::Corrupt,
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::WorkerCrashed => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    };
    Error::new(kind, operation).because(cause)
}
