//! What happens, as a live stream with a history, and as a flight recorder per room.

mod event;
mod filter;
mod flight;
mod stream;

pub use event::{Draft, Event};
pub use filter::Filter;
pub use flight::{Dump, FlightRecorder, Record};
pub use stream::{Item, Options, Stats, Stream, SubscriberStats, Subscription};

pub(crate) use stream::METRICS;
