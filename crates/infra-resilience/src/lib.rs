//! Policies around calls that share one deadline and one budget.
//!
//! A policy is put around calls: it refuses them, bounds them, makes them again. [`Pipeline`]s put
//! policies around one another, in the order in which they are written. What they share travels in
//! the [`Context`](infra_core::context::Context): the deadline only shrinks on its way inward, and
//! the [`CallBudget`](infra_core::budget::CallBudget) bounds the extra attempts of all layers
//! together, so that retries around retries cannot multiply; [`wire`] carries both to the next
//! process. A call that must not be made twice does not compile under a retry.
//!
//! ```
//! use std::time::Duration;
//! use infra_core::{SystemClock, backoff::Backoff};
//! use infra_resilience::{Breaker, Pipeline, Policy as _, Retry, Timeout, idempotent};
//!
//! # async fn load() -> infra_core::Result<u32> { Ok(7) }
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let clock = SystemClock::shared();
//! let pipeline = Pipeline::new()
//!     .then(Retry::new(3, Backoff::exponential(Duration::from_millis(20)), clock.clone()))
//!     .then(Breaker::new(Default::default(), clock.clone()))
//!     .then(Timeout::new(Duration::from_millis(200), clock));
//! assert_eq!(pipeline.run("load", idempotent(|| load())).await?, 7);
//! # Ok::<(), infra_core::Error>(()) }).unwrap();
//! ```

pub mod breaker;
pub mod bulkhead;
mod call;
#[cfg(feature = "chaos")]
pub mod chaos;
mod fallback;
mod fate;
mod health;
mod hedge;
mod latency;
#[cfg(feature = "tower")]
pub mod layer;
mod pipeline;
#[cfg(feature = "pool")]
pub mod pool;
mod purse;
mod refused;
mod registry;
mod retry;
pub mod shed;
mod telemetry;
mod timeout;
pub mod wire;

pub use breaker::{Breaker, Mode, State};
pub use bulkhead::Bulkhead;
pub use call::{
    AtMostOnce, Call, Idempotent, Ordered, Repeatable, Safety, Single, at_most_once, idempotent,
    ordered,
};
pub use fallback::Fallback;
pub use health::BreakerHealth;
pub use hedge::Hedge;
pub use latency::Latency;
pub use pipeline::{Around, Direct, Pipeline, Policy};
#[cfg(feature = "pool")]
pub use pool::Pool;
pub use purse::RetryBudget;
pub use refused::{Reason, Refused};
pub use registry::{Droppable, Keyed};
pub use retry::{Advice, Retry};
pub use shed::Shedder;
pub use telemetry::METRICS;
pub use timeout::Timeout;
