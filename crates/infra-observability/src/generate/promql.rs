//! Which metrics, labels and values a query names, and whether they are declared.

use std::fmt;

use infra_core::metric::{Declaration, Kind, LabelSet};

/// Words of the query language that stand where a metric could.
const WORDS: [&str; 16] = [
    "and",
    "or",
    "unless",
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "bool",
    "offset",
    "atan2",
    "inf",
    "nan",
    "start",
    "end",
];

/// Words before a list of labels.
const LISTS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

/// Labels that a scraper adds to every series.
const TARGET: [&str; 2] = ["job", "instance"];

/// What a query names that nobody declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    /// What: `metric`, `label` or `value`.
    pub what: &'static str,
    /// Its name.
    pub name: String,
    /// The query.
    pub query: String,
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}` is not declared: {}", self.what, self.name, self.query)
    }
}

impl std::error::Error for Unknown {}

/// Checks that every metric, label and label value of a query is declared.
///
/// A label in a list, as after `by`, may be that of any metric, since a list is of all that stands
/// beside it.
///
/// Names with a colon are those of recording rules, which are checked where they are declared.
///
/// # Errors
///
/// The first that is not.
pub fn check(query: &str, declared: &[Declaration]) -> Result<(), Unknown> {
    let unknown =
        |what, name: &str| Unknown { what, name: name.to_owned(), query: query.to_owned() };
    let mut rest = query;
    let mut is_list = false;
    while let Some(token) = next(&mut rest) {
        match token {
            Token::Name(label) if is_list => {
                if !is_label(label, declared) {
                    return Err(unknown("label", label));
                }
            }
            Token::Name(name) if LISTS.contains(&name) => {
                is_list = rest.trim_start().starts_with('(');
            }
            Token::Name(name) => {
                let after = rest.trim_start();
                let is_function = ["(", "by", "without"].iter().any(|word| after.starts_with(word));
                if is_function || WORDS.contains(&name) || name.contains(':') {
                    continue;
                }
                let metric = find(name, declared).ok_or_else(|| unknown("metric", name))?;
                for (label, values) in matchers(&mut rest) {
                    let set = metric.label(label).ok_or_else(|| unknown("label", label))?;
                    if let Some(value) = values.into_iter().find(|value| !set.has(value)) {
                        return Err(unknown("value", value));
                    }
                }
            }
            Token::Close => is_list = false,
            Token::Other => {}
        }
    }
    Ok(())
}

#[derive(Debug)]
enum Token<'a> {
    Name(&'a str),
    Close,
    Other,
}

/// Takes the next token off a query; ranges and texts are passed over.
fn next<'a>(rest: &mut &'a str) -> Option<Token<'a>> {
    let first = rest.chars().next()?;
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':' || c == '.';
    let (length, token): (usize, fn(&'a str) -> Token<'a>) = match first {
        '[' => (rest.find(']').map_or(rest.len(), |end| end + 1), |_| Token::Other),
        '"' => (after_text(rest), |_| Token::Other),
        ')' => (1, |_| Token::Close),
        'a'..='z' | 'A'..='Z' | '_' => {
            (rest.find(|c| !is_part(c)).unwrap_or(rest.len()), |name| Token::Name(name))
        }
        // A number, with its exponent.
        '0'..='9' => (rest.find(|c| !is_part(c)).unwrap_or(rest.len()), |_| Token::Other),
        other => (other.len_utf8(), |_| Token::Other),
    };
    let (text, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(token(text))
}

fn after_text(rest: &str) -> usize {
    rest.get(1..).and_then(|inner| inner.find('"')).map_or(rest.len(), |end| end + 2)
}

/// Takes the matchers in braces off a query, each with the values that it names.
fn matchers<'a>(rest: &mut &'a str) -> Vec<(&'a str, Vec<&'a str>)> {
    let Some((inner, left)) = rest.strip_prefix('{').and_then(|open| open.split_once('}')) else {
        return Vec::new();
    };
    *rest = left;
    let parts = inner.split("\",").filter(|part| !part.trim().is_empty());
    let matcher = |part: &'a str| {
        let (name, value) = part.split_once('"')?;
        let name = name.trim().trim_end_matches(['=', '!', '~']);
        Some((name, value.trim_end_matches('"').split('|').collect()))
    };
    parts.filter_map(matcher).collect()
}

/// A metric that is known, with what is known of its labels.
enum Known<'a> {
    Declared(&'a Declaration, bool),
    /// What every scraper makes.
    Up,
}

/// Returns whether any metric has a label.
fn is_label(name: &str, declared: &[Declaration]) -> bool {
    let is_bound = |metric: &Declaration| matches!(metric.kind, Kind::Histogram(_)) && name == "le";
    let has = |metric: &Declaration| metric.labels.iter().any(|set| set.name == name);
    TARGET.contains(&name) || declared.iter().any(|metric| is_bound(metric) || has(metric))
}

enum Values<'a> {
    Closed(LabelSet),
    Bounds(&'a [f64]),
    Any,
}

fn find<'a>(name: &str, declared: &'a [Declaration]) -> Option<Known<'a>> {
    if name == "up" {
        return Some(Known::Up);
    }
    declared.iter().find_map(|metric| {
        let Kind::Histogram(_) = metric.kind else {
            return (name == metric.name).then_some(Known::Declared(metric, false));
        };
        let suffix = name.strip_prefix(metric.name)?;
        let is_it = ["_bucket", "_sum", "_count"].contains(&suffix);
        is_it.then_some(Known::Declared(metric, suffix == "_bucket"))
    })
}

impl<'a> Known<'a> {
    fn label(&self, name: &str) -> Option<Values<'a>> {
        if TARGET.contains(&name) {
            return Some(Values::Any);
        }
        let Self::Declared(metric, is_bucket) = self else { return None };
        if let (Kind::Histogram(bounds), true, "le") = (metric.kind, *is_bucket, name) {
            return Some(Values::Bounds(bounds));
        }
        metric.labels.iter().find(|set| set.name == name).copied().map(Values::Closed)
    }
}

impl Values<'_> {
    fn has(&self, value: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Closed(set) => set.values.contains(&value),
            Self::Bounds(bounds) => bounds.iter().any(|bound| bound.to_string() == value),
        }
    }
}

#[cfg(test)]
mod tests {
    use infra_core::metric::{Counter, Histogram, Label};

    use super::*;

    #[derive(Clone, Copy)]
    struct Side;

    impl Label for Side {
        const SET: LabelSet = LabelSet { name: "side", values: &["red", "black"] };

        fn value(self) -> &'static str {
            "red"
        }
    }

    const MOVES: Counter<Side> = Counter::labelled("infra_t_moves_total", "Moves.");
    const WAIT: Histogram = Histogram::new("infra_t_wait_seconds", "seconds", "Wait.", &[0.1, 1.0]);

    fn unknown(query: &str) -> Option<(&'static str, String)> {
        let declared = [MOVES.declaration(), WAIT.declaration()];
        check(query, &declared).err().map(|unknown| (unknown.what, unknown.name))
    }

    #[test]
    fn what_is_declared_may_be_named() {
        for query in [
            r#"sum by (side) (rate(infra_t_moves_total{side=~"red|black", job="game"}[5m])) > 1e3"#,
            "histogram_quantile(0.99, sum by (le) (rate(infra_t_wait_seconds_bucket[5m])))",
            r#"1 - rate(infra_t_wait_seconds_bucket{le="0.1"}[1h]) / rate(infra_t_wait_seconds_count[1h])"#,
            r#"up{job="game-server"} == 0 and on (instance) infra_t_moves_total offset 5m"#,
            "level:waits:rate5m > 14.4 * 0.01",
            "",
        ] {
            assert_eq!(unknown(query), None, "{query}");
        }
    }

    #[test]
    fn a_metric_label_or_value_that_was_renamed_is_told() {
        let table = [
            ("rate(infra_t_move_total[5m])", "metric", "infra_t_move_total"),
            ("infra_t_wait_seconds", "metric", "infra_t_wait_seconds"),
            (r#"infra_t_moves_total{room="AB12CD"}"#, "label", "room"),
            (r#"infra_t_moves_total{side="green"}"#, "value", "green"),
            (r#"infra_t_moves_total{side=~"red|green"}"#, "value", "green"),
            (r#"infra_t_wait_seconds_bucket{le="0.25"}"#, "value", "0.25"),
            (r#"infra_t_wait_seconds_count{le="0.1"}"#, "label", "le"),
            (r#"up{side="red"}"#, "label", "side"),
            ("sum by (room) (infra_t_moves_total)", "label", "room"),
            ("sum(infra_t_moves_total) by (side, room)", "label", "room"),
            ("up and on (room) infra_t_moves_total", "label", "room"),
            ("up * on (job) group_left infra_t_move_total", "metric", "infra_t_move_total"),
        ];
        for (query, what, name) in table {
            assert_eq!(unknown(query), Some((what, name.to_owned())), "{query}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_asked_it_ends(query in ".{0,200}") {
            let _known = check(&query, &[MOVES.declaration()]);
        }
    }
}
