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
    /// Its label, if it has one.
    pub label: Option<LabelSet>,
}

/// A closed set of label values: an enum whose variants are the values.
pub trait Label: Copy {
    /// The label's name and all its values.
    const SET: LabelSet;

    /// Returns this value's text, one of the set.
    fn value(self) -> &'static str;
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
            fn handle(&self) -> metrics::$name {
                metrics::$macro!(self.declaration.name)
            }
        }

        impl<L: Label> $name<L> {
            fn handle_of(&self, label: L) -> metrics::$name {
                metrics::$macro!(self.declaration.name, L::SET.name => label.value())
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
    label: Option<LabelSet>,
) -> Declaration {
    Declaration { name, kind, unit, help, label }
}

impl Counter {
    /// Declares a counter without label.
    pub const fn new(name: &'static str, help: &'static str) -> Self {
        let declaration = declare(name, Kind::Counter, "", help, None);
        Self { declaration, label: std::marker::PhantomData }
    }

    /// Adds to the count.
    pub fn add(&self, count: u64) {
        self.handle().increment(count);
    }
}

impl<L: Label> Counter<L> {
    /// Declares a counter with a label.
    pub const fn labelled(name: &'static str, help: &'static str) -> Self {
        let declaration = declare(name, Kind::Counter, "", help, Some(L::SET));
        Self { declaration, label: std::marker::PhantomData }
    }

    /// Adds to the count of one label value.
    pub fn add_for(&self, label: L, count: u64) {
        self.handle_of(label).increment(count);
    }
}

impl Gauge {
    /// Declares a gauge without label.
    pub const fn new(name: &'static str, unit: &'static str, help: &'static str) -> Self {
        let declaration = declare(name, Kind::Gauge, unit, help, None);
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

impl<L: Label> Gauge<L> {
    /// Declares a gauge with a label.
    pub const fn labelled(name: &'static str, unit: &'static str, help: &'static str) -> Self {
        let declaration = declare(name, Kind::Gauge, unit, help, Some(L::SET));
        Self { declaration, label: std::marker::PhantomData }
    }

    /// Sets the value of one label value.
    pub fn set_for(&self, label: L, value: f64) {
        self.handle_of(label).set(value);
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
        let declaration = declare(name, Kind::Histogram(buckets), unit, help, None);
        Self { declaration, label: std::marker::PhantomData }
    }

    /// Records one value.
    pub fn record(&self, value: f64) {
        self.handle().record(value);
    }
}

impl<L: Label> Histogram<L> {
    /// Declares a distribution of seconds over [`LATENCY`] with a label.
    pub const fn latency_of(name: &'static str, help: &'static str) -> Self {
        let declaration = declare(name, Kind::Histogram(LATENCY), "seconds", help, Some(L::SET));
        Self { declaration, label: std::marker::PhantomData }
    }

    /// Records one value of one label value.
    pub fn record_for(&self, label: L, value: f64) {
        self.handle_of(label).record(value);
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

    #[test]
    fn a_declaration_names_its_whole_label_set() {
        let set = CALLS.declaration().label.unwrap();
        for outcome in [Outcome::Served, Outcome::Shed] {
            assert!(set.values.contains(&outcome.value()));
        }
        assert_eq!(WAIT.declaration().unit, "seconds");
        assert_eq!(DEPTH.declaration().label, None);
    }

    #[test]
    fn emission_without_a_recorder_is_harmless() {
        CALLS.add_for(Outcome::Served, 1);
        DEPTH.set(1.0);
        DEPTH.add(-1.0);
        WAIT.record(0.5);
        WAIT_OF.record_for(Outcome::Shed, 0.5);
        LEVEL.set_for(Outcome::Shed, 3.0);
    }
}
