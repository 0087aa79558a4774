//! Handlers: what is done with messages, as tower services, and the worker that feeds them.

mod batch;
mod layers;
mod retry;
mod worker;

use std::{fmt, sync::Arc};

use infra_core::{
    clock::Timestamp,
    context::Context,
    queue::{Attempts, Delivery, Message},
};

pub use self::{
    batch::BatchWorker,
    layers::{Chain, Fallback, Filter, Retry, Timeout},
    retry::{Schedule, Step},
    worker::{Tally, Worker},
};
use crate::carried;

/// A message as a handler sees it; clones share the message.
#[derive(Debug, Clone)]
pub struct Job {
    /// The message.
    pub message: Arc<Message>,
    /// How often it was handed out, this time included.
    pub attempts: Attempts,
    /// When it was published.
    pub published: Timestamp,
}

impl Job {
    /// Creates the job of a delivery.
    pub fn of(delivery: &Delivery) -> Self {
        Self {
            message: Arc::new(delivery.message().clone()),
            attempts: delivery.attempts(),
            published: delivery.published(),
        }
    }

    /// Returns the context in which it is worked on: correlation, trace, trace state and baggage of
    /// what asked for the work. Whoever runs the worker is not its cause. A header `tracestate` or
    /// `baggage` that is malformed or beyond the W3C's limits is as if it were not there.
    pub fn context(&self) -> Context {
        carried::context(&self.message)
    }
}

/// Why a handler did not do what a message asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// It may be tried again.
    Retryable(String),
    /// It can never be done.
    Permanent(String),
}

impl Failure {
    /// Creates a failure that may be tried again; the chain of causes is written out.
    pub fn retryable(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::Retryable(chain(error))
    }

    /// Creates a failure for good; the chain of causes is written out.
    pub fn permanent(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::Permanent(chain(error))
    }

    /// Returns what is said of it.
    pub fn reason(&self) -> &str {
        match self {
            Self::Retryable(reason) | Self::Permanent(reason) => reason,
        }
    }

    /// Returns whether it may be tried again.
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Retryable(_))
    }
}

/// A transient error may be tried again, any other may not.
impl From<infra_core::Error> for Failure {
    fn from(error: infra_core::Error) -> Self {
        if error.is_transient() { Self::retryable(&error) } else { Self::permanent(&error) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for Failure {}

/// Writes out an error and its causes.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
