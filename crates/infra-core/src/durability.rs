//! How safe a write is when it is acknowledged: one scale for all ports.

use serde::{Deserialize, Serialize};

/// The state that a write must have reached before it is acknowledged.
///
/// ```
/// use infra_core::durability::Durability;
///
/// assert!(Durability::Applied < Durability::Durable);
/// assert_eq!(Durability::default(), Durability::Durable);
/// ```
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// Visible to readers of this process; lost if the process dies.
    Applied,
    /// Handed to the operating system; survives the process, not the machine.
    Buffered,
    /// On stable storage (`fsync` or the engine's equivalent); survives the loss of power.
    #[default]
    Durable,
}
