//! Metrics of other crates, which nobody declared: joined up to a bound.

use std::{collections::BTreeMap, sync::Arc};

use infra_core::metric::{Kind, LATENCY};
use metrics::{Key, Label};
use parking_lot::RwLock;

use super::{
    cell::Cell,
    metric::Constants,
    sample::{Head, Sample, Series},
};
use crate::thrift::Thrift;

/// The most metrics that were not declared.
const MAX_METRICS: usize = 128;

/// The most series of one of them.
const MAX_SERIES: usize = 64;

#[derive(Debug)]
struct Joined {
    head: Arc<Head>,
    series: BTreeMap<Vec<Label>, (Arc<Series>, Cell)>,
}

/// What was said of a metric before it was used.
#[derive(Debug, Clone, Default)]
struct Words {
    unit: &'static str,
    help: String,
}

#[derive(Debug, Default)]
pub(super) struct Foreign {
    joined: RwLock<BTreeMap<String, Joined>>,
    words: RwLock<BTreeMap<String, Words>>,
    thrift: Thrift,
}

impl Foreign {
    pub(super) fn new(thrift: Thrift) -> Self {
        Self { thrift, ..Self::default() }
    }

    pub(super) fn describe(&self, name: &str, unit: Option<metrics::Unit>, help: &str) {
        let mut words = self.words.write();
        if words.len() < MAX_METRICS || words.contains_key(name) {
            let unit = unit.map_or("", |unit| unit.as_str());
            words.insert(name.to_owned(), Words { unit, help: help.to_owned() });
        }
    }

    /// Finds or makes a series; none where a bound is reached or the name is no metric's.
    pub(super) fn find(&self, key: &Key, kind: Kind, constants: &Constants) -> Option<Cell> {
        let labels: Vec<Label> = key.labels().cloned().collect();
        let known = |joined: &BTreeMap<String, Joined>| {
            let (_, cell) = joined.get(key.name())?.series.get(&labels)?;
            Some(cell.clone())
        };
        if let Some(cell) = known(&self.joined.read()) {
            return Some(cell);
        }
        let is_good = is_name(key.name()) && labels.iter().all(|label| is_name(label.key()));
        let mut joined = self.joined.write();
        let has_room = joined.len() < MAX_METRICS || joined.contains_key(key.name());
        if !is_good || !has_room {
            return None;
        }
        let entry = joined.entry(key.name().to_owned()).or_insert_with(|| Joined {
            head: Arc::new(self.head(key.name(), kind)),
            series: BTreeMap::new(),
        });
        if MAX_SERIES <= entry.series.len() && !entry.series.contains_key(&labels) {
            return None;
        }
        let own = labels
            .iter()
            .map(|label| (label.key().to_owned().into(), label.value().to_owned().into()));
        let series = Arc::new(Series::new(constants.iter().cloned().chain(own).collect()));
        let cell = Cell::of(entry.head.kind, "", &self.thrift)?;
        Some(entry.series.entry(labels).or_insert((series, cell)).1.clone())
    }

    fn head(&self, name: &str, kind: Kind) -> Head {
        let words = self.words.read().get(name).cloned().unwrap_or_default();
        let help = if words.help.is_empty() { "Not described.".to_owned() } else { words.help };
        Head { name: name.to_owned().into(), kind, unit: words.unit.into(), help: help.into() }
    }

    pub(super) fn samples(&self, into: &mut Vec<Sample>) {
        for joined in self.joined.read().values() {
            into.extend(joined.series.values().map(|(series, cell)| Sample {
                metric: Arc::clone(&joined.head),
                series: Arc::clone(series),
                value: cell.read(),
            }));
        }
    }
}

/// The kind of a histogram that was not declared.
pub(super) const HISTOGRAM: Kind = Kind::Histogram(LATENCY);

/// Whether a name can stand in the text formats.
fn is_name(name: &str) -> bool {
    let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    begins && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
