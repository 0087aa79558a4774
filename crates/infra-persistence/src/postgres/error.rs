//! What PostgreSQL's errors mean to callers.

use infra_core::{
    Error, ErrorKind,
    version::{Expected, Version},
};

/// Returns the kind of a database's error by its SQLSTATE.
fn kind_of(code: &str) -> ErrorKind {
    match code {
        // A unique value that another one has.
        "23505" => ErrorKind::Conflict { expected: Expected::Absent, actual: Version::new(1) },
        // Too many connections; out of memory; locks exhausted.
        "53300" | "53200" | "54000" => ErrorKind::Overloaded,
        // Disk full: nothing can be written until there is room.
        "53100" => ErrorKind::Unavailable,
        "57014" => ErrorKind::Timeout,
        "28000" | "28P01" | "42501" => ErrorKind::Denied,
        "XX001" | "XX002" => ErrorKind::Corrupt,
        // Serialization failures, deadlocks, lost connections, a server that stops or starts.
        _ if is_retried(code)
            || code.starts_with("08")
            || code.starts_with("57P")
            || code.starts_with("25006") =>
        {
            ErrorKind::Unavailable
        }
        _ => ErrorKind::Internal,
    }
}

/// Returns whether a transaction that failed like this is rolled back and may simply run again.
fn is_retried(code: &str) -> bool {
    matches!(code, "40001" | "40P01" | "55P03")
}

/// Returns whether a transaction that failed like this may simply run again.
pub(super) fn may_run_again(cause: &sqlx::Error) -> bool {
    let code = cause.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| is_retried(&code))
}

/// Wraps an error of a statement whose effect, if it had one, was rolled back.
pub(super) fn wrap(operation: &'static str, cause: sqlx::Error) -> Error {
    let code = cause.as_database_error().and_then(sqlx::error::DatabaseError::code);
    let kind = match (&cause, code) {
        (_, Some(code)) => kind_of(&code),
        (sqlx::Error::PoolTimedOut, None) => ErrorKind::Overloaded,
        (sqlx::Error::PoolClosed, None) => ErrorKind::Closed,
        (
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::WorkerCrashed,
            None,
        ) => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    };
    Error::new(kind, operation).because(cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_repeated_is_transient_and_nothing_else() {
        for (code, is_transient) in [
            ("40001", true),
            ("40P01", true),
            ("55P03", true),
            ("53300", true),
            ("57P01", true),
            ("08006", true),
            ("53100", true),
            ("57014", true),
            ("23505", false),
            ("28P01", false),
            ("XX001", false),
            ("42601", false),
        ] {
            let error = Error::new(kind_of(code), "commit batch");
            assert_eq!(error.is_transient(), is_transient, "{code}: {error}");
        }
        let full = wrap("commit batch", sqlx::Error::PoolTimedOut);
        assert_eq!(*full.kind(), ErrorKind::Overloaded);
        assert_eq!(*wrap("x", sqlx::Error::PoolClosed).kind(), ErrorKind::Closed);
        assert_eq!(*wrap("x", sqlx::Error::RowNotFound).kind(), ErrorKind::Internal);
        let lost = sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into());
        assert!(!may_run_again(&lost) && wrap("x", lost).is_transient());
    }
}
