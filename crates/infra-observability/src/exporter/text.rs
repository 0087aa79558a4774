//! The Prometheus text exposition format, version 0.0.4.

use std::fmt::Write;

use infra_core::metric::{Declaration, Kind};

use super::recorder::{Sample, Series, Value};

/// Renders samples that are in order of their metric's name.
pub(super) fn render(samples: &[Sample]) -> String {
    let mut text = String::new();
    let mut last = "";
    for sample in samples {
        if sample.metric.name != last {
            head(&mut text, &sample.metric);
            last = sample.metric.name;
        }
        body(&mut text, sample);
    }
    text
}

// Writing to a `String` cannot fail, so the results below are not looked at.

fn head(text: &mut String, metric: &Declaration) {
    let kind = match metric.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram(_) => "histogram",
        _ => "untyped",
    };
    let help = metric.help.replace('\\', r"\\").replace('\n', r"\n");
    let _ = writeln!(text, "# HELP {} {help}\n# TYPE {} {kind}", metric.name, metric.name);
}

fn body(text: &mut String, sample: &Sample) {
    let name = sample.metric.name;
    let labels = |bound: Option<&str>| labels(&sample.metric, sample.series, bound);
    match &sample.value {
        Value::Count(count) => {
            let _ = writeln!(text, "{name}{} {count}", labels(None));
        }
        Value::Level(level) => {
            let _ = writeln!(text, "{name}{} {}", labels(None), number(*level));
        }
        Value::Distribution { bounds, cumulated, sum } => {
            let bounds = bounds.iter().map(|bound| number(*bound)).chain(["+Inf".to_owned()]);
            for (bound, count) in bounds.zip(cumulated) {
                let _ = writeln!(text, "{name}_bucket{} {count}", labels(Some(&bound)));
            }
            let count = cumulated.last().copied().unwrap_or(0);
            let _ = writeln!(text, "{name}_sum{} {}", labels(None), number(*sum));
            let _ = writeln!(text, "{name}_count{} {count}", labels(None));
        }
    }
}

fn labels(metric: &Declaration, series: Series, bound: Option<&str>) -> String {
    let own = metric.label.zip(series).map(|(set, value)| format!("{}=\"{value}\"", set.name));
    let bound = bound.map(|bound| format!("le=\"{bound}\""));
    let all: Vec<String> = own.into_iter().chain(bound).collect();
    if all.is_empty() { String::new() } else { format!("{{{}}}", all.join(",")) }
}

fn number(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value < 0.0 { "-Inf" } else { "+Inf" }.to_owned();
    }
    value.to_string()
}

#[cfg(test)]
mod tests {
    use infra_core::metric::LabelSet;

    use super::*;

    fn metric(name: &'static str, kind: Kind, label: Option<LabelSet>) -> Declaration {
        Declaration { name, kind, unit: "", help: "Two\nlines.", label }
    }

    #[test]
    fn each_kind_has_its_shape() {
        let label = Some(LabelSet { name: "to", values: &["all"] });
        let samples = [
            Sample {
                metric: metric("a_total", Kind::Counter, label),
                series: Some("all"),
                value: Value::Count(3),
            },
            Sample {
                metric: metric("b", Kind::Gauge, None),
                series: None,
                value: Value::Level(f64::INFINITY),
            },
            Sample {
                metric: metric("c_seconds", Kind::Histogram(&[0.5]), label),
                series: Some("all"),
                value: Value::Distribution { bounds: &[0.5], cumulated: vec![1, 2], sum: 1.25 },
            },
        ];
        let wanted = r#"# HELP a_total Two\nlines.
# TYPE a_total counter
a_total{to="all"} 3
# HELP b Two\nlines.
# TYPE b gauge
b +Inf
# HELP c_seconds Two\nlines.
# TYPE c_seconds histogram
c_seconds_bucket{to="all",le="0.5"} 1
c_seconds_bucket{to="all",le="+Inf"} 2
c_seconds_sum{to="all"} 1.25
c_seconds_count{to="all"} 2
"#;
        assert_eq!(render(&samples), wanted);
        assert_eq!((number(f64::NAN), number(f64::NEG_INFINITY)), ("NaN".into(), "-Inf".into()));
    }
}
