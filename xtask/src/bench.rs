//! The figures of docs/benchmarks.md: ours and those of others on the same work in one run.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::PathBuf};

use serde::Deserialize;

use crate::{
    args::{self, Asked},
    pictures, shell,
};

const HELP: &str = "\
Usage: cargo xtask bench [--gate | --pictures] [COMPONENT | WORKLOAD ...]

Builds the components' packages of benches/compare, which have a lock file of their own, measures each
workload beside its peers and writes the components' sections of docs/benchmarks.md. Named workloads
are measured and printed only. With --gate the goals marked `ci` are measured, nothing is written,
and a goal that is missed is an error. With --pictures nothing is measured: docs/pictures/bench-*.svg are
drawn anew from the tables of docs/benchmarks.md, as they are after sections were written.
The peer of `ws` in JavaScript needs node and npm.";

/// What is measured, and what is wanted of it: an entry of benches/goals/COMPONENT.toml.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Goal {
    workload: String,
    what: String,
    /// The peer as the measuring program names it; none where only our own figure counts.
    peer: Option<String>,
    /// How the peer is set up, for the table.
    detail: Option<String>,
    /// What the old system was meant to reach.
    old_target: Option<String>,
    /// The least ratio in our favour: of rates ours to theirs, of times and bytes theirs to ours.
    ratio: Option<f64>,
    /// The least figure of ours, or the largest where less is better.
    figure: Option<f64>,
    /// Whether it is cheap and steady enough for `cargo xtask ci`.
    #[serde(default)]
    ci: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Goals {
    goal: Vec<Goal>,
}

/// A line that a package of benches/compare prints.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Figure {
    workload: String,
    unit: String,
    lower_is_better: bool,
    peer: Option<String>,
    ours: f64,
    theirs: Option<f64>,
    ratio: Option<f64>,
}

/// The goals of each component.
type Components = BTreeMap<String, Vec<Goal>>;

pub(crate) fn run(words: &[String]) -> Result<(), String> {
    let found = match args::parse(words, &["gate", "pictures", ""], &[])? {
        Asked::Help => {
            println!("{HELP}");
            return Ok(());
        }
        Asked::Run(found) => found,
    };
    if args::has(&found, "pictures") {
        return pictures::write();
    }
    let is_gate = args::has(&found, "gate");
    let words = found.iter().map(|(word, _)| word.as_str());
    let named: Vec<&str> = words.filter(|word| *word != "gate").collect();
    let all = read_goals()?;
    let (chosen, are_whole) = choose(&all, &named, is_gate)?;
    build(&chosen, is_gate)?;
    let mut missed = Vec::new();
    for (component, goals) in &chosen {
        let figures = measure(component, goals, are_whole)?;
        let table = table(goals, &figures)?;
        println!("## {component}\n\n{table}");
        missed.extend(misses(goals, &figures)?);
        if are_whole {
            let has_peers = figures.iter().any(|figure| figure.theirs.is_some());
            write_section(component, &section(component, &table, has_peers))?;
        }
    }
    if are_whole {
        pictures::write()?;
    }
    if is_gate && !missed.is_empty() {
        return Err(format!("goals missed: {}", missed.join(", ")));
    }
    Ok(())
}

fn read_goals() -> Result<Components, String> {
    let folder = shell::root().join("benches/goals");
    let mut components = Components::new();
    for file in fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))? {
        let path = file.map_err(|error| error.to_string())?.path();
        let text = fs::read_to_string(&path).map_err(|error| error.to_string())?;
        let goals: Goals =
            toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        components.insert(name.to_owned(), goals.goal);
    }
    Ok(components)
}

