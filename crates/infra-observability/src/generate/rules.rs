//! Rules of Prometheus, and tests of them for `promtool test rules`.

use std::fmt::{self, Write};

use crate::alert::Severity;

/// A series that is computed ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recording {
    /// Its name, `level:what:operation`.
    pub name: &'static str,
    /// Its query.
    pub query: &'static str,
}

/// On which side of the bound a value is bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    /// Above it.
    Above,
    /// Below it.
    Below,
}

impl fmt::Display for Compare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Above => ">",
            Self::Below => "<",
        })
    }
}

/// What a test gives to a rule: series with their values, a minute apart, as `promtool` reads them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case(pub &'static [(&'static str, &'static str)]);

/// An alert of Prometheus.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prometheus {
    /// Its name, and that of its entry in the runbook.
    pub name: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in a sentence.
    pub summary: &'static str,
    /// The query whose value is compared; it yields one value without labels.
    pub query: &'static str,
    /// The bad side of the bound.
    pub compare: Compare,
    /// The bound; itself it is good.
    pub bound: f64,
    /// For how many minutes it must be bad.
    pub minutes: u32,
    /// What makes it fire.
    pub firing: Case,
    /// What leaves it quiet.
    pub quiet: Case,
}

impl Prometheus {
    /// Returns the whole expression.
    pub fn expression(&self) -> String {
        format!("{} {} {}", self.query, self.compare, self.bound)
    }

    const fn severity(&self) -> &'static str {
        match self.severity {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Error => "error",
            Severity::Critical => "critical",
        }
    }
}

/// The rules of a service.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    /// The name of their group.
    pub name: &'static str,
    /// Where the runbook is; an alert's entry is the heading of its name there.
    pub runbook: &'static str,
    /// The series that are computed ahead.
    pub recordings: &'static [Recording],
    /// The alerts.
    pub alerts: &'static [Prometheus],
}

/// When the tests look, in minutes: after every window and every `for` of the rules.
const LOOK: u32 = 180;

// Writing to a `String` cannot fail, so the results below are not looked at.
impl Rules {
    /// Returns every query, without the comparisons.
    pub fn queries(&self) -> impl Iterator<Item = &'static str> {
        let recordings = self.recordings.iter().map(|recording| recording.query);
        recordings.chain(self.alerts.iter().map(|alert| alert.query))
    }

    /// Writes the rules as the YAML that Prometheus reads.
    pub fn yaml(&self) -> String {
        let mut text =
            "# Written by `game-server generate`; not to be edited.\ngroups:\n".to_owned();
        let _ = writeln!(text, "  - name: {}-recordings\n    rules:", self.name);
        for Recording { name, query } in self.recordings {
            let _ = writeln!(text, "      - record: {name}\n        expr: {}", quoted(query));
        }
        let _ = writeln!(text, "  - name: {}-alerts\n    rules:", self.name);
        for alert in self.alerts {
            let _ = writeln!(text, "      - alert: {}", alert.name);
            let _ = writeln!(text, "        expr: {}", quoted(&alert.expression()));
            let _ = writeln!(text, "        for: {}m", alert.minutes);
            let _ = writeln!(text, "        labels:\n          severity: {}", alert.severity());
            let _ = writeln!(text, "        annotations:");
            self.annotations(&mut text, alert, "          ");
        }
        text
    }

    /// Writes the tests as the YAML that `promtool test rules` reads: for each alert a case in which
    /// it fires and one in which it does not. `file` is where the rules are, seen from the tests.
    pub fn tests(&self, file: &str) -> String {
        let mut text = format!(
            "# Written by `game-server generate`; not to be edited.\nrule_files:\n  - {file}\n\
             evaluation_interval: 5m\ntests:\n"
        );
        for alert in self.alerts {
            self.test(&mut text, alert, true);
            self.test(&mut text, alert, false);
        }
        text
    }

    fn test(&self, text: &mut String, alert: &Prometheus, is_firing: bool) {
        let (word, case) =
            if is_firing { ("fires", alert.firing) } else { ("stays quiet", alert.quiet) };
        let _ = writeln!(text, "  - name: {} {word}\n    interval: 1m", alert.name);
        text.push_str("    input_series:\n");
        for (series, values) in case.0 {
            let _ = writeln!(text, "      - series: {}", quoted(series));
            let _ = writeln!(text, "        values: {}", quoted(values));
        }
        let _ = writeln!(text, "    alert_rule_test:\n      - eval_time: {LOOK}m");
        let _ = writeln!(text, "        alertname: {}", alert.name);
        if !is_firing {
            text.push_str("        exp_alerts: []\n");
            return;
        }
        text.push_str("        exp_alerts:\n");
        let _ =
            writeln!(text, "          - exp_labels:\n              severity: {}", alert.severity());
        text.push_str("            exp_annotations:\n");
        self.annotations(text, alert, "              ");
    }

    fn annotations(&self, text: &mut String, alert: &Prometheus, indent: &str) {
        let _ = writeln!(text, "{indent}summary: {}", quoted(alert.summary));
        let anchor = alert.name.to_lowercase();
        let _ = writeln!(
            text,
            "{indent}runbook_url: {}",
            quoted(&format!("{}#{anchor}", self.runbook))
        );
    }
}

/// Quotes a text as YAML does: only a quote within it must be doubled.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
