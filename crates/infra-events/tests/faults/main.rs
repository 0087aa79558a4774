//! The log on disks that fail, tear and flip bits: acknowledged is there and equal, or its loss is
//! reported.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "a panic is how a test fails"
)]

mod damage;
mod disk;
mod failing;
mod groups;
mod indexes;
mod model;
mod support;
mod upkeep;
