//! The tests, instrumented, and each crate's share of covered lines against its gate.

use std::{collections::BTreeMap, process::Command};

use serde::Deserialize;

use crate::{
    args::{self, Asked},
    rustc, services, shell,
    tools::{self, NEXTEST},
};

const HELP: &str = "\
Usage: cargo xtask coverage [--no-run]

Runs all tests with coverage instrumentation and prints each crate's share of covered lines. Fails
where it is below the crate's gate: 95 % for infra-events, 90 % for the others.

Options:
  --no-run  report from the data of the last run";

/// The crates that are held to a gate, in percent of their lines.
const GATES: [(&str, f64); 11] = [
    ("infra-core", 90.0),
    ("infra-events", 95.0),
    ("infra-persistence", 90.0),
    ("infra-cache", 90.0),
    ("infra-ratelimit", 90.0),
    ("infra-resilience", 90.0),
    ("infra-messaging", 90.0),
    ("infra-observability", 90.0),
    ("infra-ws", 90.0),
    ("infra-testkit", 90.0),
    ("game-server", 90.0),
];

#[derive(Debug, Deserialize)]
struct Export {
    data: Vec<Data>,
}

#[derive(Debug, Deserialize)]
struct Data {
    files: Vec<File>,
}

#[derive(Debug, Deserialize)]
struct File {
    filename: String,
    summary: Summary,
}

#[derive(Debug, Deserialize)]
struct Summary {
    lines: Lines,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
struct Lines {
    count: u64,
    covered: u64,
}

pub(crate) fn run(words: &[String]) -> Result<(), String> {
    match args::parse(words, &["no-run"], &[])? {
        Asked::Help => println!("{HELP}"),
        Asked::Run(found) => {
            if !args::has(&found, "no-run") {
                let servers = services::start()?;
                test(&servers.environment())?;
            }
            report()?;
        }
    }
    Ok(())
}

/// Creates a command with the environment of instrumented builds: of the workspace's own crates alone,
/// which are held to their lints meanwhile.
pub(crate) fn instrumented(program: &str, args: &[&str]) -> Result<Command, String> {
    let mut command = shell::command(program, args);
    let folder = shell::target();
    let profiles = folder.join("coverage/%p-%12m.profraw");
    rustc::wrap(&mut command)?;
    command
        .env("CARGO_INCREMENTAL", "0")
        .env("RUSTDOCFLAGS", "-C instrument-coverage")
        .env("LLVM_PROFILE_FILE", profiles);
    Ok(command)
}

/// Runs all tests, instrumented, in the nextest profile `ci`.
pub(crate) fn test(environment: &[(String, String)]) -> Result<(), String> {
    NEXTEST.need()?;
    // What reads the data is found before minutes are spent on making it.
    let _llvm = tools::llvm()?;
    let old = shell::target().join("coverage");
    if old.exists() {
        std::fs::remove_dir_all(&old).map_err(|error| format!("{}: {error}", old.display()))?;
    }
    let args = ["nextest", "run", "--profile", "ci", "--workspace", "--all-features", "--locked"];
    shell::run(instrumented("cargo", &args)?.envs(environment.iter().cloned()))
}

/// Prints the table and holds it against the gates.
pub(crate) fn report() -> Result<(), String> {
    let export = export()?;
    let table = table(&export);
    println!("{:<22} {:>8} {:>8} {:>8} {:>6}", "crate", "lines", "covered", "share", "gate");
    let mut below = Vec::new();
    for (name, gate) in GATES {
        let lines = table.get(name).copied().unwrap_or_default();
        let share = share(lines);
        let (count, covered) = (lines.count, lines.covered);
        println!("{name:<22} {count:>8} {covered:>8} {share:>7.1}% {gate:>5.0}%");
        if share < gate && 0 < lines.count {
            below.push(format!("{name}: {share:.1} % of its lines are covered, {gate} % wanted"));
        }
    }
    if below.is_empty() { Ok(()) } else { Err(below.join("\n")) }
}

/// Merges the raw profiles and asks llvm-cov about every instrumented test binary.
fn export() -> Result<Export, String> {
    let llvm = tools::llvm()?;
    let folder = shell::target().join("coverage");
    let list = folder.join("profiles.txt");
    let merged = folder.join("merged.profdata");
    let entries = std::fs::read_dir(&folder)
        .map_err(|error| format!("{}: {error} (run the tests first)", folder.display()))?;
    let names: Vec<String> = entries
        .filter_map(|entry| Some(entry.ok()?.path().to_string_lossy().into_owned()))
        .filter(|path| path.ends_with(".profraw"))
        .collect();
    std::fs::write(&list, names.join("\n")).map_err(|error| error.to_string())?;
    let mut merge = Command::new(&llvm.profdata);
    merge.args(["merge", "-sparse", "--failure-mode=warn", "-f"]).arg(&list).arg("-o").arg(&merged);
    shell::run(&mut merge)?;
    let mut binaries = binaries()?.into_iter();
    let first = binaries.next().ok_or("no test binary was built")?;
    let mut cov = Command::new(&llvm.cov);
    cov.args(["export", "-summary-only", "-format=text"]);
    cov.arg(format!("-instr-profile={}", merged.display())).arg(first);
    for binary in binaries {
        cov.arg("-object").arg(binary);
    }
    let text = shell::read(&mut cov)?;
    serde_json::from_str(&text).map_err(|error| format!("llvm-cov: {error}"))
}

/// Returns the test binaries and programs of the last build.
fn binaries() -> Result<Vec<String>, String> {
    let args = ["nextest", "list", "--workspace", "--all-features", "--locked"];
    let mut list = instrumented("cargo", &args)?;
    list.args(["--list-type", "binaries-only", "--message-format", "json"]);
    let text = shell::read(&mut list)?;
    let list: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| format!("cargo nextest list: {error}"))?;
    let tests = list.get("rust-binaries").and_then(|binaries| binaries.as_object());
    let tests = tests.into_iter().flat_map(|binaries| binaries.values());
    let mut paths: Vec<String> =
        tests.filter_map(|binary| Some(binary.get("binary-path")?.as_str()?.to_owned())).collect();
    let server = shell::target().join("debug/game-server");
    if server.exists() {
        paths.push(server.to_string_lossy().into_owned());
    }
    Ok(paths)
}

