//! The server put together: backends, rooms, the two listeners, and their end.

mod admin;
mod archive_queue;
mod archivist;
mod backends;
mod clean_up;
mod csv;
mod edition;
mod ending;
mod files;
mod followers;
mod forgetting;
mod guarded;
mod gzip;
mod histories;
mod http;
mod inside;
mod live;
mod observed;
mod occupancy;
mod overview;
mod pipeline;
mod players;
mod projection;
mod public;
mod replays;
mod running;
mod sightings;
mod standings;
mod task_queue;
mod tasks;
#[cfg(any(feature = "postgres", test))]
mod tenure;
mod trail;
mod unfinished;

pub use backends::Backends;
pub use forgetting::{Forgotten, forget, sightings};
pub use running::{Server, StartError};
pub use sightings::Sighting;

pub(crate) use running::declarations;
