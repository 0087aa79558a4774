//! How a machine is kept.

use std::sync::Arc;

use infra_core::{
    Clock, durability::Durability, event::EventStore, lease::Fence, random::Random,
    snapshot::SnapshotStore,
};

use super::{migration::Migrations, policy::SnapshotPolicy};

/// What is kept of a machine, and where.
#[derive(Debug, Clone)]
pub enum Strategy {
    /// Each change stores the whole state; the newest few are kept. History is not.
    SnapshotOnly(Arc<dyn SnapshotStore>),
    /// Each change stores its events; a recovery replays them all.
    EventSourced(Arc<dyn EventStore>),
    /// Each change stores its events; snapshots shorten the replay. What most machines want.
    Hybrid {
        /// The truth.
        events: Arc<dyn EventStore>,
        /// What shortens its replay; it can be lost.
        snapshots: Arc<dyn SnapshotStore>,
    },
    /// Each change stores the whole state, and every one is kept.
    Versioned(Arc<dyn SnapshotStore>),
}

impl Strategy {
    pub(super) fn events(&self) -> Option<&Arc<dyn EventStore>> {
        match self {
            Self::EventSourced(events) | Self::Hybrid { events, .. } => Some(events),
            Self::SnapshotOnly(_) | Self::Versioned(_) => None,
        }
    }

    pub(super) fn snapshots(&self) -> Option<&Arc<dyn SnapshotStore>> {
        match self {
            Self::SnapshotOnly(snapshots)
            | Self::Versioned(snapshots)
            | Self::Hybrid { snapshots, .. } => Some(snapshots),
            Self::EventSourced(_) => None,
        }
    }
}

/// How the state in a snapshot is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SnapshotCodec {
    /// Self-describing: it can be migrated.
    #[default]
    Json,
    /// Smaller and quicker; after a change of schema the events are replayed instead. Of strategies
    /// without events it is refused.
    Bincode,
}

/// Whether refused commands are remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Refusals {
    /// They leave no trace.
    #[default]
    Forget,
    /// Each is an event of type `state.refused`, so that the log of transitions shows it and the state
    /// before it can be asked for.
    Record,
}

/// How a durable machine behaves.
#[derive(Debug, Clone)]
pub struct DurableOptions {
    pub(super) strategy: Strategy,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Arc<Random>,
    pub(super) policy: SnapshotPolicy,
    pub(super) migrations: Arc<Migrations>,
    pub(super) codec: SnapshotCodec,
    pub(super) durability: Durability,
    pub(super) refusals: Refusals,
    pub(super) fence: Option<Fence>,
    pub(super) n_recorded: usize,
    pub(super) max_replay: u64,
}

impl DurableOptions {
    /// Creates the options: durable acknowledgements, a snapshot every 100 events and at the close,
    /// no migrations, no fence.
    pub fn new(strategy: Strategy, clock: Arc<dyn Clock>) -> Self {
        Self {
            strategy,
            clock,
            random: Arc::new(Random::from_system()),
            policy: SnapshotPolicy::default(),
            migrations: Arc::default(),
            codec: SnapshotCodec::Json,
            durability: Durability::Durable,
            refusals: Refusals::Forget,
            fence: None,
            n_recorded: 32,
            max_replay: 1_000_000,
        }
    }

    /// Sets when snapshots are taken and how many are kept.
    #[must_use]
    pub fn policy(mut self, policy: SnapshotPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Sets how states and events of older schemas are read.
    #[must_use]
    pub fn migrations(mut self, migrations: Arc<Migrations>) -> Self {
        self.migrations = migrations;
        self
    }

    /// Sets how snapshots are written; the default is JSON.
    #[must_use]
    pub const fn codec(mut self, codec: SnapshotCodec) -> Self {
        self.codec = codec;
        self
    }

    /// Sets what must be reached before a command is acknowledged; the default is `Durable`.
    #[must_use]
    pub const fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Sets whether refused commands are remembered; the default forgets them.
    #[must_use]
    pub const fn refusals(mut self, refusals: Refusals) -> Self {
        self.refusals = refusals;
        self
    }

    /// Binds the machine to a lease: opening it commits the token, and from then on a lower one is
    /// refused by the store itself.
    #[must_use]
    pub fn fence(mut self, fence: Fence) -> Self {
        self.fence = Some(fence);
        self
    }

    /// Sets where event ids come from, so that a test can repeat them.
    #[must_use]
    pub fn random(mut self, random: Arc<Random>) -> Self {
        self.random = random;
        self
    }

    /// Sets how many transitions the flight recorder holds; the default is 32.
    #[must_use]
    pub const fn recorded(mut self, n_recorded: usize) -> Self {
        self.n_recorded = n_recorded;
        self
    }

    /// Sets the most events that a recovery replays, a million by default; more is an error, never
    /// a state made of a part of them.
    #[must_use]
    pub const fn max_replay(mut self, max_replay: u64) -> Self {
        self.max_replay = max_replay;
        self
    }
}
