//! The parts of the telemetry that hold memory.

use infra_core::metric::{Label, LabelSet};

/// A part of the telemetry that holds what waits for a sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Lines that wait to be written.
    Lines,
    /// Spans that wait for the collector.
    Spans,
    /// Log records that wait for the collector.
    Records,
}

impl Label for Part {
    const SET: LabelSet = LabelSet { name: "part", values: &["lines", "spans", "records"] };

    fn value(self) -> &'static str {
        match self {
            Self::Lines => "lines",
            Self::Spans => "spans",
            Self::Records => "records",
        }
    }
}
