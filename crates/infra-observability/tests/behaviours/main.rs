//! What the crate promises, one module for each part.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::clone_on_ref_ptr,
    clippy::indexing_slicing,
    clippy::float_cmp,
    clippy::expect_used,
    clippy::cast_precision_loss,
    clippy::duration_suboptimal_units,
    clippy::wildcard_enum_match_arm,
    clippy::needless_for_each,
    clippy::naive_bytecount,
    clippy::items_after_statements,
    clippy::semicolon_if_nothing_returned,
    clippy::double_ended_iterator_last,
    clippy::too_many_lines,
    unreachable_pub,
    reason = "a panic is how a test fails, and the figures are exact"
)]
#![allow(clippy::allow_attributes, reason = "the line above covers helpers that may have none")]

mod alerts;
mod budgets;
mod collectors;
mod correlation;
mod diagrams;
mod games;
mod logs;
mod metrics_text;
mod probes;
mod streams;
mod support;
mod traces;
mod whole;
