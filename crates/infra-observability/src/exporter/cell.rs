//! Where the numbers of one series are kept.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use infra_core::metric::Kind;
use metrics::{Counter, CounterFn, Gauge, Histogram};

use super::{buckets::Buckets, sample::Value};
use crate::thrift::Thrift;

/// The numbers of one series, shared with every handle of it.
#[derive(Debug, Clone)]
pub(super) enum Cell {
    Count(Arc<Count>),
    Level(Arc<AtomicU64>),
    Distribution(Arc<Buckets>),
}

impl Cell {
    /// Creates the numbers of a series, at zero.
    ///
    /// A counter in a unit, as of seconds, is a double that is set through the facade's gauge.
    pub(super) fn of(kind: Kind, unit: &str, thrift: &Thrift) -> Option<Self> {
        match kind {
            Kind::Counter if !unit.is_empty() => Some(Self::Level(Arc::default())),
            Kind::Counter => Some(Self::Count(Arc::default())),
            Kind::Gauge => Some(Self::Level(Arc::default())),
            Kind::Histogram(bounds) => {
                Some(Self::Distribution(Arc::new(Buckets::thrifty(bounds, thrift.clone()))))
            }
            _ => None,
        }
    }

    pub(super) fn read(&self) -> Value {
        // Relaxed: each series stands for itself; a scrape is no snapshot over all of them.
        match self {
            Self::Count(count) => Value::Count(count.0.load(Ordering::Relaxed)),
            Self::Level(bits) => Value::Level(f64::from_bits(bits.load(Ordering::Relaxed))),
            Self::Distribution(buckets) => Value::Distribution {
                bounds: buckets.bounds(),
                cumulated: buckets.cumulated(),
                sum: buckets.sum(),
                exemplars: buckets.exemplars(),
            },
        }
    }

    pub(super) fn counter(self) -> Option<Counter> {
        match self {
            Self::Count(count) => Some(Counter::from_arc(count)),
            Self::Level(_) | Self::Distribution(_) => None,
        }
    }

    pub(super) fn gauge(self) -> Option<Gauge> {
        match self {
            Self::Level(bits) => Some(Gauge::from_arc(bits)),
            Self::Count(_) | Self::Distribution(_) => None,
        }
    }

    pub(super) fn histogram(self) -> Option<Histogram> {
        match self {
            Self::Distribution(buckets) => Some(Histogram::from_arc(buckets)),
            Self::Count(_) | Self::Level(_) => None,
        }
    }
}

/// A count that wraps nowhere near its end.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl CounterFn for Count {
    fn increment(&self, value: u64) {
        self.0.fetch_add(value, Ordering::Relaxed);
    }

    fn absolute(&self, value: u64) {
        self.0.fetch_max(value, Ordering::Relaxed);
    }
}
