//! Everything that must hold before a change lands.

use std::{process::Command, time::Duration};

use crate::{
    args::{self, Asked},
    behaviours, bench, coverage, layers, rustc, services, shell,
    tools::{self, DENY},
};

const HELP: &str = "\
Usage: cargo xtask ci [--only STEPS] [--skip STEPS]

Steps: fmt, layers, clippy, tests, docs, coverage, behaviours, deny, simulate, crash, load, faults, bench.
STEPS are names divided by commas. Everything is built once, by clippy and instrumented; the tests run
once, with real servers; docs are the doctests and the pages.";

/// A step and what it does.
type Step = (&'static str, fn() -> Result<(), String>);

const STEPS: [Step; 13] = [
    ("fmt", fmt),
    ("layers", || layers::run(&[])),
    ("clippy", clippy),
    ("tests", tests),
    ("docs", docs),
    ("coverage", coverage::report),
    ("behaviours", || behaviours::run(&[])),
    ("deny", deny),
    ("simulate", simulate),
    ("crash", crash),
    ("load", load),
    ("faults", faults),
    ("bench", || bench::run(&["--gate".to_owned()])),
];

pub(crate) fn run(words: &[String]) -> Result<(), String> {
    let found = match args::parse(words, &[], &["only", "skip"])? {
        Asked::Help => {
            println!("{HELP}");
            return Ok(());
        }
        Asked::Run(found) => found,
    };
    let steps = choose(args::value(&found, "only"), args::value(&found, "skip"))?;
    let mut times = Vec::new();
    for (name, step) in steps {
        println!("\n== {name}");
        let (took, result) = timed(step);
        println!("== {name}: {:.0} s", took.as_secs_f64());
        times.push((name, took));
        result.map_err(|error| format!("ci: {name}: {error}"))?;
    }
    summarize(&times);
    Ok(())
}

fn choose(only: Option<&str>, skip: Option<&str>) -> Result<Vec<Step>, String> {
    let read = |list: Option<&str>| -> Result<Vec<String>, String> {
        let names: Vec<String> =
            list.into_iter().flat_map(|list| list.split(',')).map(ToOwned::to_owned).collect();
        let is_unknown = |name: &&String| !STEPS.iter().any(|(step, _)| step == name);
        match names.iter().find(is_unknown) {
            Some(unknown) => Err(format!("there is no step `{unknown}`\n\n{HELP}")),
            None => Ok(names),
        }
    };
    let (only, skip) = (read(only)?, read(skip)?);
    let is_chosen = |(name, _): &Step| {
        let is = |list: &[String]| list.iter().any(|chosen| chosen == name);
        (only.is_empty() || is(&only)) && !is(&skip)
    };
    Ok(STEPS.into_iter().filter(is_chosen).collect())
}

#[expect(clippy::disallowed_methods, reason = "a command tells how long its steps took")]
fn timed(step: fn() -> Result<(), String>) -> (Duration, Result<(), String>) {
    let begun = std::time::Instant::now();
    let result = step();
    (begun.elapsed(), result)
}

fn summarize(times: &[(&str, Duration)]) {
    println!();
    for (name, took) in times {
        println!("{name:<12} {:>6.0} s", took.as_secs_f64());
    }
    let all: Duration = times.iter().map(|(_, took)| *took).sum();
    println!("{:<12} {:>6.0} s", "ci", all.as_secs_f64());
    if let Ok(results) = behaviours::last_run() {
        let failed = results.values().filter(|passed| !**passed).count();
        println!("{} passed, {failed} failed", results.len() - failed);
    }
}

fn fmt() -> Result<(), String> {
    shell::run(&mut shell::command("cargo", &["fmt", "--all", "--check"]))
}

/// Builds everything once, by clippy: what it has compiled is what the tests and doctests run.
///
/// The examples are built when the tests are run, which need them as programs; here they would be built
/// as tests too.
fn clippy() -> Result<(), String> {
    let args = ["test", "--no-run", "--workspace", "--all-features", "--locked"];
    let targets = ["--lib", "--bins", "--tests", "--benches"];
    shell::run(coverage::instrumented("cargo", &args)?.args(targets))
}

fn tests() -> Result<(), String> {
    let servers = services::start()?;
    coverage::test(&servers.environment())
}

/// Runs the examples of the docs, and writes the pages that they stand in.
fn docs() -> Result<(), String> {
    let args = ["test", "--doc", "--workspace", "--all-features", "--locked"];
    let mut command = coverage::instrumented("cargo", &args)?;
    rustc::with_pages(&mut command)?;
    shell::run(&mut command)?;
    // A program has no doctests, with which its pages would be written.
    let args = ["doc", "--package", "xtask", "--no-deps", "--locked"];
    let mut program = shell::command("cargo", &args);
    shell::run(program.env("RUSTDOCFLAGS", "-D warnings").env("CARGO_INCREMENTAL", "0"))
}

fn deny() -> Result<(), String> {
    DENY.need()?;
    let args = ["deny", "--all-features", "--locked", "check", "bans", "licenses", "sources"];
    shell::run(&mut shell::command("cargo", &args))
}

/// Plays games twice; the digests must be equal.
fn simulate() -> Result<(), String> {
    let play = || {
        let mut server = built("game-server")?;
        shell::read(server.args(["simulate", "--games", "50", "--seed", "7"]))
    };
    let (once, again) = (play()?, play()?);
    println!("{once}");
    if once == again { Ok(()) } else { Err(format!("the same seed played otherwise:\n{again}")) }
}

/// Kills the server a few times; the full run is a command of its own.
fn crash() -> Result<(), String> {
    let server = built("game-server")?;
    let mut drive = built("examples/drive")?;
    drive.args(["crash", "--runs", "5", "--rooms", "10"]);
    shell::run(drive.env("GAME_SERVER_BIN", server.get_program()))
}

/// Plays a few rooms at a fixed pace; every delivery must come. Latencies are for a release build.
fn load() -> Result<(), String> {
    let server = built("game-server")?;
    let mut drive = built("examples/drive")?;
    drive.args(["load", "--rooms", "20", "--rate", "120", "--seconds", "5"]);
    shell::run(drive.env("GAME_SERVER_BIN", server.get_program()))
}

/// Hurts a few rooms, once on files and once on all servers; the full run is a command of its own.
fn faults() -> Result<(), String> {
    let server = built("game-server")?;
    let mut drive = built("examples/drive")?;
    let runs = "kill-9-files,postgres-stopped+nats-killed";
    drive.args(["faults", "--rooms", "3", "--rate", "240", "--seconds", "1", "--only", runs]);
    drive.env("INFRA_TEST_PYTHON", tools::python());
    shell::run(drive.env("GAME_SERVER_BIN", server.get_program()))
}

/// Returns the command of a program that was built with the tests.
fn built(name: &str) -> Result<Command, String> {
    let folder = shell::target().join("debug");
    let path = folder.join(name);
    if !path.exists() {
        return Err(format!("{name} is not there: run the tests first"));
    }
    let mut command = shell::command(path, &[]);
    // It is instrumented, and what it would tell of its coverage is not asked for.
    command.env("LLVM_PROFILE_FILE", folder.join("unread-%p.profraw"));
    Ok(command)
}

#[cfg(test)]
mod tests_of_choice {
    use super::*;

    fn names(only: Option<&str>, skip: Option<&str>) -> Vec<&'static str> {
        choose(only, skip).unwrap().into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn steps_are_chosen_by_name() {
        assert_eq!(names(Some("fmt,layers"), None), ["fmt", "layers"]);
        assert_eq!(names(None, Some("tests")).len(), STEPS.len() - 1);
        assert!(choose(Some("fast"), None).unwrap_err().contains("`fast`"));
    }
}
