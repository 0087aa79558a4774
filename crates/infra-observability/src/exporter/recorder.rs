//! The recorder behind the `metrics` facade: every series belongs to a declared metric.

use std::{borrow::Cow, collections::BTreeMap, fmt, sync::Arc};

use infra_core::metric::{self, Declaration, Kind};
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

use super::{
    cell::Cell,
    foreign::{Foreign, HISTOGRAM},
    metric::{Found, Metric},
    sample::Sample,
    text::{Format, Page},
};
use crate::thrift::Thrift;

const REFUSED: metric::Counter = metric::Counter::new(
    "infra_observability_refused_series_total",
    "Look-ups of a series that was refused: of an undeclared metric, or beyond a bound.",
);

const OVERFLOWN: metric::Counter = metric::Counter::new(
    "infra_observability_overflown_series_total",
    "Look-ups of a series with a label value outside its declared set.",
);

/// The metrics of the exporter itself.
pub const METRICS: &[Declaration] = &[REFUSED.declaration(), OVERFLOWN.declaration()];

/// Reads figures at the time of a scrape, such as those of the process.
pub trait Collector: Send + Sync + fmt::Debug {
    /// Returns what it may read, so that its names are declared like all others.
    fn declarations(&self) -> Vec<Declaration>;

    /// Reads: it sets the gauges and counters of its declarations through the facade.
    ///
    /// It is called within the recorder, and may not block.
    fn collect(&self);
}

/// Puts an [`Exporter`] together.
#[derive(Debug, Default)]
pub struct Builder {
    declarations: Vec<Declaration>,
    constants: Vec<(Cow<'static, str>, Cow<'static, str>)>,
    collectors: Vec<Box<dyn Collector>>,
    joins_foreign: bool,
}

impl Builder {
    /// Adds declared metrics.
    #[must_use]
    pub fn metrics(mut self, declarations: &[Declaration]) -> Self {
        self.declarations.extend_from_slice(declarations);
        self
    }

    /// Adds a label that every series has, such as `service`; none by default.
    ///
    /// It comes from the operator, so its value may be any text; its name must be a label's.
    #[must_use]
    pub fn constant(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.constants.push((name.into(), value.into()));
        self
    }

    /// Adds figures that are read at each scrape.
    #[must_use]
    pub fn collector(mut self, collector: impl Collector + 'static) -> Self {
        self.declarations.extend(collector.declarations());
        self.collectors.push(Box::new(collector));
        self
    }

    /// Lets metrics join that other crates emit without a declaration: up to 128 metrics of 64
    /// series each. By default they are refused and counted.
    #[must_use]
    pub const fn join_foreign(mut self) -> Self {
        self.joins_foreign = true;
        self
    }

    /// Makes the exporter.
    pub fn build(self) -> Exporter {
        let (constants, thrift) = (self.constants, Thrift::default());
        let metrics = self.declarations.iter().chain(METRICS);
        let metrics = metrics
            .filter_map(|declared| {
                Some((declared.name, Metric::new(declared, &constants, &thrift)?))
            })
            .collect();
        let foreign = self.joins_foreign.then(|| Foreign::new(thrift.clone()));
        let collectors = self.collectors;
        Exporter(Arc::new(Shared { metrics, constants, foreign, collectors, thrift }))
    }
}

#[derive(Debug)]
struct Shared {
    metrics: BTreeMap<&'static str, Metric>,
    constants: Vec<(Cow<'static, str>, Cow<'static, str>)>,
    foreign: Option<Foreign>,
    collectors: Vec<Box<dyn Collector>>,
    thrift: Thrift,
}

/// Keeps what was recorded of the declared metrics. Cheap to clone.
///
/// Every series is made when it is declared, so its memory is fixed by the declarations, whether
/// or not anybody scrapes. A label value outside its declared set is counted under the value
/// `__overflow__`, with one warning in the log for each metric; what was not declared at all is
/// counted in `infra_observability_refused_series_total`.
///
/// Two exporters share nothing; the one that [`install`](Exporter::install) is called on is the
/// process's.
#[derive(Clone)]
pub struct Exporter(Arc<Shared>);

impl Exporter {
    /// Creates an exporter of these metrics and of its own.
    pub fn new(declarations: &[Declaration]) -> Self {
        Self::builder().metrics(declarations).build()
    }

    /// Starts to put an exporter together.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Returns the switch that withholds exemplars; a [`Budget`](crate::budget::Budget) turns it.
    pub fn thrift(&self) -> Thrift {
        self.0.thrift.clone()
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
        self.collect();
        let mut samples = Vec::new();
        self.0.metrics.values().for_each(|metric| metric.samples(&mut samples));
        if let Some(foreign) = &self.0.foreign {
            foreign.samples(&mut samples);
        }
        samples
    }

