//! The one error of all ports: a kind to match, an operation to read, a source to follow.

use std::{borrow::Cow, error::Error as StdError, fmt, sync::Arc, time::Duration};

use crate::version::{Expected, Version};

/// The result of a port's operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A boxed error of a library, as [`Error::because`] takes it.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// What went wrong, in the words a caller can act on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// What was named does not exist, and the operation needs it.
    NotFound,
    /// A condition on a version did not hold; nothing was changed.
    Conflict {
        /// What the caller expected.
        expected: Expected,
        /// The version that was found; zero where there is nothing.
        actual: Version,
    },
    /// The request can never succeed as it is.
    Invalid,
    /// The engine cannot be reached or refuses work now; nothing was changed.
    Unavailable,
    /// The deadline passed before anything was changed.
    Timeout,
    /// A write was sent and its fate is unknown: it may have happened.
    Indeterminate,
    /// A rate limit refuses for now.
    Throttled {
        /// The time after which the same request can succeed, rounded up.
        retry_after: Duration,
    },
    /// A bound of this process is reached (a queue, a budget of bytes or of calls).
    Overloaded,
    /// The engine cannot do this at all; see its `features`.
    Unsupported,
    /// The lease had ended before the verdict or renewal arrived.
    LeaseLost,
    /// A newer owner holds the scope; this one must stop.
    Fenced,
    /// An earlier failure left the engine unsure of itself; it must be reopened.
    Poisoned,
    /// Stored or received bytes fail their checksum or their format.
    Corrupt,
    /// The caller may not do this.
    Denied,
    /// The engine or the handle has been shut down.
    Closed,
    /// A rule of this library's own was broken; a bug.
    Internal,
}

impl ErrorKind {
    /// Returns the stable name of the kind, for logs and metric labels.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Conflict { .. } => "conflict",
            Self::Invalid => "invalid",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Indeterminate => "indeterminate",
            Self::Throttled { .. } => "throttled",
            Self::Overloaded => "overloaded",
            Self::Unsupported => "unsupported",
            Self::LeaseLost => "lease_lost",
            Self::Fenced => "fenced",
            Self::Poisoned => "poisoned",
            Self::Corrupt => "corrupt",
            Self::Denied => "denied",
            Self::Closed => "closed",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conflict { expected, actual } => {
                write!(f, "conflict: expected {expected}, found {actual}")
            }
            Self::Throttled { retry_after } => {
                write!(f, "throttled: retry after {} ms", retry_after.as_millis())
            }
            kind @ (Self::NotFound
            | Self::Invalid
            | Self::Unavailable
            | Self::Timeout
            | Self::Indeterminate
            | Self::Overloaded
            | Self::Unsupported
            | Self::LeaseLost
            | Self::Fenced
            | Self::Poisoned
            | Self::Corrupt
            | Self::Denied
            | Self::Closed
            | Self::Internal) => f.write_str(&kind.name().replace('_', " ")),
        }
    }
}

/// The error of every port.
///
/// It is cheap to clone, so that one failed group commit can answer each of its waiters.
///
/// ```
/// use infra_core::error::{Error, ErrorKind};
///
/// let error = Error::new(ErrorKind::Unavailable, "append to stream")
///     .detail("stream room-7")
///     .because(std::io::Error::other("disk gone"));
/// assert_eq!(error.to_string(), "append to stream: unavailable: stream room-7");
/// assert!(error.is_transient());
/// ```
#[derive(Debug, Clone)]
pub struct Error {
    kind: ErrorKind,
    operation: &'static str,
    detail: Option<Cow<'static, str>>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
    is_idempotent: bool,
}

impl Error {
    /// Creates an error of `kind` that happened during `operation` ("append to stream").
    pub const fn new(kind: ErrorKind, operation: &'static str) -> Self {
        Self { kind, operation, detail: None, source: None, is_idempotent: false }
    }

