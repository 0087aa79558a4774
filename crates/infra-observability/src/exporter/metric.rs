//! One declared metric: a cell for each of its series, made when it is declared.

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use infra_core::metric::{Declaration, LabelSet};
use metrics::Key;

use super::{
    cell::Cell,
    sample::{Head, Sample, Series},
};
use crate::thrift::Thrift;

/// The value of every label of the series for what lies outside of the declared sets.
const OVERFLOW: &str = "__overflow__";

/// The labels that every series has, whatever metric it belongs to.
pub(super) type Constants = [(Cow<'static, str>, Cow<'static, str>)];

/// What became of a look-up.
#[derive(Debug)]
pub(super) enum Found {
    /// The series.
    Series(Cell),
    /// No declared series: the one for all of those, and whether it is the first time.
    Overflow { cell: Cell, is_first: bool },
}

#[derive(Debug)]
pub(super) struct Metric {
    head: Arc<Head>,
    labels: &'static [LabelSet],
    /// In the order of the label sets; the last label changes fastest.
    series: Vec<(Arc<Series>, Cell)>,
    overflow: (Arc<Series>, Cell),
    has_overflown: AtomicBool,
}

impl Metric {
    /// Creates every series of a declaration, with zero; none for a kind that is not known.
    pub(super) fn new(
        declaration: &Declaration,
        constants: &Constants,
        thrift: &Thrift,
    ) -> Option<Self> {
        let cell = || Cell::of(declaration.kind, declaration.unit, thrift);
        let series = |values: &[&'static str]| {
            let names = declaration.labels.iter().map(|set| Cow::Borrowed(set.name));
            let own = names.zip(values.iter().map(|value| Cow::Borrowed(*value)));
            Arc::new(Series::new(constants.iter().cloned().chain(own).collect()))
        };
        let outside = vec![OVERFLOW; declaration.labels.len()];
        Some(Self {
            head: Arc::new(Head::from(declaration)),
            labels: declaration.labels,
            series: combinations(declaration.labels)
                .iter()
                .map(|values| Some((series(values), cell()?)))
                .collect::<Option<_>>()?,
            overflow: (series(&outside), cell()?),
            has_overflown: AtomicBool::new(false),
        })
    }

    /// Finds the series of these labels, in any order.
    pub(super) fn find(&self, key: &Key) -> Found {
        match self.place(key).and_then(|place| self.series.get(place)) {
            Some((_, cell)) => Found::Series(cell.clone()),
            None => Found::Overflow {
                cell: self.overflow.1.clone(),
                // Relaxed: the flag stands for itself.
                is_first: !self.has_overflown.swap(true, Ordering::Relaxed),
            },
        }
    }

    fn place(&self, key: &Key) -> Option<usize> {
        if key.labels().count() != self.labels.len() {
            return None;
        }
        self.labels.iter().try_fold(0, |place, set| {
            let label = key.labels().find(|label| label.key() == set.name)?;
            let value = set.values.iter().position(|value| *value == label.value())?;
            Some(place * set.values.len() + value)
        })
    }

    pub(super) const fn head(&self) -> &Arc<Head> {
        &self.head
    }

    /// Calls `each` for every series; that of the overflow only if there was one.
    pub(super) fn for_each(&self, mut each: impl FnMut(&Arc<Series>, &Cell)) {
        self.series.iter().for_each(|(series, cell)| each(series, cell));
        if self.has_overflown.load(Ordering::Relaxed) {
            each(&self.overflow.0, &self.overflow.1);
        }
    }

    pub(super) fn samples(&self, into: &mut Vec<Sample>) {
        self.for_each(|series, cell| {
            let (metric, series) = (Arc::clone(&self.head), Arc::clone(series));
            into.push(Sample { metric, series, value: cell.read() });
        });
    }
}

/// Returns one value of each set, in all ways.
fn combinations(sets: &[LabelSet]) -> Vec<Vec<&'static str>> {
    sets.iter().fold(vec![Vec::new()], |ways, set| {
        let with = |way: &Vec<&'static str>, value| way.iter().copied().chain([value]).collect();
        ways.iter().flat_map(|way| set.values.iter().map(move |value| with(way, *value))).collect()
    })
}
