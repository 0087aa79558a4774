//! The recorder behind the `metrics` facade: every series belongs to a declared metric.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use infra_core::metric::{self, Declaration, Kind};
use metrics::{
    Counter, CounterFn, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use parking_lot::RwLock;

use super::{buckets::Buckets, text};

/// The most series of one metric; it is above any closed label set that makes sense.
pub const MAX_SERIES: usize = 256;

const REFUSED: metric::Counter = metric::Counter::new(
    "infra_observability_refused_series_total",
    "Series that were refused: of an undeclared metric, or with a label value outside its set.",
);

/// The metrics of this crate.
pub const METRICS: &[Declaration] = &[REFUSED.declaration()];

/// A series of a metric: a label value, or nothing for a metric without label.
pub type Series = Option<&'static str>;

/// What a series holds now.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A counter's count.
    Count(u64),
    /// A gauge's value.
    Level(f64),
    /// A histogram: values up to each bound and all of them, cumulated, and their sum.
    Distribution {
        /// The upper bounds.
        bounds: &'static [f64],
        /// One more than the bounds.
        cumulated: Vec<u64>,
        /// The sum of all values.
        sum: f64,
    },
}

/// One series and what it holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The metric.
    pub metric: Declaration,
    /// Which of its series.
    pub series: Series,
    /// What it holds.
    pub value: Value,
}

#[derive(Clone)]
enum Cell {
    Count(Arc<AtomicU64>),
    Level(Arc<AtomicU64>),
    Distribution(Arc<Buckets>),
}

impl Cell {
    fn of(kind: Kind) -> Option<Self> {
        match kind {
            Kind::Counter => Some(Self::Count(Arc::default())),
            Kind::Gauge => Some(Self::Level(Arc::default())),
            Kind::Histogram(bounds) => Some(Self::Distribution(Arc::new(Buckets::new(bounds)))),
            _ => None,
        }
    }

    fn read(&self) -> Value {
        // Relaxed: each series stands for itself; a scrape is no snapshot over all of them.
        match self {
            Self::Count(count) => Value::Count(count.load(Ordering::Relaxed)),
            Self::Level(bits) => Value::Level(f64::from_bits(bits.load(Ordering::Relaxed))),
            Self::Distribution(buckets) => Value::Distribution {
                bounds: buckets.bounds(),
                cumulated: buckets.cumulated(),
                sum: buckets.sum(),
            },
        }
    }
}

struct Metric {
    declaration: Declaration,
    series: RwLock<BTreeMap<Series, Cell>>,
}

struct Shared {
    metrics: BTreeMap<&'static str, Metric>,
    refused: AtomicU64,
}

/// Keeps what was recorded of the declared metrics. Cheap to clone.
///
/// Only declared metrics are kept, and of these only declared label values, so its memory is fixed
/// by the declarations; what does not fit is counted in `infra_observability_refused_series_total`.
#[derive(Clone)]
pub struct Exporter(Arc<Shared>);

impl Exporter {
    /// Creates an exporter of these metrics and of its own.
    ///
    /// A series without label is there from the start, with zero.
    pub fn new(declarations: &[Declaration]) -> Self {
        let metrics = declarations.iter().chain(METRICS).map(|declaration| {
            let mut series = BTreeMap::new();
            match declaration.label {
                None => series.extend(Cell::of(declaration.kind).map(|cell| (None, cell))),
                Some(label) => {
                    let values = label.values.iter().take(MAX_SERIES);
                    series.extend(values.filter_map(|value| {
                        Cell::of(declaration.kind).map(|cell| (Some(*value), cell))
                    }));
                }
            }
            let metric = Metric { declaration: *declaration, series: RwLock::new(series) };
            (declaration.name, metric)
        });
        Self(Arc::new(Shared { metrics: metrics.collect(), refused: AtomicU64::new(0) }))
    }

    /// Makes this the recorder of the process.
    ///
    /// # Errors
    ///
    /// [`Invalid`](infra_core::ErrorKind::Invalid) if there is one already.
    pub fn install(&self) -> infra_core::Result<()> {
        metrics::set_global_recorder(self.clone()).map_err(|_| {
            infra_core::Error::invalid("install metrics recorder", "there is one already")
        })
    }

    /// Returns every series and what it holds, in order of name and label.
    pub fn samples(&self) -> Vec<Sample> {
        let mut samples = Vec::new();
        for metric in self.0.metrics.values() {
            for (series, cell) in metric.series.read().iter() {
                let own = metric.declaration.name == REFUSED.declaration().name;
                let refused = || Value::Count(self.0.refused.load(Ordering::Relaxed));
                let value = if own { refused() } else { cell.read() };
                samples.push(Sample { metric: metric.declaration, series: *series, value });
            }
        }
        samples
    }

    /// Renders all series in the Prometheus text exposition format, version 0.0.4.
    pub fn render(&self) -> String {
        text::render(&self.samples())
    }

