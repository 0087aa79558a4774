//! The policies around real futures, on paused time and a manual clock.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    clippy::allow_attributes,
    reason = "a panic is how a test fails"
)]

mod breaker;
mod bulkhead;
mod cancel;
#[cfg(feature = "chaos")]
mod chaos;
mod cost;
mod drops;
mod fates;
mod hedge;
#[cfg(feature = "tower")]
mod layers;
mod model;
mod pipeline;
mod places;
mod plain;
#[cfg(feature = "pool")]
mod pool;
mod retry;
mod safety;
mod shed;
mod timeout;
mod wire;

use std::{sync::Arc, time::Duration};

use infra_core::{Clock, Error, ErrorKind, Result, SystemClock};
use infra_resilience::{Reason, Refused};

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn clock() -> Arc<dyn Clock> {
    SystemClock::shared()
}

fn kind<T>(result: Result<T>) -> ErrorKind {
    result.err().unwrap().kind().clone()
}

fn fail<T>(kind: ErrorKind) -> Result<T> {
    Err(Error::new(kind, "try"))
}

fn reason<T>(result: Result<T>) -> Option<Reason> {
    Refused::of(&result.err()?).map(Refused::reason)
}
