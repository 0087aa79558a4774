//! State machines made durable: laws over all strategies, crashes at every await, and damaged stores.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::clone_on_ref_ptr,
    clippy::renamed_function_params,
    clippy::duration_suboptimal_units,
    clippy::allow_attributes,
    reason = "a panic is how a test fails, and tests are read aloud"
)]

mod audits;
mod crashes;
mod damage;
mod game;
mod log;
mod machines;
mod migrations;
mod ownership;
mod pictures;
mod policies;
mod quorum;
mod recoveries;
mod stores;
mod strategies;
mod versions;
