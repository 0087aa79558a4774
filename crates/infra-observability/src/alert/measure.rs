//! What a rule measures: figures of the exporter.

use std::time::Duration;

use crate::exporter::{Sample, Value};

/// A figure made of samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// The sum of all series of a metric, now.
    Level(&'static str),
    /// How much a counter grows in a second, all series together.
    PerSecond(&'static str),
    /// How much of the growth of a counter is that of series with one label value, between 0 and 1;
    /// no number while it does not grow.
    Share {
        /// The counter.
        metric: &'static str,
        /// The label value.
        of: &'static str,
    },
}

/// What a measure saw last.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Seen {
    part: f64,
    whole: f64,
}

impl Measure {
    /// Returns the figure, from the samples of now and what was seen `passed` ago.
    pub(super) fn read(
        self,
        samples: &[Sample],
        last: Option<Seen>,
        passed: Duration,
    ) -> (f64, Seen) {
        let (metric, of) = match self {
            Self::Level(metric) | Self::PerSecond(metric) => (metric, None),
            Self::Share { metric, of } => (metric, Some(of)),
        };
        let mut seen = Seen::default();
        for sample in samples.iter().filter(|sample| sample.metric.name == metric) {
            let value = number(&sample.value);
            seen.whole += value;
            seen.part += if of.is_none_or(|of| sample.series.has(of)) { value } else { 0.0 };
        }
        let grown = last.map(|last| (seen.part - last.part, seen.whole - last.whole));
        let figure = match (self, grown) {
            (Self::Level(_), _) => seen.whole,
            (_, None) => f64::NAN,
            (Self::PerSecond(_), Some((_, whole))) => whole / passed.as_secs_f64(),
            (Self::Share { .. }, Some((part, whole))) => part / whole,
        };
        (figure, seen)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a figure for a threshold")]
fn number(value: &Value) -> f64 {
    match value {
        Value::Count(count) => *count as f64,
        Value::Level(level) => *level,
        Value::Distribution { cumulated, .. } => cumulated.last().copied().unwrap_or(0) as f64,
    }
}
