//! The figures of docs/benchmarks.md: ours and a peer's on the same work in one run.

use std::{fmt::Write as _, fs};

use serde::Deserialize;

use crate::{
    args::{self, Asked},
    shell,
};

const HELP: &str = "\
Usage: cargo xtask bench [--gate] [WORKLOAD ...]

Builds benches/compare, which has a lock file of its own, measures each workload against its peer and
writes docs/benchmarks.md. Named workloads are measured and printed only. With --gate nothing is
written, and a goal of benches/goals.toml that is missed is an error.";

/// What is measured, and what is wanted of it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Goal {
    workload: String,
    what: String,
    peer: String,
    old_target: String,
    /// The least ratio of ours to the peer's.
    at_least: f64,
    /// The least operations per second, where the old system had a figure.
    absolute: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Goals {
    goal: Vec<Goal>,
}

/// A line that `compare` prints.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Figure {
    workload: String,
    ours: f64,
    theirs: f64,
    ratio: f64,
}

pub(crate) fn run(words: &[String]) -> Result<(), String> {
    let found = match args::parse(words, &["gate", ""], &[])? {
        Asked::Help => {
            println!("{HELP}");
            return Ok(());
        }
        Asked::Run(found) => found,
    };
    let is_gate = args::has(&found, "gate");
    let words = found.iter().map(|(word, _)| word.as_str());
    let named: Vec<&str> = words.filter(|word| *word != "gate").collect();
    let root = shell::root();
    let text = fs::read_to_string(root.join("benches/goals.toml")).map_err(|e| e.to_string())?;
    let goals: Goals = toml::from_str(&text).map_err(|error| format!("goals.toml: {error}"))?;
    let figures = measure(&named)?;
    let goals: Vec<Goal> = goals
        .goal
        .into_iter()
        .filter(|goal| named.is_empty() || named.contains(&goal.workload.as_str()))
        .collect();
    let table = table(&goals, &figures)?;
    println!("{table}");
    if is_gate {
        return gate(&goals, &figures);
    }
    if named.is_empty() {
        let path = root.join("docs/benchmarks.md");
        fs::write(&path, page(&table)).map_err(|error| error.to_string())?;
        println!("written to {}", path.display());
    }
    Ok(())
}

fn measure(named: &[&str]) -> Result<Vec<Figure>, String> {
    let manifest = shell::root().join("benches/compare/Cargo.toml");
    let target = shell::target().join("compare");
    let mut build = shell::command("cargo", &["build", "--release", "--locked", "--manifest-path"]);
    shell::run(build.arg(manifest).arg("--target-dir").arg(&target))?;
    let printed = shell::read(&mut shell::command(target.join("release/compare"), named))?;
    let figure =
        |line: &str| serde_json::from_str(line).map_err(|error| format!("{line}: {error}"));
    printed.lines().map(figure).collect()
}

fn figure_of<'a>(goal: &Goal, figures: &'a [Figure]) -> Result<&'a Figure, String> {
    let found = figures.iter().find(|figure| figure.workload == goal.workload);
    found.ok_or_else(|| format!("{} was not measured", goal.workload))
}

fn is_met(goal: &Goal, figure: &Figure) -> bool {
    goal.at_least <= figure.ratio && goal.absolute.is_none_or(|least| least <= figure.ours)
}

fn table(goals: &[Goal], figures: &[Figure]) -> Result<String, String> {
    let mut table = String::from(
        "| workload | ours, per second | peer | peer, per second | ratio | goal | old target | |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for goal in goals {
        let figure = figure_of(goal, figures)?;
        let Goal { workload, what, peer, old_target, at_least, .. } = goal;
        let fate = if is_met(goal, figure) { "met" } else { "**missed**" };
        let (ours, theirs, ratio) = (rounded(figure.ours), rounded(figure.theirs), figure.ratio);
        writeln!(
            table,
            "| `{workload}`: {what} | {ours} | {peer} | {theirs} | {ratio:.2} | {at_least:.2} | {old_target} | {fate} |"
        )
        .map_err(|error| error.to_string())?;
    }
    Ok(table)
}

/// Writes a rate with three figures and thousands apart.
fn rounded(rate: f64) -> String {
    let digits = format!("{rate:.0}");
    let kept = digits.len().min(3);
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(if place < kept { digit } else { '0' });
    }
    text
}

fn gate(goals: &[Goal], figures: &[Figure]) -> Result<(), String> {
    let mut missed = Vec::new();
    for goal in goals {
        if !is_met(goal, figure_of(goal, figures)?) {
            missed.push(goal.workload.as_str());
        }
    }
    if missed.is_empty() { Ok(()) } else { Err(format!("goals missed: {}", missed.join(", "))) }
}

fn page(table: &str) -> String {
    format!(
        "# Benchmarks\n\n\
         Written by `cargo xtask bench`. Each row is the same work by both systems in one run, on the\n\
         same disk; a rate is the median of five interleaved pairs, and so is the ratio. The machine is\n\
         shared and noisy: rates compare within a row only. The goals stand in `benches/goals.toml`, and\n\
         `cargo xtask bench --gate` fails when one is missed. `cargo bench -p infra-benches` measures our\n\
         own workloads with criterion.\n\n{table}\n\
         What the peers do is in `benches/compare/src`; `cargo xtask load` measures the whole game.\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn goal() -> Goal {
        Goal {
            workload: "w".to_owned(),
            what: "work".to_owned(),
            peer: "p".to_owned(),
            old_target: "none".to_owned(),
            at_least: 2.0,
            absolute: Some(1_000.0),
        }
    }

    fn figure(ours: f64, ratio: f64) -> Figure {
        Figure { workload: "w".to_owned(), ours, theirs: ours / ratio, ratio }
    }

    #[test]
    fn a_goal_is_met_by_ratio_and_rate_together() {
        for (ours, ratio, met) in [(1_000.0, 2.0, true), (999.0, 9.0, false), (9_999.0, 1.9, false)]
        {
            assert_eq!(is_met(&goal(), &figure(ours, ratio)), met, "{ours} {ratio}");
            assert_eq!(gate(&[goal()], &[figure(ours, ratio)]).is_ok(), met);
        }
    }

    #[test]
    fn a_goal_that_was_not_measured_is_an_error() {
        assert!(table(&[goal()], &[]).is_err() && gate(&[goal()], &[]).is_err());
        let table = table(&[goal()], &[figure(123_456.0, 1.0)]).unwrap();
        assert!(table.contains("| 123,000 |") && table.contains("**missed**"), "{table}");
    }

    #[test]
    fn a_rate_has_three_figures() {
        let rates = [(7.4, "7"), (999.0, "999"), (1_234.0, "1,230"), (5_678_901.0, "5,670,000")];
        for (rate, text) in rates {
            assert_eq!(rounded(rate), text);
        }
    }

    #[test]
    fn every_goal_names_a_workload_of_the_program_that_measures() {
        let root = shell::root();
        let text = fs::read_to_string(root.join("benches/goals.toml")).unwrap();
        let goals: Goals = toml::from_str(&text).unwrap();
        let folder = fs::read_dir(root.join("benches/compare/src")).unwrap();
        let sources: String =
            folder.map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect();
        for goal in goals.goal {
            assert!(sources.contains(&format!("name: \"{}\"", goal.workload)), "{goal:?}");
        }
    }
}
