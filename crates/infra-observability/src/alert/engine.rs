//! One rule over its values in order, as a pure function.

use infra_core::clock::Instant;
use serde::Serialize;

use super::rule::{Rule, Severity};

/// An alert that was raised.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Alert {
    /// The rule's name.
    pub rule: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What it says.
    pub message: String,
    /// The value that raised it.
    pub value: f64,
    /// When it was raised.
    #[serde(skip)]
    pub raised: Instant,
    /// When it was over.
    #[serde(skip)]
    pub resolved: Option<Instant>,
}

/// What a value changed.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// An alert was raised.
    Raised(Alert),
    /// An alert is over.
    Resolved(Alert),
}

/// What is known of a rule.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    bad: u32,
    since: Option<Instant>,
    last_raised: Option<Instant>,
    pub(super) active: Option<Alert>,
}

impl State {
    /// Takes the next value.
    pub(super) fn step(&mut self, rule: &Rule, now: Instant, value: f64) -> Option<Notice> {
        if !rule.bound.is_breached(value) {
            self.bad = 0;
            self.since = None;
            let alert = self.active.take()?;
            return Some(Notice::Resolved(Alert { resolved: Some(now), ..alert }));
        }
        self.bad = self.bad.saturating_add(1);
        let since = *self.since.get_or_insert(now);
        let cools = self.last_raised.is_some_and(|last| now.since(last) < rule.cooldown);
        let is_long = rule.consecutive <= self.bad && rule.lasting <= now.since(since);
        if self.active.is_some() || cools || !is_long {
            return None;
        }
        let alert = Alert {
            rule: rule.name,
            severity: rule.severity,
            message: (rule.message)(value),
            value,
            raised: now,
            resolved: None,
        };
        self.last_raised = Some(now);
        self.active = Some(alert.clone());
        Some(Notice::Raised(alert))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::alert::Bound;

    fn rule() -> Rule {
        Rule::new("error_rate", Severity::Warning, Bound::Above(0.1), |value| {
            format!("error rate is {:.1}%", value * 100.0)
        })
    }

    fn run(rule: &Rule, values: &[(u64, f64)]) -> String {
        let mut state = State::default();
        let seen = values.iter().map(|(second, value)| {
            let now = Instant::START + Duration::from_secs(*second);
            match state.step(rule, now, *value) {
                Some(Notice::Raised(_)) => '!',
                Some(Notice::Resolved(_)) => '.',
                None => '-',
            }
        });
        seen.collect()
    }

    #[test]
    fn an_alert_is_raised_once_and_resolves_whenever_the_value_is_good() {
        let values = [(0, 0.1), (1, 0.15), (2, 0.2), (3, 0.1), (4, f64::NAN), (5, 0.05)];
        assert_eq!(run(&rule(), &values), "-!-.--");
    }

    #[test]
    fn a_rule_that_cools_resolves_but_raises_nothing_until_it_is_cold() {
        let values = [(0, 0.2), (1, 0.0), (2, 0.2), (299, 0.2), (300, 0.2), (301, 0.0)];
        assert_eq!(run(&rule(), &values), "!.--!.");
    }

    #[test]
    fn values_in_a_row_and_time_without_a_break_are_both_asked_for() {
        let rule = rule().consecutive(3).lasting(Duration::from_secs(10));
        assert_eq!(run(&rule, &[(0, 1.0), (1, 1.0), (2, 1.0), (9, 1.0), (10, 1.0)]), "----!");
        assert_eq!(run(&rule, &[(0, 1.0), (9, 0.0), (10, 1.0), (11, 1.0), (20, 1.0)]), "----!");
        assert_eq!(run(&rule, &[(0, 1.0), (60, 1.0), (120, 1.0)]), "--!");
    }

    #[test]
    fn below_is_the_other_side() {
        let rule = Rule::new("hits", Severity::Info, Bound::Below(0.8), |_| String::new());
        assert_eq!(run(&rule, &[(0, 0.8), (1, 0.79), (2, 0.8)]), "-!.");
    }
}
