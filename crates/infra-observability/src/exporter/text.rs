//! The two text formats: Prometheus 0.0.4 and `OpenMetrics` 1.0.

use std::fmt::Write;

use infra_core::metric::Kind;

use super::{
    buckets::Exemplar,
    sample::{Head, Series, Value},
};

/// A text format of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// The Prometheus text exposition format, version 0.0.4; without exemplars.
    #[default]
    Prometheus,
    /// `OpenMetrics` 1.0, with exemplars.
    OpenMetrics,
}

impl Format {
    /// Chooses by the `Accept` header of a request.
    ///
    /// ```
    /// use infra_observability::exporter::Format;
    ///
    /// let accept = "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;q=0.5";
    /// assert_eq!(Format::negotiate(accept), Format::OpenMetrics);
    /// assert_eq!(Format::negotiate("*/*"), Format::Prometheus);
    /// ```
    pub fn negotiate(accept: &str) -> Self {
        let offers = |name| accept.split(',').find_map(move |offer| quality(offer, name));
        match (offers("application/openmetrics-text"), offers("text/plain")) {
            (Some(open), plain) if 0.0 < open && plain.unwrap_or(0.0) <= open => Self::OpenMetrics,
            _ => Self::Prometheus,
        }
    }

    /// Returns the `Content-Type` of the format.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Returns the quality of an offer if it is of this media type.
fn quality(offer: &str, name: &str) -> Option<f32> {
    let mut parts = offer.split(';').map(str::trim);
    if !parts.next()?.eq_ignore_ascii_case(name) {
        return None;
    }
    let quality = parts.find_map(|part| part.strip_prefix("q=")).map(str::parse);
    Some(quality.and_then(Result::ok).unwrap_or(1.0))
}

/// The longest number and the usual length of a line, for one allocation of the page.
const USUAL_PAGE: usize = 64 * 1024;

/// A page of metrics that is being written.
#[derive(Debug)]
pub(super) struct Page {
    format: Format,
    text: String,
}

// Writing to a `String` cannot fail, so the results below are not looked at.

impl Page {
    pub(super) fn new(format: Format) -> Self {
        Self { format, text: String::with_capacity(USUAL_PAGE) }
    }

