//! Collectors: figures of the process, its runtime and its cgroup, read at each scrape.
//!
//! Names of the process follow the convention of Prometheus clients, so that common dashboards fit.

mod cgroup;
mod process;
mod runtime;

pub use cgroup::{Cgroup, Limits};
pub use process::{Process, Usage};
pub use runtime::Runtime;

use std::path::Path;

use infra_core::metric::{Declaration, Gauge, Kind};

/// Every metric of the collectors.
pub const METRICS: &[&[Declaration]] = &[process::METRICS, runtime::METRICS, cgroup::METRICS];

/// Declares a gauge as what it is: a count in fractions that only grows.
const fn growing(gauge: &Gauge) -> Declaration {
    Declaration { kind: Kind::Counter, ..gauge.declaration() }
}

/// Reads a small file whole, without white space at its ends; none if it is not there.
pub(crate) fn read(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// Returns the number behind a word at the begin of a line.
pub(crate) fn number(text: &str, word: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(word))?;
    line.split_whitespace().next()?.parse().ok()
}
