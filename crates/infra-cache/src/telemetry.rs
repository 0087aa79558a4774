//! The metrics of caches.

use infra_core::metric::{Counter, Declaration, Label, LabelSet};

/// How a key was looked up.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Lookup {
    Hit,
    Miss,
    Stale,
}

impl Label for Lookup {
    const SET: LabelSet = LabelSet { name: "lookup", values: &["hit", "miss", "stale"] };

    fn value(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Stale => "stale",
        }
    }
}

/// How a load ended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Load {
    Kept,
    Superseded,
    Failed,
}

impl Label for Load {
    const SET: LabelSet = LabelSet { name: "load", values: &["kept", "superseded", "failed"] };

    fn value(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Superseded => "superseded",
            Self::Failed => "failed",
        }
    }
}

pub(crate) const LOOKUPS: Counter<Lookup> =
    Counter::labelled("infra_cache_lookups_total", "Lookups, by what was found.");
pub(crate) const LOADS: Counter<Load> = Counter::labelled(
    "infra_cache_loads_total",
    "Loads, by what became of them; superseded ones were invalidated on their way.",
);

/// The metrics of this crate.
pub const METRICS: &[Declaration] = &[LOOKUPS.declaration(), LOADS.declaration()];
