//! Event sourcing: machines that live in streams.
//!
//! An [`Aggregate`] is a [`StateMachine`](infra_core::machine::StateMachine) with its place in a
//! stream; a [`Repository`] loads and saves them with optimistic concurrency; [`given`] tests a
//! machine without a store.

mod aggregate;
mod given;
mod repository;

pub use aggregate::Aggregate;
pub use given::{Given, When, given};
pub use repository::{Execution, Repository};
