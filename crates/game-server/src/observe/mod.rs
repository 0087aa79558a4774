//! What is seen of the server from outside: figures, pictures, alerts, health, logs and traces.

mod alarms;
mod checks;
mod diary;
mod instruments;
mod levels;
mod sink;
mod stage;

pub use instruments::Instruments;
pub use sink::sink;
pub use stage::{ROOM, RoomTelemetry};

pub(crate) use alarms::alarms;
pub(crate) use checks::checks;
pub(crate) use diary::Diary;
pub(crate) use levels::{Change, Shown};
pub(crate) use stage::stage_of;
