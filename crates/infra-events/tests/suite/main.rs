//! What stands on the event stores: aggregates, projections, the archive, subscriptions, and what
//! is PostgreSQL's own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "a panic is how a test fails"
)]

#[cfg(feature = "archive")]
mod archive;
mod crash;
mod game;
mod points;
#[cfg(feature = "postgres")]
mod postgres;
mod power;
mod projections;
mod sourcing;
mod subscribe;