    /// Renders all series in the Prometheus text exposition format, version 0.0.4.
    pub fn render(&self) -> String {
        self.render_as(Format::Prometheus)
    }

    /// Renders all series.
    pub fn render_as(&self, format: Format) -> String {
        self.collect();
        let mut page = Page::new(format);
        for metric in self.0.metrics.values() {
            page.head(metric.head());
            metric.for_each(|series, cell| page.series(metric.head(), series, &cell.read()));
        }
        let mut joined = Vec::new();
        if let Some(foreign) = &self.0.foreign {
            foreign.samples(&mut joined);
        }
        let mut last = "";
        for sample in &joined {
            if sample.metric.name != last {
                page.head(&sample.metric);
                last = &sample.metric.name;
            }
            page.series(&sample.metric, &sample.series, &sample.value);
        }
        page.end()
    }

    fn collect(&self) {
        metrics::with_local_recorder(self, || {
            self.0.collectors.iter().for_each(|collector| collector.collect());
        });
    }

    fn cell(&self, key: &Key, kind: Kind) -> Option<Cell> {
        match self.0.metrics.get(key.name()).map(|metric| metric.find(key)) {
            Some(Found::Series(cell)) => return Some(cell),
            Some(Found::Overflow { cell, is_first }) => {
                self.count(&OVERFLOWN);
                if is_first {
                    let labels: Vec<_> = key.labels().map(|l| (l.key(), l.value())).collect();
                    tracing::warn!(metric = key.name(), ?labels, "label outside its declared set");
                }
                return Some(cell);
            }
            None => {}
        }
        let joined =
            self.0.foreign.as_ref().and_then(|foreign| foreign.find(key, kind, &self.0.constants));
        if joined.is_none() {
            self.count(&REFUSED);
        }
        joined
    }

    fn count(&self, counter: &metric::Counter) {
        let name = counter.declaration().name;
        let own = self.0.metrics.get(name).map(|metric| metric.find(&Key::from_static_name(name)));
        if let Some(Found::Series(cell)) = own {
            cell.counter().unwrap_or_else(Counter::noop).increment(1);
        }
    }

    fn describe(&self, key: &KeyName, unit: Option<Unit>, help: &str) {
        if let Some(foreign) = &self.0.foreign {
            foreign.describe(key.as_str(), unit, help);
        }
    }
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exporter").field("metrics", &self.0.metrics.len()).finish_non_exhaustive()
    }
}

impl Recorder for Exporter {
    // Unit and help of a declared metric come from its declaration; these are for the others.
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.describe(&key, unit, &description);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.describe(&key, unit, &description);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.describe(&key, unit, &description);
    }

    fn register_counter(&self, key: &Key, _metadata: &Metadata<'_>) -> Counter {
        self.cell(key, Kind::Counter).and_then(Cell::counter).unwrap_or_else(Counter::noop)
    }

    fn register_gauge(&self, key: &Key, _metadata: &Metadata<'_>) -> Gauge {
        self.cell(key, Kind::Gauge).and_then(Cell::gauge).unwrap_or_else(Gauge::noop)
    }

    fn register_histogram(&self, key: &Key, _metadata: &Metadata<'_>) -> Histogram {
        self.cell(key, HISTOGRAM).and_then(Cell::histogram).unwrap_or_else(Histogram::noop)
    }
}

#[cfg(test)]
mod tests {
    use infra_core::metric::{Gauge, Histogram, Label, LabelSet};

    use super::*;
    use crate::exporter::Value;

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

    #[derive(Clone, Copy)]
    struct Day;

    impl Label for Day {
        const SET: LabelSet = LabelSet { name: "day", values: &["one", "two"] };

