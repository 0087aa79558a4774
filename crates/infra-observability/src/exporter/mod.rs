//! The metrics exporter: declared metrics in, Prometheus text or `OpenMetrics` out.

mod buckets;
mod cell;
mod foreign;
mod metric;
mod recorder;
mod sample;
mod text;

pub use buckets::{Buckets, Exemplar};
pub use recorder::{Builder, Collector, Exporter, METRICS};
pub use sample::{Head, Sample, Series, Value};
pub use text::Format;