    /// Creates an [`ErrorKind::Invalid`] that says what was wrong and where.
    pub fn invalid(operation: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Invalid, operation).detail(detail)
    }

    /// Creates an [`ErrorKind::Conflict`].
    pub const fn conflict(operation: &'static str, expected: Expected, actual: Version) -> Self {
        Self::new(ErrorKind::Conflict { expected, actual }, operation)
    }

    /// Adds what the error was about: the name, the value, the place.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, cause: impl Into<BoxError>) -> Self {
        self.source = Some(Arc::from(cause.into()));
        self
    }

    /// Says that the failed write carried an idempotency key, so that repeating it is harmless.
    #[must_use]
    pub const fn idempotent(mut self) -> Self {
        self.is_idempotent = true;
        self
    }

    /// Returns the kind to match on.
    pub const fn kind(&self) -> &ErrorKind {
        &self.kind
    }

    /// Returns what was being done.
    pub const fn operation(&self) -> &'static str {
        self.operation
    }

    /// Returns what the error was about, if that is known.
    pub fn detail_text(&self) -> Option<&str> {
        self.detail.as_deref()
    }

    /// Returns the time after which a retry can succeed, if the engine named one.
    pub const fn retry_after(&self) -> Option<Duration> {
        if let ErrorKind::Throttled { retry_after } = self.kind { Some(retry_after) } else { None }
    }

    /// Returns whether the same call may succeed later without harm.
    ///
    /// An [`ErrorKind::Indeterminate`] write is transient only if it carried an idempotency key.
    pub const fn is_transient(&self) -> bool {
        match self.kind {
            ErrorKind::Unavailable
            | ErrorKind::Timeout
            | ErrorKind::Throttled { .. }
            | ErrorKind::Overloaded => true,
            ErrorKind::Indeterminate => self.is_idempotent,
            ErrorKind::NotFound
            | ErrorKind::Conflict { .. }
            | ErrorKind::Invalid
            | ErrorKind::Unsupported
            | ErrorKind::LeaseLost
            | ErrorKind::Fenced
            | ErrorKind::Poisoned
            | ErrorKind::Corrupt
            | ErrorKind::Denied
            | ErrorKind::Closed
            | ErrorKind::Internal => false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.operation, self.kind)?;
        match &self.detail {
            Some(detail) => write!(f, ": {detail}"),
            None => Ok(()),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_indeterminate_write_is_transient_only_with_an_idempotency_key() {
        let unknown = Error::new(ErrorKind::Indeterminate, "append to stream");
        assert!(!unknown.is_transient());
        assert!(unknown.idempotent().is_transient());
    }

    #[test]
    fn a_conflict_says_what_was_expected_and_found() {
        let error = Error::conflict(
            "append to stream",
            Expected::Exactly(Version::new(3)),
            Version::new(5),
        );
        assert_eq!(error.to_string(), "append to stream: conflict: expected version 3, found 5");
    }

    #[test]
    fn each_kind_has_a_name_and_tells_whether_the_call_may_be_repeated() {
        let (expected, actual) = (Expected::Absent, Version::new(1));
        let kinds = [
            (ErrorKind::NotFound, "not_found", false),
            (ErrorKind::Conflict { expected, actual }, "conflict", false),
            (ErrorKind::Invalid, "invalid", false),
            (ErrorKind::Unavailable, "unavailable", true),
            (ErrorKind::Timeout, "timeout", true),
            (ErrorKind::Indeterminate, "indeterminate", false),
            (ErrorKind::Throttled { retry_after: Duration::ZERO }, "throttled", true),
            (ErrorKind::Overloaded, "overloaded", true),
            (ErrorKind::Unsupported, "unsupported", false),
            (ErrorKind::LeaseLost, "lease_lost", false),
            (ErrorKind::Fenced, "fenced", false),
            (ErrorKind::Poisoned, "poisoned", false),
            (ErrorKind::Corrupt, "corrupt", false),
            (ErrorKind::Denied, "denied", false),
            (ErrorKind::Closed, "closed", false),
            (ErrorKind::Internal, "internal", false),
        ];
        for (kind, name, is_transient) in kinds {
            let error = Error::invalid("try", "a detail");
            assert_eq!((error.operation(), error.detail_text()), ("try", Some("a detail")));
            let error = Error::new(kind.clone(), "try");
            assert_eq!((kind.name(), error.is_transient()), (name, is_transient));
            assert!(error.to_string().starts_with(&format!("try: {}", name.replace('_', " "))));
        }
    }

    #[test]
    fn a_clone_keeps_the_source() {
        let error = Error::new(ErrorKind::Corrupt, "open log").because("bad checksum").clone();
        assert_eq!(error.source().map(ToString::to_string).as_deref(), Some("bad checksum"));
    }

    #[test]
    fn only_a_throttled_error_names_a_time_to_retry() {
        let retry_after = Duration::from_millis(40);
        let throttled = Error::new(ErrorKind::Throttled { retry_after }, "acquire");
        assert_eq!(throttled.retry_after(), Some(retry_after));
        assert_eq!(Error::new(ErrorKind::Overloaded, "acquire").retry_after(), None);
        assert_eq!(throttled.to_string(), "acquire: throttled: retry after 40 ms");
    }
}