    pub(super) fn head(&mut self, metric: &Head) {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
            _ => "unknown",
        };
        let help = metric.help.replace('\\', r"\\").replace('\n', r"\n");
        let is_open = self.format == Format::OpenMetrics;
        let name = if is_open { family(metric) } else { &metric.name };
        let help = if is_open { help.replace('"', r#"\""#) } else { help };
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        // A unit may only be told where the name ends in it.
        if is_open && !metric.unit.is_empty() && name.ends_with(&format!("_{}", metric.unit)) {
            let _ = writeln!(self.text, "# UNIT {name} {}", metric.unit);
        }
    }

    pub(super) fn series(&mut self, metric: &Head, series: &Series, value: &Value) {
        match value {
            Value::Count(count) => {
                self.name(metric, "", series, None);
                let _ = writeln!(self.text, "{count}");
            }
            Value::Level(level) => {
                self.name(metric, "", series, None);
                self.number(*level);
                self.text.push('\n');
            }
            Value::Distribution { bounds, cumulated, sum, exemplars } => {
                let bounds = bounds.iter().copied().chain([f64::INFINITY]);
                for ((bound, count), exemplar) in bounds.zip(cumulated).zip(exemplars) {
                    self.name(metric, "_bucket", series, Some(bound));
                    let _ = write!(self.text, "{count}");
                    if let (Format::OpenMetrics, Some(exemplar)) = (self.format, exemplar) {
                        self.exemplar(exemplar);
                    }
                    self.text.push('\n');
                }
                self.name(metric, "_sum", series, None);
                self.number(*sum);
                self.text.push('\n');
                self.name(metric, "_count", series, None);
                let _ = writeln!(self.text, "{}", cumulated.last().copied().unwrap_or(0));
            }
        }
    }

    pub(super) fn end(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }

    fn name(&mut self, metric: &Head, suffix: &str, series: &Series, bound: Option<f64>) {
        let text = &mut self.text;
        text.push_str(&metric.name);
        // A counter that was not declared may lack the suffix that OpenMetrics asks for.
        if self.format == Format::OpenMetrics
            && metric.kind == Kind::Counter
            && !metric.name.ends_with("_total")
        {
            text.push_str("_total");
        }
        text.push_str(suffix);
        let labels = series.text();
        if !labels.is_empty() || bound.is_some() {
            text.push('{');
            text.push_str(labels);
            if let Some(bound) = bound {
                text.push_str(if labels.is_empty() { "le=\"" } else { ",le=\"" });
                self.number(bound);
                self.text.push('"');
            }
            self.text.push('}');
        }
        self.text.push(' ');
    }

    fn exemplar(&mut self, exemplar: &Exemplar) {
        let trace = exemplar.trace;
        let (trace, span) = (trace.trace_id(), trace.span_id());
        let _ = write!(self.text, " # {{trace_id=\"{trace:032x}\",span_id=\"{span:016x}\"}} ");
        self.number(exemplar.value);
    }

    fn number(&mut self, value: f64) {
        if value.is_finite() {
            let is_open = self.format == Format::OpenMetrics;
            // OpenMetrics tells whole floats by their point.
            let _ =
                if is_open { write!(self.text, "{value:?}") } else { write!(self.text, "{value}") };
            return;
        }
        self.text.push_str(match (value.is_nan(), value < 0.0) {
            (true, _) => "NaN",
            (false, true) => "-Inf",
            (false, false) => "+Inf",
        });
    }
}

/// Returns the name of the family that a counter's series belong to.
fn family(metric: &Head) -> &str {
    let name = metric.name.as_ref();
    if metric.kind == Kind::Counter { name.strip_suffix("_total").unwrap_or(name) } else { name }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use infra_core::{random::Random, trace::TraceContext};

    use super::*;

    fn head(name: &'static str, kind: Kind, unit: &'static str) -> Head {
        let help: Cow<'static, str> = "Two\n\"lines\".".into();
        Head { name: name.into(), kind, unit: unit.into(), help }
    }

    fn page(format: Format) -> String {
        let to = Series::new(vec![("to".into(), "all".into())]);
        let trace = TraceContext::root(&Random::seeded(0), true);
        let exemplars = vec![Some(Exemplar { value: 0.25, trace }), None];
        let cumulated = vec![1, 2];
        let wait = Value::Distribution { bounds: &[0.5], cumulated, sum: 1.25, exemplars };
        let metrics = [
            (head("a_total", Kind::Counter, ""), &to, Value::Count(3)),
            (head("b", Kind::Gauge, "bytes"), &Series::default(), Value::Level(f64::INFINITY)),
            (head("c_seconds", Kind::Histogram(&[0.5]), "seconds"), &to, wait),
        ];
        let mut page = Page::new(format);
        for (head, series, value) in metrics {
            page.head(&head);
            page.series(&head, series, &value);
        }
        page.end()
    }

    #[test]
    fn each_kind_has_its_shape() {
        let wanted = r#"# HELP a_total Two\n"lines".
# TYPE a_total counter
a_total{to="all"} 3
# HELP b Two\n"lines".
# TYPE b gauge
b +Inf
# HELP c_seconds Two\n"lines".
# TYPE c_seconds histogram
c_seconds_bucket{to="all",le="0.5"} 1
c_seconds_bucket{to="all",le="+Inf"} 2
c_seconds_sum{to="all"} 1.25
c_seconds_count{to="all"} 2
"#;
        assert_eq!(page(Format::Prometheus), wanted);
    }

    #[test]
    fn open_metrics_names_families_units_exemplars_and_its_end() {
        let wanted = r#"# HELP a Two\n\"lines\".
# TYPE a counter
a_total{to="all"} 3
# HELP b Two\n\"lines\".
# TYPE b gauge
b +Inf
# HELP c_seconds Two\n\"lines\".
# TYPE c_seconds histogram
# UNIT c_seconds seconds
c_seconds_bucket{to="all",le="0.5"} 1 # {trace_id="e220a8397b1dcdaf6e789e6aa1b965f4",span_id="06c45d188009454f"} 0.25
c_seconds_bucket{to="all",le="+Inf"} 2
c_seconds_sum{to="all"} 1.25
c_seconds_count{to="all"} 2
# EOF
"#;
        assert_eq!(page(Format::OpenMetrics), wanted);
    }

    #[test]
    fn numbers_that_are_none_have_names() {
        let mut page = Page::new(Format::Prometheus);
        for value in [f64::NAN, f64::NEG_INFINITY, f64::INFINITY, 1.0] {
            page.number(value);
        }
        assert_eq!(page.end(), "NaN-Inf+Inf1");
    }

    #[test]
    fn the_format_is_the_one_that_is_asked_for() {
        let prometheus =
            "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";
        let table = [
            (prometheus, Format::OpenMetrics),
            ("text/plain", Format::Prometheus),
            ("application/openmetrics-text;q=0", Format::Prometheus),
            ("application/openmetrics-text;q=0.1,text/plain", Format::Prometheus),
            ("", Format::Prometheus),
        ];
        for (accept, wanted) in table {
            assert_eq!(Format::negotiate(accept), wanted, "{accept}");
        }
        assert_ne!(Format::Prometheus.content_type(), Format::OpenMetrics.content_type());
    }
}
