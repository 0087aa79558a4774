//! A player's connection: what its messages mean.

mod conversation;
mod lobby;
mod malformed;

pub use conversation::{Game, Session};
