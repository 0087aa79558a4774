//! What is made from the declared metrics: it is what is committed, and promtool finds it good.

use std::{path::PathBuf, process::Command};

use game_server::{
    declarations,
    generate::{ALERTS, DASHBOARDS, RULES, files, write},
};
use infra_core::metric::Declaration;

fn docs() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs"))
}

/// Runs promtool; Debian's package `prometheus` has it.
fn promtool(arguments: &[&str], folder: &std::path::Path) {
    let ran = Command::new("promtool")
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("promtool must be installed: apt-get install prometheus");
    let said =
        format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{arguments:?}: {said}");
}

#[test]
fn the_committed_files_are_those_that_generate_writes() {
    for (path, text) in files(&declarations()).unwrap() {
        let committed = std::fs::read_to_string(docs().join(&path)).unwrap_or_default();
        assert!(committed == text, "docs/{path} is old: run `game-server generate docs`");
    }
}

#[test]
fn promtool_takes_the_rules_and_each_alert_fires_in_its_case_and_is_quiet_in_the_other() {
    let folder = tempfile::tempdir().unwrap();
    write(&files(&declarations()).unwrap(), folder.path()).unwrap();
    let rules = folder.path().join("prometheus");
    promtool(&["check", "rules", "rules.yml"], &rules);
    promtool(&["test", "rules", "tests.yml"], &rules);
    // A test of a rule can fail: without its cause the first alert does not fire.
    let whole = RULES.tests("rules.yml");
    let (second, _) = whole.match_indices("  - name: ").nth(1).unwrap();
    let broken = whole[..second].replace("1x9 0x500", "1x500");
    std::fs::write(rules.join("tests.yml"), broken).unwrap();
    let mut again = Command::new("promtool");
    let ran = again.args(["test", "rules", "tests.yml"]).current_dir(&rules).output().unwrap();
    assert!(!ran.status.success());
}

#[test]
fn a_metric_that_is_renamed_is_found_in_every_query_that_names_it() {
    let declared = declarations();
    let queries: String = DASHBOARDS
        .iter()
        .flat_map(infra_observability::generate::Dashboard::queries)
        .chain(RULES.queries())
        .collect();
    let mut renamed = 0;
    for (place, metric) in declared.iter().enumerate() {
        if !queries.contains(metric.name) {
            continue;
        }
        let mut other: Vec<Declaration> = declared.clone();
        other[place].name = "infra_game_renamed_total";
        assert!(files(&other).is_err(), "{} can be renamed unnoticed", metric.name);
        renamed += 1;
    }
    assert!(40 < renamed, "{renamed}");
}

#[test]
fn every_alert_has_an_entry_in_the_runbook() {
    let runbook = std::fs::read_to_string(docs().join("operations.md")).unwrap();
    for alert in ALERTS {
        assert!(runbook.contains(&format!("\n### {}\n", alert.name)), "{} has none", alert.name);
    }
}
