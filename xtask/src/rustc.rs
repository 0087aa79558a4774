//! This program in the place of rustc: the workspace's own crates are instrumented, dependencies are not,
//! so that tests share these with every other build.

use std::{
    ffi::OsString,
    path::PathBuf,
    process::{Command, ExitCode},
};

use crate::shell;

/// The variable that makes this program a wrapper of rustc.
pub(crate) const AS_RUSTC: &str = "XTASK_AS_RUSTC";

/// Copies this program to where a build cannot replace it while it serves as a wrapper.
pub(crate) fn wrapper() -> Result<PathBuf, String> {
    let path = shell::target().join("rustc-with-coverage");
    let this = std::env::current_exe().map_err(|error| format!("find this program: {error}"))?;
    let fresh = path.with_extension(std::process::id().to_string());
    std::fs::copy(&this, &fresh)
        .and_then(|_| std::fs::rename(&fresh, &path))
        .map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(path)
}

/// Runs the compiler that cargo names, with coverage.
pub(crate) fn run(mut words: impl Iterator<Item = OsString>) -> ExitCode {
    let Some(rustc) = words.next() else { return ExitCode::FAILURE };
    let mut command = Command::new(rustc);
    match command.args(words).args(["-C", "instrument-coverage"]).status() {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) | Err(_) => ExitCode::FAILURE,
    }
}
