//! Contract suites: what every implementation of a port must show.
//!
//! A suite is a list of clauses. Each clause is an async function that takes a fresh implementation
//! and answers with a [`Breach`] if it does not keep that clause; its name is the clause's name in
//! the port's `# Contract`. A suite's macro stamps out one `#[tokio::test]` per clause and backend.
//! Because a clause answers instead of panicking, the same function also proves itself: it is run
//! against an implementation that is wrong on purpose, and must then answer with a breach.
//!
//! ```
//! # use std::{future::{Ready, ready}, sync::Arc};
//! # use infra_core::{SystemClock, event::EventStore};
//! # use infra_testkit::model::ModelEvents;
//! /// Makes an empty store of yours.
//! fn open() -> Ready<Arc<dyn EventStore>> {
//!     ready(Arc::new(ModelEvents::new(SystemClock::shared())))
//! }
//!
//! mod my_store_keeps {
//!     infra_testkit::event_store_contract!(super::open());
//! }
//! # fn main() {}
//! ```

pub mod archive;
pub mod cache;
pub mod document;
pub mod event;
pub mod lease;
pub mod limit;
pub mod pubsub;
pub mod queue;
pub mod snapshot;

use std::{fmt, time::Duration};

use tokio::runtime::Builder;

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
/// `$make` is an async expression that yields a fresh implementation; it is evaluated once per
/// clause. Timed clauses run on tokio's paused time, all others on several threads. A suite wraps
/// this macro with its own list of clauses.
#[macro_export]
macro_rules! stamp {
    ($suite:path, [$($clause:ident),* $(,)?], timed [$($timed:ident),* $(,)?], $make:expr) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $clause() {
                use $suite as suite;
                let implementation = $make.await;
                if let Err(breach) = suite::$clause(implementation).await {
                    panic!("{}: {breach}", stringify!($clause));
                }
            }
        )*
        $(
            #[tokio::test(start_paused = true)]
            async fn $timed() {
                use $suite as suite;
                let implementation = $make.await;
                if let Err(breach) = suite::$timed(implementation).await {
                    panic!("{}: {breach}", stringify!($timed));
                }
            }
        )*
    };
}

/// Stamps out one test per clause of a suite, all on real time and several threads: for what talks
/// to a server, whose time cannot be paused. Durations of clauses are shorter then.
#[macro_export]
macro_rules! stamp_live {
    ($suite:path, [$($clause:ident),* $(,)?], timed [$($timed:ident),* $(,)?], $make:expr) => {
        $crate::stamp_live!(@ $suite, [$($clause,)* $($timed,)*], $make);
    };
    (@ $suite:path, [$($clause:ident,)*], $make:expr) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $clause() {
                use $suite as suite;
                let implementation = $make.await;
                if let Err(breach) = $crate::contract::live(suite::$clause(implementation)).await {
                    panic!("{}: {breach}", stringify!($clause));
                }
            }
        )*
    };
}

tokio::task_local! {
    static LIVE: ();
}

/// Runs a clause on real time.
///
/// # Errors
///
/// The clause's breach.
pub async fn live(clause: impl Future<Output = Verdict>) -> Verdict {
    LIVE.scope((), clause).await
}

/// Returns one of two durations: for paused time, or for real time.
pub(crate) fn paced(paused: Duration, real: Duration) -> Duration {
    if LIVE.try_with(|()| ()).is_ok() { real } else { paused }
}

/// Stamps out the test of the suite itself: that each planted bug is caught by its clause, and that there is
/// one for each clause.
///
/// `$make` takes the bug and yields the implementation that has it. A suite wraps this macro with
/// the same list of clauses as [`stamp`](crate::stamp).
#[macro_export]
macro_rules! planted {
    ($suite:path, [$($clause:ident),* $(,)?], timed [$($timed:ident),* $(,)?], $make:expr) => {
        #[test]
        fn every_planted_bug_is_caught_by_its_clause() {
            use $suite as suite;
            let timed: &[&str] = &[$(stringify!($timed)),*];
            for (bug, clause) in suite::wrong::Bug::ALL {
                let verdict = $crate::contract::run(timed.contains(&clause), async {
                    let wrong = $make(bug).await;
                    match clause {
                        $(stringify!($clause) => suite::$clause(wrong).await,)*
                        $(stringify!($timed) => suite::$timed(wrong).await,)*
                        unknown => panic!("there is no clause `{unknown}`"),
                    }
                });
                assert!(verdict.is_err(), "{clause} did not catch {bug:?}");
            }
            let clauses: &[&str] = &[$(stringify!($clause),)* $(stringify!($timed),)*];
            for clause in clauses {
                let is_planted = suite::wrong::Bug::ALL.iter().any(|(_, by)| by == clause);
                assert!(is_planted, "no bug shows that `{clause}` can fail");
            }
        }
    };
}

/// Runs a future as a clause is run: on several threads, or on one with paused time.
///
/// # Panics
///
/// If no runtime can be started.
#[expect(clippy::panic, reason = "a panic is how a test fails")]
pub fn run<T>(is_timed: bool, future: impl Future<Output = T>) -> T {
    let mut builder =
        if is_timed { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    let runtime = builder.worker_threads(2).enable_all().start_paused(is_timed).build();
    match runtime {
        Ok(runtime) => runtime.block_on(future),
        Err(error) => panic!("no runtime: {error}"),
    }
}
