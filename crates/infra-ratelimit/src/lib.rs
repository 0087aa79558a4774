//! Rate limits: one atomic decision over several limits.
//!
//! Limits are declared once, by name: a token bucket, a window or a number of permits. A request
//! names what it costs against which keys (this player, this room, this address) and is admitted by
//! all of them or by none; a refusal costs nothing and says when to come back.
//!
//! ```
//! use infra_core::{SystemClock, limit::{Charge, RateLimiter}};
//! use infra_ratelimit::{Limit, Limiter, Quota, Window};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let limiter = Limiter::new(SystemClock::shared())
//!     .limit("player", Quota::per_second(2)?)
//!     .limit("room", Limit::log(Window::per_minute(300)?));
//! let charges = [Charge::one("player", "ann"), Charge::one("room", "7f3a")];
//! assert!(limiter.acquire(&charges).await?.is_admitted());
//! assert!(limiter.acquire(&charges).await?.is_admitted());
//! assert!(limiter.acquire(&charges).await?.retry_after().is_some());
//! # Ok::<(), infra_core::Error>(()) }).unwrap();
//! ```

mod algorithm;
mod decision;
mod declared;
pub mod game;
mod index;
mod key;
mod keys;
mod ladder;
mod limit;
mod limiter;
mod prefix;
mod quota;
#[cfg(feature = "redis")]
pub mod redis;
mod rules;
mod table;
mod telemetry;
mod time;
#[cfg(feature = "tower")]
pub mod tower;
mod waiting;
mod watch;
mod window;

pub use ladder::{Rung, Rungs};
pub use limit::Limit;
pub use limiter::Limiter;
pub use prefix::address_key;
pub use quota::Quota;
pub use rules::{Facts, Rule, Rules, Scope};
pub use telemetry::METRICS;
pub use waiting::acquire_within;
pub use watch::{Sign, Watch};
pub use window::Window;
