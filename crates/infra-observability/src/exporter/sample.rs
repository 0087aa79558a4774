//! What a scrape reads: a metric, one of its series, and what that holds.

use std::{borrow::Cow, fmt::Write, sync::Arc};

use infra_core::metric::{Declaration, Kind};

use super::buckets::Exemplar;

/// What is said of a metric before its series.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// The full name.
    pub name: Cow<'static, str>,
    /// What kind of series it is.
    pub kind: Kind,
    /// The unit; empty for a count.
    pub unit: Cow<'static, str>,
    /// What it tells.
    pub help: Cow<'static, str>,
}

impl From<&Declaration> for Head {
    fn from(declaration: &Declaration) -> Self {
        Self {
            name: declaration.name.into(),
            kind: declaration.kind,
            unit: declaration.unit.into(),
            help: declaration.help.into(),
        }
    }
}

/// The labels of one series of a metric.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Series {
    pairs: Vec<(Cow<'static, str>, Cow<'static, str>)>,
    /// As it stands in the text formats, escaped and without braces.
    text: String,
}

impl Series {
    /// Creates the series with these labels.
    pub fn new(pairs: Vec<(Cow<'static, str>, Cow<'static, str>)>) -> Self {
        let mut text = String::new();
        for (name, value) in &pairs {
            let comma = if text.is_empty() { "" } else { "," };
            let value = value.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n");
            // Writing to a `String` cannot fail.
            let _ = write!(text, "{comma}{name}=\"{value}\"");
        }
        Self { pairs, text }
    }

    /// Returns the value of a label.
    pub fn get(&self, label: &str) -> Option<&str> {
        self.pairs.iter().find(|(name, _)| name == label).map(|(_, value)| value.as_ref())
    }

    /// Returns whether some label has this value.
    pub fn has(&self, value: &str) -> bool {
        self.pairs.iter().any(|(_, own)| own == value)
    }

    /// Returns the labels as they stand in the text formats, without braces.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// What a series holds now.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A counter's count.
    Count(u64),
    /// A gauge's value, or a count in fractions.
    Level(f64),
    /// A histogram: values up to each bound and all of them, cumulated, and their sum.
    Distribution {
        /// The upper bounds.
        bounds: &'static [f64],
        /// One more than the bounds.
        cumulated: Vec<u64>,
        /// The sum of all values.
        sum: f64,
        /// The last value of a sampled trace in each bucket.
        exemplars: Vec<Option<Exemplar>>,
    },
}

/// One series and what it holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The metric.
    pub metric: Arc<Head>,
    /// Which of its series.
    pub series: Arc<Series>,
    /// What it holds.
    pub value: Value,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_values_are_escaped() {
        let series = Series::new(vec![("a".into(), "x\"y\\z\n".into()), ("b".into(), "1".into())]);
        assert_eq!(series.text(), r#"a="x\"y\\z\n",b="1""#);
        assert_eq!((series.get("b"), series.get("c")), (Some("1"), None));
        assert!(series.has("1") && !series.has("2"));
    }
}
