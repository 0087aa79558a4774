//! What several components do together.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::allow_attributes,
    reason = "a panic is how a test fails; a process that is killed says what it did on its output"
)]

mod archive;
mod cache;
mod cache_processes;
mod connections;
mod killed;
mod outbox_crash;
mod queue;
mod queue_crash;
mod rooms;
mod state;
mod traces;
