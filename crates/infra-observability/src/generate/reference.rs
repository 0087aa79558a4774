//! The reference page: every metric with its kind, unit, labels and meaning.

use std::{collections::BTreeMap, fmt::Write};

use infra_core::metric::{Declaration, Kind};

/// Writes the reference of metrics as Markdown, a table for each component.
///
/// The component is the second word of the name: `infra_ws_sent_total` belongs to `ws`.
pub fn reference(declared: &[Declaration]) -> String {
    let mut components: BTreeMap<&str, BTreeMap<&str, &Declaration>> = BTreeMap::new();
    for metric in declared {
        components.entry(component(metric.name)).or_default().insert(metric.name, metric);
    }
    let metrics: usize = components.values().map(BTreeMap::len).sum();
    let mut text = format!(
        "# Metrics\n\nWritten by `game-server generate` from the declarations in the code; not to \
         be edited.\n{metrics} metrics. A counter is zero before the first event, and each label has \
         the values that are listed.\n"
    );
    // Writing to a `String` cannot fail, so the results below are not looked at.
    for (component, metrics) in components {
        let _ = writeln!(text, "\n## {component}\n");
        text.push_str("| metric | kind | unit | labels | what it tells |\n|---|---|---|---|---|\n");
        for metric in metrics.values() {
            let (kind, labels) = (kind(metric.kind), labels(metric));
            let unit = if metric.unit.is_empty() { "–" } else { metric.unit };
            let help = metric.help.replace('|', "\\|");
            let _ = writeln!(text, "| `{}` | {kind} | {unit} | {labels} | {help} |", metric.name);
        }
    }
    text
}

fn component(name: &str) -> &str {
    let own = name.strip_prefix("infra_").unwrap_or(name);
    own.split('_').next().unwrap_or(own)
}

fn kind(kind: Kind) -> String {
    if let Kind::Histogram([first, .., last]) = kind {
        return format!("histogram, {first} to {last}");
    }
    if kind == Kind::Counter { "counter".to_owned() } else { "gauge".to_owned() }
}

fn labels(metric: &Declaration) -> String {
    if metric.labels.is_empty() {
        return "–".to_owned();
    }
    let set = |set: &infra_core::metric::LabelSet| {
        let values: Vec<String> = set.values.iter().map(|value| format!("`{value}`")).collect();
        format!("{}: {}", set.name, values.join(" "))
    };
    metric.labels.iter().map(set).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use infra_core::metric::{Counter, Gauge, Histogram};

    use super::*;

    #[test]
    fn each_component_has_a_table() {
        let declared = [
            Histogram::latency("infra_ws_wait_seconds", "Wait.").declaration(),
            Counter::new("infra_game_games_total", "Games, a | in it.").declaration(),
            Gauge::new("process_threads", "", "Threads.").declaration(),
        ];
        let page = reference(&declared);
        for line in [
            "## game",
            "| `infra_game_games_total` | counter | – | – | Games, a \\| in it. |",
            "| `infra_ws_wait_seconds` | histogram, 0.0001 to 10 | seconds | – | Wait. |",
            "| `process_threads` | gauge | – | – | Threads. |",
        ] {
            assert!(page.contains(line), "{line} in {page}");
        }
    }
}
