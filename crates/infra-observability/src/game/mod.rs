//! Metrics of a turn-based game: how many are played, how long they take, who wins, who gives up.

mod actor;
mod analytics;
mod games;
mod metrics;
mod pace;
mod players;

pub use actor::{Actor, Ending, Outcome};
pub use analytics::{Analytics, Hour, WinRate};
pub use games::{Games, Options, Result as GameResult, Seats};
pub use pace::Pace;
pub use players::PlayerFigures;
