//! What tests of realtime services share: time that is moved by hand, contract suites for the ports
//! of `infra-core`, wrong implementations that those suites must catch, and faults on purpose.
//!
//! It is only ever a dev-dependency. Whoever writes a backend of their own for one of the ports runs
//! the same suite that ours pass:
//!
//! ```
//! use std::time::Duration;
//! use infra_core::clock::Clock;
//! use infra_testkit::clock::ManualClock;
//!
//! let clock = ManualClock::new();
//! let before = clock.now();
//! clock.advance(Duration::from_secs(60));
//! assert_eq!(clock.now().since(before), Duration::from_secs(60));
//! ```

pub mod clock;
pub mod contract;
pub mod disk;
pub mod model;
pub mod proxy;
pub mod seed;
pub mod server;
