//! Metrics declared once, as typed constants with closed label sets.
//!
//! A component declares its metrics beside the code that emits them and exports them as
//! `METRICS: &[Declaration]`; exporter, reference page, dashboards and alert rules are made from
//! the declarations. A label value that is not known at compile time cannot be written down.
//! Emission goes through the `metrics` facade, so any recorder takes it.

/// What kind of series a metric is.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Kind {
    /// Only grows; its name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution over these upper bounds.
    Histogram(&'static [f64]),
}

/// A label and all the values it can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LabelSet {
    /// The label's name.
    pub name: &'static str,
    /// All its values.
    pub values: &'static [&'static str],
}

/// A metric as it is declared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Declaration {
    /// The full name, `infra_<crate>_<what>_<unit or total>`.
    pub name: &'static str,
    /// What kind of series it is.
    pub kind: Kind,
    /// The unit, as in `seconds`, `bytes`; empty for a count.
    pub unit: &'static str,
    /// What it tells, in one sentence.
    pub help: &'static str,
    /// Its labels, each with all its values; a series is one value of each.
    pub labels: &'static [LabelSet],
}

impl Declaration {
    /// Returns how many series it has: the product of its label sets.
    pub fn series(&self) -> usize {
        self.labels.iter().map(|set| set.values.len()).product()
    }
}

/// A closed set of label values: an enum whose variants are the values.
pub trait Label: Copy {
    /// The label's name and all its values.
    const SET: LabelSet;

    /// Returns this value's text, one of the set.
    fn value(self) -> &'static str;
}

/// The labels of one series: a [`Label`], or two or three of them as a tuple.
///
/// A text that is not known at compile time is no label, so what a client chose, or the id of a
/// room, cannot become a series:
///
/// ```compile_fail
/// use infra_core::metric::Counter;
///
/// const MOVES: Counter<String> = Counter::labelled("infra_game_moves_total", "Moves of a room.");
/// ```
#[diagnostic::on_unimplemented(
    note = "a label is a closed set: implement `Label` for an enum whose variants are its values"
)]
pub trait Labels: Copy {
    /// The labels' names and all their values.
    const SETS: &'static [LabelSet];

    /// Returns the labels of this series, in the order of `SETS`.
    fn labels(self) -> Vec<metrics::Label>;
}

fn label<L: Label>(label: L) -> metrics::Label {
    metrics::Label::from_static_parts(L::SET.name, label.value())
}

impl<A: Label> Labels for A {
    const SETS: &'static [LabelSet] = &[A::SET];

    fn labels(self) -> Vec<metrics::Label> {
        vec![label(self)]
    }
}

impl<A: Label, B: Label> Labels for (A, B) {
    const SETS: &'static [LabelSet] = &[A::SET, B::SET];

    fn labels(self) -> Vec<metrics::Label> {
        vec![label(self.0), label(self.1)]
    }
}

impl<A: Label, B: Label, C: Label> Labels for (A, B, C) {
    const SETS: &'static [LabelSet] = &[A::SET, B::SET, C::SET];

    fn labels(self) -> Vec<metrics::Label> {
        vec![label(self.0), label(self.1), label(self.2)]
    }
}

const NUMERALS: [&str; 16] =
    ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15"];

/// Returns the numbers below `count` as label values, for a label that is a small bounded number.
///
/// ```
/// use infra_core::metric::{Label, LabelSet, numeral, numerals};
///
/// #[derive(Clone, Copy)]
/// struct Seat(usize);
///
/// impl Label for Seat {
///     const SET: LabelSet = LabelSet { name: "seat", values: numerals(4) };
///
///     fn value(self) -> &'static str {
///         numeral(self.0, Self::SET.values)
///     }
/// }
/// assert_eq!(Seat(3).value(), "3");
/// assert_eq!(Seat(9).value(), "3");
/// ```
///
/// # Panics
///
/// At compile time, where `count` is above 16: such a number belongs into no label.
pub const fn numerals(count: usize) -> &'static [&'static str] {
    NUMERALS.split_at(count).0
}