/// Sums the lines of each crate's own sources.
fn table(export: &Export) -> BTreeMap<String, Lines> {
    let mut table: BTreeMap<String, Lines> = BTreeMap::new();
    for file in export.data.iter().flat_map(|data| &data.files) {
        let Some(name) = crate_of(&file.filename) else { continue };
        let lines = table.entry(name.to_owned()).or_default();
        lines.count += file.summary.lines.count;
        lines.covered += file.summary.lines.covered;
    }
    table
}

/// Returns the crate whose source a file is; game-server's main is excepted.
fn crate_of(path: &str) -> Option<&str> {
    let (_, rest) = path.rsplit_once("/crates/")?;
    let (name, file) = rest.split_once("/src/")?;
    (!name.contains('/') && (name, file) != ("game-server", "main.rs")).then_some(name)
}

#[expect(clippy::cast_precision_loss, reason = "lines of code are few")]
fn share(lines: Lines) -> f64 {
    if lines.count == 0 { 0.0 } else { lines.covered as f64 * 100.0 / lines.count as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_summed_by_crate_without_tests_and_main() {
        let file = |filename: &str, count, covered| File {
            filename: filename.to_owned(),
            summary: Summary { lines: Lines { count, covered } },
        };
        let files = vec![
            file("/x/crates/infra-ws/src/hub.rs", 10, 9),
            file("/x/crates/infra-ws/src/a/b.rs", 10, 10),
            file("/x/crates/infra-ws/tests/sockets.rs", 50, 0),
            file("/x/crates/game-server/src/main.rs", 50, 0),
            file("/x/registry/tokio/src/lib.rs", 50, 0),
        ];
        let table = table(&Export { data: vec![Data { files }] });
        let wanted = [("infra-ws".to_owned(), Lines { count: 20, covered: 19 })];
        assert_eq!(table, BTreeMap::from(wanted));
        assert!((share(table["infra-ws"]) - 95.0).abs() < 1e-9);
        assert!(share(Lines::default()) < 1e-9);
    }

    #[test]
    fn every_component_has_a_gate() {
        let crates = std::fs::read_dir(shell::root().join("crates")).unwrap();
        for name in crates.map(|entry| entry.unwrap().file_name()) {
            let name = name.into_string().unwrap();
            let has_gate = GATES.iter().any(|(gated, _)| *gated == name);
            assert!(has_gate || name == "infra-conformance", "{name}");
        }
    }
}
