//! Rooms over real sockets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    unreachable_pub,
    reason = "a panic is how a test fails"
)]

mod changes;
mod client;
mod crowd;
mod game;
mod law;
mod layers;
mod members;
mod nodes;
mod recovery;
mod state;
mod support;
