//! Where a projection's documents stand, and what is in them.
//!
//! ```text
//! c/<name>                      checkpoint: active generation, position, rebuild, retired ones
//! v/<name>/<generation>/<key>   view, with the position of its last event
//! p/<name>/<generation>/<key>   parked key, with its cause
//! ```

use bytes::Bytes;
use infra_core::{Error, Result, codec::Payload, version::Position};
use serde::{Deserialize, Serialize};

/// The version of these documents' schema.
const SCHEMA: u32 = 1;

/// How far a projection is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Checkpoint {
    /// The generation whose views are served.
    pub(super) generation: u64,
    pub(super) position: Position,
    /// The generation that is being built beside it, and how far it is.
    pub(super) rebuilding: Option<(u64, Position)>,
    /// Generations whose documents are to be removed.
    pub(super) retired: Vec<u64>,
}

impl Checkpoint {
    /// Returns the generation that a rebuild gets.
    pub(super) fn next_generation(&self) -> u64 {
        let retired = self.retired.iter().copied().max().unwrap_or_default();
        retired.max(self.generation) + 1
    }

    /// Returns how far a generation is.
    pub(super) fn position_of(&self, generation: u64) -> Position {
        match self.rebuilding {
            Some((building, position)) if building == generation => position,
            _ => self.position,
        }
    }

    /// Sets how far a generation is.
    pub(super) fn advance(&mut self, generation: u64, to: Position) {
        match &mut self.rebuilding {
            Some((building, position)) if *building == generation => *position = to,
            _ => self.position = to,
        }
    }
}

/// A view as it is stored.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Stored<V> {
    pub(super) position: Position,
    pub(super) view: V,
}

/// A parked key as it is stored.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct StoredParked {
    pub(super) parked: super::Parked,
    pub(super) seen: Position,
}

pub(super) fn encode<T: Serialize>(value: &T) -> Result<Payload> {
    Payload::json(SCHEMA, value)
}

/// Refuses a name that would make keys ambiguous.
pub(super) fn check_name(name: &str) -> Result<()> {
    if name.is_empty() || name.contains('/') || name.chars().any(char::is_control) {
        return Err(Error::invalid("name projection", format!("{name:?}")));
    }
    Ok(())
}

pub(super) fn checkpoint_key(name: &str) -> Bytes {
    Bytes::from(format!("c/{name}"))
}

/// Returns what the keys of a generation's views begin with.
pub(super) fn views(name: &str, generation: u64) -> String {
    format!("v/{name}/{generation:016x}/")
}

/// Returns what the keys of a generation's parked keys begin with.
pub(super) fn parked(name: &str, generation: u64) -> String {
    format!("p/{name}/{generation:016x}/")
}

pub(super) fn view_key(name: &str, generation: u64, key: &str) -> Bytes {
    Bytes::from(views(name, generation) + key)
}

pub(super) fn parked_key(name: &str, generation: u64, key: &str) -> Bytes {
    Bytes::from(parked(name, generation) + key)
}
