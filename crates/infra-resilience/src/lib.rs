//! Timeout, retry and circuit breaker that share one deadline.
//!
//! Each is a value that runs a future; they are put around one another in any order. What they
//! share travels in the [`Context`](infra_core::context::Context): the deadline only shrinks on its
//! way inward, and the [`CallBudget`](infra_core::budget::CallBudget) bounds the extra attempts of
//! all layers together, so that retries around retries cannot multiply.
//!
//! ```
//! use std::time::Duration;
//! use infra_core::{Result, SystemClock, backoff::Backoff};
//! use infra_resilience::{Breaker, Retry, Timeout, Trip};
//!
//! # async fn load() -> Result<u32> { Ok(7) }
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let clock = SystemClock::shared();
//! let timeout = Timeout::new(Duration::from_millis(200), clock.clone());
//! let breaker = Breaker::new(Trip::default(), clock.clone());
//! let retry = Retry::new(3, Backoff::exponential(Duration::from_millis(20)), clock);
//! let loaded = retry.run(|| breaker.run("load", timeout.run("load", load()))).await?;
//! assert_eq!(loaded, 7);
//! # Ok::<(), infra_core::Error>(()) }).unwrap();
//! ```

mod breaker;
mod circuit;
mod retry;
mod telemetry;
mod timeout;

pub use breaker::{Breaker, Permit};
pub use circuit::{State, Trip};
pub use retry::Retry;
pub use telemetry::METRICS;
pub use timeout::Timeout;
