//! The metrics exporter: declared metrics in, Prometheus text out.

mod buckets;
mod recorder;
mod text;

pub use buckets::Buckets;
pub use recorder::{Exporter, MAX_SERIES, METRICS, Sample, Series, Value};
