//! State machines made durable: a pure machine, and one line at its edge.
//!
//! A [`Durable`] machine decides in memory, stores what it decided and only then changes. What its
//! [`Strategy`] keeps (events, snapshots, both) is read back by [`Target`]: the newest state, that of a
//! version, of a point in time, of before the last error. Each recovery is checked against the machine's own
//! invariants and comes with a [`Report`].

mod action;
mod audit;
mod diagram;
mod durable;
mod envelope;
mod events;
mod journal;
mod machines;
mod migration;
mod options;
mod persistent;
mod policy;
mod quorum;
mod recorder;
mod recovery;
mod snapshotting;
mod statistics;
mod storing;
pub(crate) mod telemetry;
mod transition;
mod version;
mod versioned;

pub use action::Action;
pub use audit::{Audit, Auditor, Finding, audit};
pub use diagram::Diagram;
pub use durable::{Durable, Outcome};
pub use machines::{Machines, MachinesOptions, Tally};
pub use migration::{Hop, Migrations};
pub use options::{DurableOptions, Refusals, SnapshotCodec, Strategy};
pub use persistent::{Edge, Persistent};
pub use policy::{Reason, SnapshotPolicy, SnapshotRule};
pub use quorum::QuorumSnapshots;
pub use recorder::FlightRecorder;
pub use recovery::{Recovered, Report, Skipped, Target, recover, recover_all};
pub use statistics::{Anomaly, Durations, Path, TransitionStatistics};
pub use transition::{Transition, TransitionPage, TransitionQuery, transitions};
pub use version::{Change, StateVersion};
pub use versioned::{Resolution, Saved, VersionedStates};
