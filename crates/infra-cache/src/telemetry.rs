//! The metrics of caches.

use infra_core::metric::{Counter, Declaration, Gauge, Label, LabelSet};

use crate::stats::Cause;

macro_rules! label {
    ($(#[$doc:meta])* $name:ident, $label:literal, [$($variant:ident = $text:literal),* $(,)?]) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub(crate) enum $name {
            $($variant),*
        }

        impl Label for $name {
            const SET: LabelSet = LabelSet { name: $label, values: &[$($text),*] };

            fn value(self) -> &'static str {
                match self {
                    $(Self::$variant => $text),*
                }
            }
        }
    };
}

label! {
    /// How a key was looked up. What is served beyond its time is a hit or a miss, and stale.
    Lookup, "lookup", [Hit = "hit", Miss = "miss", Stale = "stale"]
}

label! {
    /// How a load ended.
    Load, "load", [Kept = "kept", Superseded = "superseded", Failed = "failed"]
}

label! {
    /// How a call of the second tier ended.
    #[cfg_attr(not(feature = "redis"), expect(dead_code, reason = "declared with or without a tier"))]
    Call, "call", [Answered = "answered", Failed = "failed", Refused = "refused"]
}

label! {
    /// What came over the backplane.
    Heard, "heard", [Key = "key", Tag = "tag", Clear = "clear", Gap = "gap", Unknown = "unknown"]
}

label! {
    /// What became of edits that are written behind.
    Behind, "behind", [
        Written = "written", Coalesced = "coalesced", Failed = "failed", Refused = "refused",
    ]
}

label! {
    /// How a rule came to hold, or what went wrong with it.
    Ruled, "rule", [
        Direct = "direct", Cascaded = "cascaded", Hurried = "hurried", Failed = "failed",
        Unreadable = "unreadable",
    ]
}

label! {
    /// How a task of warming ended.
    Warmed, "task", [Done = "done", Failed = "failed", Skipped = "skipped"]
}

impl Label for Cause {
    const SET: LabelSet = LabelSet {
        name: "cause",
        values: &["expired", "evicted", "replaced", "removed", "invalidated"],
    };

    fn value(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Evicted => "evicted",
            Self::Replaced => "replaced",
            Self::Removed => "removed",
            Self::Invalidated => "invalidated",
        }
    }
}

pub(crate) const LOOKUPS: Counter<Lookup> = Counter::labelled(
    "infra_cache_lookups_total",
    "Lookups, by what was found; hits are told in lots; what is served beyond its time is a hit or a miss, and stale.",
);
pub(crate) const LOADS: Counter<Load> = Counter::labelled(
    "infra_cache_loads_total",
    "Loads, by what became of them; superseded ones were invalidated on their way.",
);
pub(crate) const REMOVALS: Counter<Cause> =
    Counter::labelled("infra_cache_removals_total", "Values that left, by why.");
pub(crate) const UNHELD: Counter = Counter::new(
    "infra_cache_unheld_errors_total",
    "Errors of loads that were not held because too many others are.",
);
pub(crate) const CALLS: Counter<Call> = Counter::labelled(
    "infra_cache_remote_calls_total",
    "Calls of the second tier, by how they ended; refused ones were not sent, its circuit is open.",
);
pub(crate) const HEARD: Counter<Heard> = Counter::labelled(
    "infra_cache_backplane_messages_total",
    "What came over the backplane from other processes.",
);
pub(crate) const BEHIND: Counter<Behind> = Counter::labelled(
    "infra_cache_behind_total",
    "Edits that are written behind, by what became of them; failed counts attempts, refused ones were given up.",
);
pub(crate) const WAITING: Gauge = Gauge::new(
    "infra_cache_behind_waiting",
    "",
    "Keys that wait to be written behind, after the last write.",
);
pub(crate) const RULES: Counter<Ruled> = Counter::labelled(
    "infra_cache_rules_triggered_total",
    "Rules that held, directly or through another one; hurried removals were not delayed because too many wait, failed ones are tried again, unreadable events emptied the cache.",
);
pub(crate) const WARMED: Counter<Warmed> = Counter::labelled(
    "infra_cache_warming_tasks_total",
    "Tasks of warming, by how they ended; skipped ones stand on one that failed.",
);
/// The metrics of this crate.
pub const METRICS: &[Declaration] = &[
    LOOKUPS.declaration(),
    LOADS.declaration(),
    REMOVALS.declaration(),
    UNHELD.declaration(),
    CALLS.declaration(),
    HEARD.declaration(),
    BEHIND.declaration(),
    WAITING.declaration(),
    RULES.declaration(),
    WARMED.declaration(),
];
