//! A player's connection: what its messages mean.

mod allowance;
mod answers;
mod conversation;
mod entering;
mod lobby;
mod malformed;
mod toll;

pub use conversation::{Game, Session};