/// Returns the goals that are asked for, and whether they are all of their components'.
fn choose(all: &Components, named: &[&str], is_gate: bool) -> Result<(Components, bool), String> {
    let is_known = |name: &&&str| {
        all.contains_key(**name) || all.values().flatten().any(|goal| goal.workload == **name)
    };
    if let Some(unknown) = named.iter().find(|name| !is_known(name)) {
        let there_are: Vec<_> = all.keys().map(String::as_str).collect();
        let there_are = there_are.join(", ");
        return Err(format!(
            "there is no component or workload `{unknown}`; components: {there_are}"
        ));
    }
    let is_whole = |component: &str| named.is_empty() || named.contains(&component);
    let mut chosen = Components::new();
    for (component, goals) in all {
        let is_chosen = |goal: &&Goal| {
            let is_named = is_whole(component) || named.contains(&goal.workload.as_str());
            is_named && (goal.ci || !is_gate)
        };
        let chosen_goals = goals.iter().filter(is_chosen).cloned();
        let goals: Vec<Goal> =
            chosen_goals.map(|goal| if is_gate { gated(goal) } else { goal }).collect();
        if !goals.is_empty() {
            chosen.insert(component.clone(), goals);
        }
    }
    let are_whole = !is_gate && chosen.keys().all(|component| is_whole(component));
    Ok((chosen, are_whole))
}

/// What the gate holds of a goal: where there is a ratio, the absolute figure says more of the machine
/// and of what else it does.
fn gated(goal: Goal) -> Goal {
    Goal { figure: goal.figure.filter(|_| goal.ratio.is_none()), ..goal }
}

/// Where benches/compare is built.
fn target() -> PathBuf {
    shell::target().join("compare")
}

/// Builds the packages of benches/compare in one go, so that they share what they have in common. A gate
/// builds them without their default features, which are peers that take long to build and that CI holds
/// no goal against.
fn build(components: &Components, is_gate: bool) -> Result<(), String> {
    let manifest = shell::root().join("benches/compare/Cargo.toml");
    let mut build = shell::command("cargo", &["build", "--release", "--locked", "--manifest-path"]);
    build.arg(manifest).arg("--target-dir").arg(target());
    if is_gate {
        build.arg("--no-default-features");
    }
    for component in components.keys() {
        build.args(["--package", component]);
    }
    shell::run(&mut build)
}

fn measure(component: &str, goals: &[Goal], is_whole: bool) -> Result<Vec<Figure>, String> {
    let mut workloads: Vec<&str> = goals.iter().map(|goal| goal.workload.as_str()).collect();
    workloads.dedup();
    let wanted = if is_whole { &[][..] } else { &workloads };
    let printed =
        shell::read(&mut shell::command(target().join("release").join(component), wanted))?;
    let figure =
        |line: &str| serde_json::from_str(line).map_err(|error| format!("{line}: {error}"));
    printed.lines().map(figure).collect()
}

fn figure_of<'a>(goal: &Goal, figures: &'a [Figure]) -> Result<&'a Figure, String> {
    let is_it = |figure: &&Figure| figure.workload == goal.workload && figure.peer == goal.peer;
    let peer = goal.peer.as_deref().unwrap_or("nobody");
    figures
        .iter()
        .find(is_it)
        .ok_or_else(|| format!("{} beside {peer} was not measured", goal.workload))
}

fn is_met(goal: &Goal, figure: &Figure) -> bool {
    let is_reached = |wanted| {
        if figure.lower_is_better { figure.ours <= wanted } else { wanted <= figure.ours }
    };
    goal.figure.is_none_or(is_reached)
        && goal.ratio.is_none_or(|least| figure.ratio.is_some_and(|ratio| least <= ratio))
}

fn misses(goals: &[Goal], figures: &[Figure]) -> Result<Vec<String>, String> {
    let mut missed = Vec::new();
    for goal in goals {
        if !is_met(goal, figure_of(goal, figures)?) {
            missed.push(goal.workload.clone());
        }
    }
    Ok(missed)
}

