//! A process that is killed in the middle of its work: the test itself, run once more.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

const FOLDER: &str = "INFRA_KILLED_FOLDER";
const FIRST: &str = "INFRA_KILLED_FIRST";

/// Returns the number that an environment variable has.
pub(crate) fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|text| text.parse().ok())
}

/// Returns the folder and first number of the process that is to be killed, if this is it.
pub(crate) fn victim() -> Option<(PathBuf, u64)> {
    Some((std::env::var_os(FOLDER)?.into(), number(FIRST)?))
}

/// Runs the test `own` as a victim, hears what it says, and kills it after so many lines.
pub(crate) fn kill_after(
    n_lines: u64,
    own: &str,
    folder: &Path,
    first: u64,
    mut hear: impl FnMut(&str),
) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([own, "--exact", "--nocapture"])
        .env(FOLDER, folder)
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    for _ in 0..n_lines {
        line.clear();
        if said.read_line(&mut line).unwrap() == 0 {
            break;
        }
        hear(line.trim_end());
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // What it said before it was killed is still in the pipe; what has no end was torn.
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    let whole = rest.rsplit_once('\n').map_or("", |(whole, _torn)| whole);
    whole.lines().for_each(hear);
}
