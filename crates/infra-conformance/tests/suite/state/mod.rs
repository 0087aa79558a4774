//! Durable machines over the real stores: the log beside documents on disk, and PostgreSQL; killed, stopped,
//! and with two owners.

#![allow(
    clippy::indexing_slicing,
    clippy::clone_on_ref_ptr,
    reason = "a panic is how a test fails, and tests are read aloud"
)]

mod children;
mod counter;
mod kills;
mod owners;
mod places;
mod recoveries;