fn table(goals: &[Goal], figures: &[Figure]) -> Result<String, String> {
    let mut table = pictures::HEAD.to_owned();
    let dash = || "-".to_owned();
    for goal in goals {
        let figure = figure_of(goal, figures)?;
        let fate = match (goal.ratio.or(goal.figure), is_met(goal, figure)) {
            (None, _) => "",
            (Some(_), true) => "met",
            (Some(_), false) => "**missed**",
        };
        let with_unit = |value: f64| format!("{}{}", rounded(value), figure.unit);
        let cells = [
            format!("`{}`: {}", goal.workload, goal.what),
            with_unit(figure.ours),
            goal.detail.clone().or_else(|| goal.peer.clone()).unwrap_or_else(dash),
            figure.theirs.map_or_else(dash, with_unit),
            figure.ratio.map_or_else(dash, |ratio| format!("{ratio:.2}")),
            wanted(goal, figure),
            goal.old_target.clone().unwrap_or_else(dash),
            fate.to_owned(),
        ];
        writeln!(table, "| {} |", cells.join(" | ")).map_err(|error| error.to_string())?;
    }
    Ok(table)
}

fn wanted(goal: &Goal, figure: &Figure) -> String {
    let bound = if figure.lower_is_better { "at most" } else { "at least" };
    let ratio = goal.ratio.map(|ratio| format!("{ratio:.2}"));
    let figure = goal.figure.map(|value| format!("{bound} {}{}", rounded(value), figure.unit));
    let both: Vec<_> = [ratio, figure].into_iter().flatten().collect();
    if both.is_empty() { "-".to_owned() } else { both.join(", ") }
}

/// Writes a figure with three digits and thousands apart.
fn rounded(value: f64) -> String {
    if value < 100.0 {
        let places = if value < 1.0 { 3 } else { usize::from(value < 10.0) + 1 };
        let text = format!("{value:.places$}");
        return text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(if place < 3 { digit } else { '0' });
    }
    text
}

/// Returns the text of a component's section: its table, and its picture where it has peers.
fn section(component: &str, table: &str, has_peers: bool) -> String {
    let picture = if has_peers { pictures::link(component) } else { String::new() };
    format!("{table}\n{picture}")
}

const INTRODUCTION: &str = "\
# Benchmarks

Written by `cargo xtask bench`. Each row is the same work by both systems in one run, on the same
machine and disk; a figure is the median of interleaved rounds, and so is the ratio, which is above
one when it is in our favour. The machine is shared and noisy: figures compare within a row only. The
goals stand in `benches/goals`, and `cargo xtask bench --gate` fails when one of those that CI holds is
missed. What the peers do is in `benches/compare`; `cargo bench -p infra-benches` measures our own
workloads with criterion, and `cargo xtask load` the whole game. The pictures are drawn from the tables
(`cargo xtask bench --pictures`); a test fails when one of them is stale.

![Every ratio of the tables](pictures/bench-summary.svg)
";

fn page_path() -> PathBuf {
    shell::root().join("docs/benchmarks.md")
}

fn write_section(component: &str, text: &str) -> Result<(), String> {
    let path = page_path();
    let page = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    fs::write(&path, with_section(&page, component, text)).map_err(|error| error.to_string())?;
    println!("written to {}", path.display());
    Ok(())
}

