//! Running other programs.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Returns the workspace's folder.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// Returns cargo's build folder of the workspace.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Creates a command that runs in the workspace's folder.
pub(crate) fn command(program: impl AsRef<OsStr>, args: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(args).current_dir(root());
    command
}

/// Runs a command to its end; its output goes where ours goes.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    let text = describe(command);
    let status = command.status().map_err(|error| format!("{text}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{text}: {status}")) }
}

/// Runs a command and returns what it prints.
pub(crate) fn read(command: &mut Command) -> Result<String, String> {
    let text = describe(command);
    let output = command.stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| format!("{text}: {error}"))?;
    if !output.status.success() {
        return Err(format!("{text}: {}", output.status));
    }
    String::from_utf8(output.stdout).map_err(|error| format!("{text}: {error}"))
}

/// Returns whether a program answers to `--version`.
pub(crate) fn exists(program: impl AsRef<OsStr>) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    // Some subcommands of cargo refuse `--version` without their name: that they start is enough.
    command.status().is_ok()
}

fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(OsStr::to_string_lossy).collect();
    words.join(" ")
}
