//! Changes of what is stored, on their way to rooms: who wants which, one table that says what a
//! change means, and a local bus for handlers in the process.

mod announcer;
mod bus;
mod filter;

pub use self::{
    announcer::{Announcement, Announcer},
    bus::{EventBus, Handled, HandlerId},
    filter::{Change, ChangeKind, Filter, SubscriptionId, Subscriptions},
};