/// Returns the page with one section in place of what it had for that component.
fn with_section(page: &str, component: &str, text: &str) -> String {
    let mut sections: BTreeMap<&str, &str> =
        page.split("\n## ").skip(1).filter_map(|section| section.split_once('\n')).collect();
    sections.insert(component, text);
    let section =
        |(component, text): (&str, &str)| format!("\n## {component}\n\n{}\n", text.trim());
    let sections = sections.into_iter().map(section);
    [INTRODUCTION.to_owned()].into_iter().chain(sections).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn goal() -> Goal {
        Goal {
            workload: "w".to_owned(),
            what: "work".to_owned(),
            peer: Some("p".to_owned()),
            detail: None,
            old_target: None,
            ratio: Some(2.0),
            figure: Some(1_000.0),
            ci: true,
        }
    }

    fn figure(ours: f64, ratio: f64) -> Figure {
        Figure {
            workload: "w".to_owned(),
            unit: "/s".to_owned(),
            lower_is_better: false,
            peer: Some("p".to_owned()),
            ours,
            theirs: Some(ours / ratio),
            ratio: Some(ratio),
        }
    }

    #[test]
    fn a_goal_is_met_by_ratio_and_figure_together() {
        for (ours, ratio, met) in [(1_000.0, 2.0, true), (999.0, 9.0, false), (9_999.0, 1.9, false)]
        {
            let figure = figure(ours, ratio);
            assert_eq!(is_met(&goal(), &figure), met, "{ours} {ratio}");
            assert_eq!(misses(&[goal()], &[figure]).unwrap().is_empty(), met);
        }
        let less = Figure { lower_is_better: true, ..figure(999.0, 2.0) };
        assert!(is_met(&goal(), &less) && !is_met(&goal(), &Figure { ours: 1_001.0, ..less }));
    }

    #[test]
    fn a_goal_that_was_not_measured_is_an_error() {
        assert!(table(&[goal()], &[]).is_err() && misses(&[goal()], &[]).is_err());
        let table = table(&[goal()], &[figure(123_456.0, 1.0)]).unwrap();
        assert!(table.contains("| 123,000/s |") && table.contains("**missed**"), "{table}");
    }

    #[test]
    fn a_figure_has_three_digits() {
        let figures = [
            (0.123, "0.123"),
            (7.4, "7.4"),
            (99.5, "99.5"),
            (999.0, "999"),
            (1_234.0, "1,230"),
            (5_678_901.0, "5,670,000"),
        ];
        for (value, text) in figures {
            assert_eq!(rounded(value), text);
        }
    }

    #[test]
    fn components_and_workloads_are_chosen_by_name() {
        let slow = Goal { workload: "slow".to_owned(), ci: false, ..goal() };
        let all = Components::from([
            ("cache".to_owned(), vec![goal(), slow]),
            ("events".to_owned(), vec![Goal { workload: "x".to_owned(), ..goal() }]),
        ]);
        let count = |named: &[&str], is_gate| {
            let (chosen, are_whole) = choose(&all, named, is_gate).unwrap();
            (chosen.values().map(Vec::len).sum::<usize>(), are_whole)
        };
        assert_eq!(count(&[], false), (3, true));
        assert_eq!(count(&["cache"], false), (2, true));
        assert_eq!(count(&["slow"], false), (1, false));
        assert_eq!(count(&[], true), (2, false));
        let (gate, _) = choose(&all, &[], true).unwrap();
        assert!(is_met(
            &gate["events"][0],
            &Figure { workload: "x".to_owned(), ..figure(1.0, 2.0) }
        ));
        assert_eq!(gated(Goal { ratio: None, ..goal() }).figure, Some(1_000.0), "its only measure");
        assert!(choose(&all, &["cash"], false).unwrap_err().contains("`cash`"));
    }

    #[test]
    fn a_section_replaces_the_one_of_its_component_alone() {
        let page = with_section(&with_section("", "events", "| a |"), "cache", "| b |");
        let page = with_section(&page, "events", "| c |");
        assert!(page.starts_with(INTRODUCTION) && page.contains("## cache\n\n| b |\n"));
        assert!(page.contains("## events\n\n| c |\n") && !page.contains("| a |"), "{page}");
    }

    #[test]
    fn a_section_shows_its_picture_below_its_table_where_it_has_peers() {
        let shown = with_section("", "cache", &section("cache", "| b |\n", true));
        assert!(shown.contains("| b |\n\n![") && shown.contains("(pictures/bench-cache.svg)\n"));
        let alone = with_section("", "cache", &section("cache", "| b |\n", false));
        assert!(alone.ends_with("## cache\n\n| b |\n"), "{alone}");
    }

    #[test]
    fn every_goal_names_a_workload_of_the_program_that_measures() {
        for (component, goals) in read_goals().unwrap() {
            let folder = shell::root().join("benches/compare").join(&component).join("src");
            let files = fs::read_dir(folder).unwrap();
            let sources: String =
                files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect();
            for goal in goals {
                let quoted = |name: &str| sources.contains(&format!("\"{name}\""));
                assert!(quoted(&goal.workload), "{goal:?}");
                assert!(goal.peer.as_deref().is_none_or(quoted), "{goal:?}");
            }
        }
    }
}