        fn value(self) -> &'static str {
            "two"
        }
    }

    const MOVES: metric::Counter<Side> = metric::Counter::labelled("infra_t_moves_total", "Moves.");
    const BOTH: metric::Counter<(Side, Day)> =
        metric::Counter::labelled("infra_t_both_total", "Both.");
    const DEPTH: Gauge = Gauge::new("infra_t_depth", "", "Depth.");
    const WAIT: Histogram = Histogram::new("infra_t_wait_seconds", "seconds", "Wait.", &[0.1, 1.0]);

    fn declared() -> [Declaration; 4] {
        [MOVES.declaration(), BOTH.declaration(), DEPTH.declaration(), WAIT.declaration()]
    }

    fn exporter() -> Exporter {
        Exporter::new(&declared())
    }

    fn value(exporter: &Exporter, name: &str, series: &str) -> Option<Value> {
        let mut samples = exporter.samples().into_iter();
        let is_it = |s: &Sample| s.metric.name == name && s.series.text() == series;
        samples.find(is_it).map(|sample| sample.value)
    }

    #[test]
    fn declared_metrics_are_kept_with_their_labels() {
        let exporter = exporter();
        metrics::with_local_recorder(&exporter, || {
            MOVES.add_for(Side::Red, 2);
            MOVES.add_for(Side::Red, 1);
            BOTH.add_for((Side::Red, Day), 5);
            // The order in which labels are given does not matter.
            metrics::counter!("infra_t_both_total", "day" => "two", "side" => "red").increment(1);
            DEPTH.set(4.0);
            DEPTH.add(-1.5);
            WAIT.record(0.5);
            metrics::counter!("infra_t_moves_total", "side" => "red").absolute(7);
        });
        let count = |name, series| value(&exporter, name, series);
        assert_eq!(count("infra_t_moves_total", "side=\"red\""), Some(Value::Count(7)));
        assert_eq!(count("infra_t_moves_total", "side=\"black\""), Some(Value::Count(0)));
        assert_eq!(count("infra_t_both_total", "side=\"red\",day=\"two\""), Some(Value::Count(6)));
        assert_eq!(value(&exporter, "infra_t_depth", ""), Some(Value::Level(2.5)));
        let wait = value(&exporter, "infra_t_wait_seconds", "");
        let exemplars = vec![None; 3];
        let cumulated = vec![0, 1, 1];
        let wanted = Value::Distribution { bounds: &[0.1, 1.0], cumulated, sum: 0.5, exemplars };
        assert_eq!(wait, Some(wanted));
    }

    #[test]
    fn what_was_not_declared_is_refused_or_overflows_and_is_counted() {
        let exporter = exporter();
        let series = exporter.samples().len();
        metrics::with_local_recorder(&exporter, || {
            (0..3).for_each(|_| MOVES.add_for(Side::Forged, 1));
            metrics::counter!("infra_t_unknown_total").increment(1);
            metrics::gauge!("infra_t_depth", "room" => "7f3a").set(1.0);
            metrics::histogram!("infra_t_depth").record(1.0);
        });
        let count = |name, series| value(&exporter, name, series);
        let refused = count("infra_observability_refused_series_total", "");
        assert_eq!(refused, Some(Value::Count(1)));
        let overflown = count("infra_observability_overflown_series_total", "");
        assert_eq!(overflown, Some(Value::Count(4)));
        let outside = count("infra_t_moves_total", "side=\"__overflow__\"");
        assert_eq!(outside, Some(Value::Count(3)));
        assert_eq!(exporter.samples().len(), series + 2, "one more for each metric that overflew");
    }

    #[test]
    fn metrics_of_other_crates_join_up_to_a_bound() {
        let exporter = Exporter::builder().join_foreign().constant("env", "test").build();
        metrics::with_local_recorder(&exporter, || {
            metrics::describe_counter!("pool_taken_total", Unit::Count, "Taken.");
            metrics::counter!("pool_taken_total", "pool" => "main").increment(2);
            metrics::counter!("pool_taken_total", "pool" => "main").increment(1);
            metrics::gauge!("pool_idle").set(1.0);
            metrics::histogram!("pool_wait").record(0.2);
            metrics::counter!("bad name").increment(1);
            metrics::counter!("pool_taken_total", "bad label" => "x").increment(1);
            for number in 0..1_000 {
                metrics::counter!("rooms_total", "room" => number.to_string()).increment(1);
                metrics::counter!(format!("metric_{number}")).increment(1);
            }
        });
        let joined = value(&exporter, "pool_taken_total", "env=\"test\",pool=\"main\"");
        assert_eq!(joined, Some(Value::Count(3)));
        let samples = exporter.samples();
        let rooms = samples.iter().filter(|s| s.metric.name == "rooms_total").count();
        assert_eq!(rooms, 64);
        assert!(samples.len() < 64 + 128 + 10);
        let refused = value(&exporter, "infra_observability_refused_series_total", "env=\"test\"");
        assert_eq!(refused, Some(Value::Count(2 + 936 + 1_000 - 124)));
        assert!(exporter.render().contains("# HELP pool_taken_total Taken.\n"));
    }

    #[test]
    fn only_one_recorder_can_be_installed() {
        assert!(exporter().install().is_ok());
        assert!(exporter().install().is_err());
        assert_eq!(format!("{:?}", exporter()), "Exporter { metrics: 6, .. }");
    }
}