/// Returns the value of `number` in a set made by [`numerals`]; what lies above is its last.
pub fn numeral(number: usize, set: &[&'static str]) -> &'static str {
    set.get(number).or(set.last()).copied().unwrap_or_default()
}

/// The absence of a label.
#[derive(Debug, Clone, Copy)]
pub enum NoLabel {}

/// Upper bounds of latencies in seconds: 100 us to 10 s.
pub const LATENCY: &[f64] = &[
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

macro_rules! metric {
    ($(#[$doc:meta])* $name:ident, $macro:ident) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name<L = NoLabel> {
            declaration: Declaration,
            label: std::marker::PhantomData<fn(L)>,
        }

        impl<L> $name<L> {
            /// Returns the declaration, for `METRICS`.
            pub const fn declaration(&self) -> Declaration {
                self.declaration
            }
        }

        impl $name {
            /// Returns the series itself, for a hot path that looks it up once.
            ///
            /// It belongs to the recorder that is installed now.
            pub fn handle(&self) -> metrics::$name {
                metrics::$macro!(self.declaration.name)
            }
        }

        impl<L: Labels> $name<L> {
            /// Returns the series of these labels, for a hot path that looks it up once.
            ///
            /// It belongs to the recorder that is installed now.
            pub fn handle_for(&self, labels: L) -> metrics::$name {
                metrics::$macro!(self.declaration.name, labels.labels())
            }
        }
    };
}

metric! {
    /// A count that only grows.
    ///
    /// ```
    /// use infra_core::metric::Counter;
    ///
    /// const APPENDS: Counter = Counter::new("infra_events_appends_total", "Appends that were acknowledged.");
    /// APPENDS.add(1);
    /// ```
    Counter, counter
}

metric! {
    /// A value that goes up and down.
    Gauge, gauge
}

metric! {
    /// A distribution.
    Histogram, histogram
}

const fn declare(
    name: &'static str,
    kind: Kind,
    unit: &'static str,
    help: &'static str,
    labels: &'static [LabelSet],
) -> Declaration {
    Declaration { name, kind, unit, help, labels }
}

impl Counter {
    /// Declares a counter without label.
    pub const fn new(name: &'static str, help: &'static str) -> Self {
        let declaration = declare(name, Kind::Counter, "", help, &[]);
        Self { declaration, label: std::marker::PhantomData }
    }

    /// Adds to the count.
    pub fn add(&self, count: u64) {
        self.handle().increment(count);
    }
}

impl<L: Labels> Counter<L> {
    /// Declares a counter with a label.
    pub const fn labelled(name: &'static str, help: &'static str) -> Self {
        let declaration = declare(name, Kind::Counter, "", help, L::SETS);
        Self { declaration, label: std::marker::PhantomData }
    }

    /// Adds to the count of one label value.
    pub fn add_for(&self, label: L, count: u64) {
        self.handle_for(label).increment(count);
    }
}

impl Gauge {
    /// Declares a gauge without label.
    pub const fn new(name: &'static str, unit: &'static str, help: &'static str) -> Self {
        let declaration = declare(name, Kind::Gauge, unit, help, &[]);
        Self { declaration, label: std::marker::PhantomData }
    }

    /// Sets the value.
    pub fn set(&self, value: f64) {
        self.handle().set(value);
    }

    /// Adds to the value; a negative number takes away.
    pub fn add(&self, delta: f64) {
        self.handle().increment(delta);
    }
}

impl<L: Labels> Gauge<L> {
    /// Declares a gauge with a label.
    pub const fn labelled(name: &'static str, unit: &'static str, help: &'static str) -> Self {
        let declaration = declare(name, Kind::Gauge, unit, help, L::SETS);
        Self { declaration, label: std::marker::PhantomData }
    }

    /// Sets the value of one label value.
    pub fn set_for(&self, label: L, value: f64) {
        self.handle_for(label).set(value);
    }

    /// Adds to the value of one label value; a negative number takes away.
    pub fn add_for(&self, label: L, delta: f64) {
        self.handle_for(label).increment(delta);
    }
}

impl Histogram {
    /// Declares a distribution of seconds over [`LATENCY`].
    pub const fn latency(name: &'static str, help: &'static str) -> Self {
        Self::new(name, "seconds", help, LATENCY)
    }

    /// Declares a distribution over upper bounds of your own.
    pub const fn new(
        name: &'static str,
        unit: &'static str,
        help: &'static str,
        buckets: &'static [f64],
    ) -> Self {
        let declaration = declare(name, Kind::Histogram(buckets), unit, help, &[]);
        Self { declaration, label: std::marker::PhantomData }
    }

    /// Records one value.
    pub fn record(&self, value: f64) {
        self.handle().record(value);
    }
}

impl<L: Labels> Histogram<L> {
    /// Declares a distribution of seconds over [`LATENCY`] with a label.
    pub const fn latency_of(name: &'static str, help: &'static str) -> Self {
        Self::labelled(name, "seconds", help, LATENCY)
    }

    /// Declares a distribution over upper bounds of your own with a label.
    pub const fn labelled(
        name: &'static str,
        unit: &'static str,
        help: &'static str,
        buckets: &'static [f64],
    ) -> Self {
        let declaration = declare(name, Kind::Histogram(buckets), unit, help, L::SETS);
        Self { declaration, label: std::marker::PhantomData }
    }

    /// Records one value of one label value.
    pub fn record_for(&self, label: L, value: f64) {
        self.handle_for(label).record(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, Copy)]
    enum Outcome {
        Served,
        Shed,
    }

    impl Label for Outcome {
        const SET: LabelSet = LabelSet { name: "outcome", values: &["served", "shed"] };

        fn value(self) -> &'static str {
            match self {
                Self::Served => "served",
                Self::Shed => "shed",
            }
        }
    }

    const CALLS: Counter<Outcome> = Counter::labelled("infra_core_calls_total", "Calls.");
    const DEPTH: Gauge = Gauge::new("infra_core_depth", "", "Depth.");
    const WAIT: Histogram = Histogram::latency("infra_core_wait_seconds", "Wait.");
    const WAIT_OF: Histogram<Outcome> =
        Histogram::latency_of("infra_core_wait_of_seconds", "Wait.");
    const LEVEL: Gauge<Outcome> = Gauge::labelled("infra_core_level", "bytes", "Level.");

    #[derive(Debug, Clone, Copy)]
    struct Shard(usize);

    impl Label for Shard {
        const SET: LabelSet = LabelSet { name: "shard", values: numerals(4) };

        fn value(self) -> &'static str {
            numeral(self.0, Self::SET.values)
        }
    }

    const BOTH: Counter<(Outcome, Shard)> = Counter::labelled("infra_core_both_total", "Both.");

    #[test]
    fn a_tuple_of_labels_keeps_their_order_and_a_number_its_bound() {
        let labels = (Outcome::Shed, Shard(7)).labels();
        let texts: Vec<_> = labels.iter().map(|label| (label.key(), label.value())).collect();
        assert_eq!(texts, [("outcome", "shed"), ("shard", "3")]);
        BOTH.add_for((Outcome::Served, Shard(0)), 1);
    }

    #[test]
    fn a_declaration_names_its_whole_label_set() {
        let set = CALLS.declaration().labels[0];
        for outcome in [Outcome::Served, Outcome::Shed] {
            assert!(set.values.contains(&outcome.value()));
        }
        assert_eq!(WAIT.declaration().unit, "seconds");
        assert_eq!(DEPTH.declaration().labels, []);
        assert_eq!((DEPTH.declaration().series(), BOTH.declaration().series()), (1, 8));
    }

    #[test]
    fn emission_without_a_recorder_is_harmless() {
        CALLS.add_for(Outcome::Served, 1);
        DEPTH.set(1.0);
        DEPTH.add(-1.0);
        WAIT.record(0.5);
        WAIT_OF.record_for(Outcome::Shed, 0.5);
        LEVEL.set_for(Outcome::Shed, 3.0);
        LEVEL.add_for(Outcome::Shed, -1.0);
    }
}
