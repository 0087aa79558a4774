//! The promised behaviours, held against the tests that really ran.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::{
    args::{self, Asked},
    shell,
};

const HELP: &str = "\
Usage: cargo xtask behaviours

Holds docs/behaviours.toml against the last run of `cargo nextest run --profile ci`. Refuses a
behaviour without tests, a test that did not run or did not pass, a test that serves more than
three behaviours, and an id that stands twice.";

/// A test serves at most this many behaviours.
const MOST: usize = 3;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    behaviour: Vec<Behaviour>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Behaviour {
    id: String,
    statement: String,
    tests: Vec<String>,
}

/// Each test that ran, by its name in docs/behaviours.toml, and whether it passed.
type Results = BTreeMap<String, bool>;

pub(crate) fn run(words: &[String]) -> Result<(), String> {
    match args::parse(words, &[], &[])? {
        Asked::Help => println!("{HELP}"),
        Asked::Run(_) => {
            let results = last_run()?;
            let text = read("docs/behaviours.toml")?;
            let document: Document =
                toml::from_str(&text).map_err(|error| format!("docs/behaviours.toml: {error}"))?;
            let broken = judge(&document, &results);
            if !broken.is_empty() {
                return Err(format!("behaviours are not shown:\n  {}", broken.join("\n  ")));
            }
            let (n_behaviours, n_results) = (document.behaviour.len(), results.len());
            println!("behaviours: {n_behaviours} are shown by tests that passed ({n_results} ran)");
        }
    }
    Ok(())
}

fn read(path: &str) -> Result<String, String> {
    let path = shell::root().join(path);
    std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
}

/// Reads the report of the last run.
pub(crate) fn last_run() -> Result<Results, String> {
    // The test runner keeps its reports with the workspace, wherever cargo builds.
    let path = shell::root().join("target/nextest/ci/junit.xml");
    let text = std::fs::read_to_string(&path)
        .map_err(|error| format!("{}: {error} (run the tests first)", path.display()))?;
    Ok(results(&text))
}

/// Reads a JUnit report: its `testcase` elements and whether each holds a failure.
fn results(report: &str) -> Results {
    let mut results = Results::new();
    for case in report.split("<testcase ").skip(1) {
        let (head, rest) = case.split_once('>').unwrap_or((case, ""));
        let attribute = |name: &str| {
            let (_, after) = head.split_once(&format!("{name}=\""))?;
            Some(after.split('"').next().unwrap_or_default().to_owned())
        };
        let (Some(name), Some(class)) = (attribute("name"), attribute("classname")) else {
            continue;
        };
        let body = if head.ends_with('/') { "" } else { rest };
        let body = body.split("</testcase>").next().unwrap_or_default();
        let has_failed = body.contains("<failure") || body.contains("<error");
        results.insert(format!("{}::{name}", binary(&class)), !has_failed);
    }
    results
}

/// Turns nextest's id of a binary into ours: a package's unit tests are named after it twice.
fn binary(id: &str) -> String {
    match id.split_once("::") {
        None => format!("{id}::{id}"),
        Some((package, binary)) => {
            let binary = binary.strip_prefix("bin/").unwrap_or(binary);
            format!("{package}::{binary}")
        }
    }
}

fn judge(document: &Document, results: &Results) -> Vec<String> {
    let mut broken = Vec::new();
    let mut ids = BTreeSet::new();
    let mut served: BTreeMap<&str, usize> = BTreeMap::new();
    for Behaviour { id, statement, tests } in &document.behaviour {
        if !ids.insert(id) {
            broken.push(format!("{id}: the id stands twice"));
        }
        if tests.is_empty() || statement.trim().is_empty() {
            broken.push(format!("{id}: it has no test or no statement"));
        }
        for test in tests {
            *served.entry(test).or_default() += 1;
            match results.get(test) {
                Some(true) => {}
                Some(false) => broken.push(format!("{id}: {test} did not pass")),
                None => broken.push(format!("{id}: {test} did not run")),
            }
        }
    }
    let many = served.into_iter().filter(|(_, count)| MOST < *count);
    broken.extend(many.map(|(test, count)| format!("{test} serves {count} behaviours")));
    broken
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = r#"<testsuites><testsuite name="infra-core">
        <testcase name="a::b" classname="infra-core" timestamp="x" time="0.1"></testcase>
        <testcase name="c" classname="infra-ws::sockets" time="0.1"/>
        <testcase name="d" classname="game-server::bin/game-server"><failure message="no"/></testcase>
        </testsuite></testsuites>"#;

    fn document(text: &str) -> Document {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_report_is_read_by_our_names() {
        let wanted = [
            ("game-server::game-server::d", false),
            ("infra-core::infra-core::a::b", true),
            ("infra-ws::sockets::c", true),
        ];
        let wanted = wanted.map(|(name, passed)| (name.to_owned(), passed));
        assert_eq!(results(REPORT), Results::from(wanted));
    }

    #[test]
    fn what_is_not_shown_is_named() {
        let results = results(REPORT);
        let good = r#"[[behaviour]]
            id = "a"
            statement = "It holds."
            tests = ["infra-ws::sockets::c"]
        "#;
        assert_eq!(judge(&document(good), &results), Vec::<String>::new());
        let twice = judge(&document(&good.repeat(4)), &results);
        assert!(twice.iter().any(|line| line == "a: the id stands twice"));
        assert!(twice.iter().any(|line| line == "infra-ws::sockets::c serves 4 behaviours"));
        let broken = judge(
            &document(
                r#"[[behaviour]]
                id = "b"
                statement = "It holds."
                tests = ["game-server::game-server::d", "nowhere"]
                [[behaviour]]
                id = "c"
                statement = "It holds."
                tests = []
            "#,
            ),
            &results,
        );
        let wanted = [
            "b: game-server::game-server::d did not pass",
            "b: nowhere did not run",
            "c: it has no test or no statement",
        ];
        assert_eq!(broken, wanted);
    }
}
