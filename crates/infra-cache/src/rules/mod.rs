//! Rules: what a thing that happened removes from a cache.

mod feed;
mod invalidator;
mod rule;
mod signal;
mod template;

pub use feed::{Feed, FeedHandle};
pub use invalidator::{Handled, Invalidator, Purge, Scheduler};
pub use rule::{Rule, Rules};
pub use signal::Signal;
