//! Entities that are in memory while they live and in the archive when they are over.

mod catalogue;
mod hand_over;
mod health;
mod options;
mod schedule;
mod service;
mod store;

pub use self::{
    catalogue::{ArchiveQuery, Lifecycle, Purged, Reconciled},
    options::HybridOptions,
    schedule::Priority,
    service::{Archivist, Drained},
    store::{DeadLetter, Hybrid},
};
