//! Whole games between bots without any I/O, repeatable from a seed.
//!
//! [`simulate`] plays games of bots of all styles and reports what came of them, with a digest
//! of every event. [`contest`] plays our bots against random ones. [`play_game`] gives one game,
//! [`export`] the events of all.

mod chance;
mod contest;
mod export;
mod report;
mod table;
mod tally;

pub use contest::{Contest, contest};
pub use export::export;
pub use report::{Report, simulate, simulate_each};
pub use table::{Transcript, play_game};
pub use tally::Tally;