    fn cell(&self, key: &Key) -> Option<Cell> {
        let cell = self.find(key);
        if cell.is_none() {
            self.0.refused.fetch_add(1, Ordering::Relaxed);
        }
        cell
    }

    fn find(&self, key: &Key) -> Option<Cell> {
        let metric = self.0.metrics.get(key.name())?;
        let mut labels = key.labels();
        let series = match (metric.declaration.label, labels.next(), labels.next()) {
            (None, None, None) => None,
            (Some(set), Some(label), None) if label.key() == set.name => {
                Some(*set.values.iter().find(|value| **value == label.value())?)
            }
            _ => return None,
        };
        metric.series.read().get(&series).cloned()
    }
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exporter").field("metrics", &self.0.metrics.len()).finish_non_exhaustive()
    }
}

impl Recorder for Exporter {
    // Units and help come from the declarations, so the facade's descriptions are not needed.
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _metadata: &Metadata<'_>) -> Counter {
        match self.cell(key) {
            Some(Cell::Count(count)) => Counter::from_arc(Arc::new(Count(count))),
            _ => Counter::noop(),
        }
    }

    fn register_gauge(&self, key: &Key, _metadata: &Metadata<'_>) -> Gauge {
        match self.cell(key) {
            Some(Cell::Level(bits)) => Gauge::from_arc(bits),
            _ => Gauge::noop(),
        }
    }

    fn register_histogram(&self, key: &Key, _metadata: &Metadata<'_>) -> Histogram {
        match self.cell(key) {
            Some(Cell::Distribution(buckets)) => Histogram::from_arc(buckets),
            _ => Histogram::noop(),
        }
    }
}

/// A count that wraps nowhere near its end.
struct Count(Arc<AtomicU64>);

impl CounterFn for Count {
    fn increment(&self, value: u64) {
        self.0.fetch_add(value, Ordering::Relaxed);
    }

    fn absolute(&self, value: u64) {
        self.0.fetch_max(value, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use infra_core::metric::{Gauge, Histogram, Label, LabelSet};

    use super::*;

    #[derive(Clone, Copy)]
    enum Side {
        Red,
        Forged,
    }

    impl Label for Side {
        const SET: LabelSet = LabelSet { name: "side", values: &["red", "black"] };

        fn value(self) -> &'static str {
            match self {
                Self::Red => "red",
                Self::Forged => "green",
            }
        }
    }

    const MOVES: metric::Counter<Side> = metric::Counter::labelled("infra_t_moves_total", "Moves.");
    const DEPTH: Gauge = Gauge::new("infra_t_depth", "", "Depth.");
    const WAIT: Histogram = Histogram::new("infra_t_wait_seconds", "seconds", "Wait.", &[0.1, 1.0]);

    fn exporter() -> Exporter {
        Exporter::new(&[MOVES.declaration(), DEPTH.declaration(), WAIT.declaration()])
    }

    fn value(exporter: &Exporter, name: &str, series: Series) -> Option<Value> {
        let mut samples = exporter.samples().into_iter();
        samples.find(|s| s.metric.name == name && s.series == series).map(|sample| sample.value)
    }

    #[test]
    fn declared_metrics_are_kept_with_their_label() {
        let exporter = exporter();
        metrics::with_local_recorder(&exporter, || {
            MOVES.add_for(Side::Red, 2);
            MOVES.add_for(Side::Red, 1);
            DEPTH.set(4.0);
            DEPTH.add(-1.5);
            WAIT.record(0.5);
            metrics::counter!("infra_t_moves_total", "side" => "red").absolute(7);
        });
        assert_eq!(value(&exporter, "infra_t_moves_total", Some("red")), Some(Value::Count(7)));
        assert_eq!(value(&exporter, "infra_t_moves_total", Some("black")), Some(Value::Count(0)));
        assert_eq!(value(&exporter, "infra_t_depth", None), Some(Value::Level(2.5)));
        let wait = value(&exporter, "infra_t_wait_seconds", None);
        let wanted =
            Value::Distribution { bounds: &[0.1, 1.0], cumulated: vec![0, 1, 1], sum: 0.5 };
        assert_eq!(wait, Some(wanted));
    }

    #[test]
    fn what_was_not_declared_is_refused_and_counted() {
        let exporter = exporter();
        let series = exporter.samples().len();
        metrics::with_local_recorder(&exporter, || {
            MOVES.add_for(Side::Forged, 1);
            metrics::counter!("infra_t_unknown_total").increment(1);
            metrics::gauge!("infra_t_depth", "room" => "7f3a").set(1.0);
            metrics::histogram!("infra_t_depth").record(1.0);
        });
        let refused = value(&exporter, "infra_observability_refused_series_total", None);
        assert_eq!(refused, Some(Value::Count(3)));
        assert_eq!(exporter.samples().len(), series);
    }

    #[test]
    fn only_one_recorder_can_be_installed() {
        assert!(exporter().install().is_ok());
        assert!(exporter().install().is_err());
        assert_eq!(format!("{:?}", exporter()), "Exporter { metrics: 4, .. }");
    }
}
