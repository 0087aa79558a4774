//! Contract suites: what every implementation of a port must show.
//!
//! A suite is a list of clauses. Each clause is an async function that takes a fresh implementation
//! and answers with a [`Breach`] if it does not keep that clause; its name is the clause's name in
//! the port's `# Contract`. A suite's macro stamps out one `#[tokio::test]` per clause and backend.
//! Because a clause answers instead of panicking, the same function also proves itself: it is run
//! against an implementation that is wrong on purpose, and must then answer with a breach.

pub mod event;
pub mod pubsub;

use std::fmt;

/// How an implementation broke a clause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breach(String);

impl Breach {
    /// Creates a breach that says what was expected and what was seen.
    pub fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Breach {}

impl From<infra_core::error::Error> for Breach {
    fn from(error: infra_core::error::Error) -> Self {
        Self(format!("an operation that must succeed failed: {error}"))
    }
}

/// What a clause answers.
pub type Verdict = Result<(), Breach>;

/// Answers with a [`Breach`] unless the condition holds.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($what:tt)+) => {
        if !$condition {
            return Err($crate::contract::Breach::new(format!($($what)+)));
        }
    };
}

/// Answers with a [`Breach`] that shows both sides unless they are equal.
#[macro_export]
macro_rules! ensure_eq {
    ($left:expr, $right:expr, $($what:tt)+) => {{
        let (left, right) = (&$left, &$right);
        if left != right {
            return Err($crate::contract::Breach::new(format!(
                "{}: expected {right:?}, found {left:?}",
                format_args!($($what)+)
            )));
        }
    }};
}

/// Stamps out one test per clause of a suite.
///
/// `$module` is the suite, `$make` an async expression that yields a fresh implementation; it is
/// evaluated once per clause. A suite wraps this macro with its own list of clauses.
#[macro_export]
macro_rules! stamp {
    ($suite:path, $make:expr, [$($clause:ident),+ $(,)?]) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $clause() {
                use $suite as suite;
                let implementation = $make.await;
                if let Err(breach) = suite::$clause(implementation).await {
                    panic!("{}: {breach}", stringify!($clause));
                }
            }
        )+
    };
}
