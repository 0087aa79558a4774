//! What our stores do while the servers below them are killed, frozen, cut off or at their limits.

#![cfg(all(feature = "postgres", feature = "s3"))]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "a panic is how a test fails"
)]

mod bucket;
mod limits;
mod outages;
