//! This program in the place of the compiler: the workspace's own crates are linted and instrumented while
//! they are built for the tests, and their pages are written while their doctests run, so that no crate
//! and no dependency is made a second time for any of it.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use crate::{shell, tools};

/// The compiler's wrapper, as `RUSTC_WORKSPACE_WRAPPER`.
const RUSTC: &str = "rustc-with-lints-and-coverage";
/// What stands for rustdoc, as `RUSTDOC`.
const RUSTDOC: &str = "rustdoc-with-pages";

/// Makes the workspace's own crates, wherever cargo builds them, linted and instrumented.
pub(crate) fn wrap(cargo: &mut Command) -> Result<(), String> {
    tools::need_clippy()?;
    cargo.env("RUSTC_WORKSPACE_WRAPPER", copy(RUSTC)?);
    Ok(())
}

/// Lets `cargo test --doc` write the crates' pages as well, where each warning is an error.
pub(crate) fn with_pages(cargo: &mut Command) -> Result<(), String> {
    cargo.env("RUSTDOC", copy(RUSTDOC)?);
    Ok(())
}

/// Copies this program to where a build cannot replace it while it serves as a wrapper.
fn copy(name: &str) -> Result<PathBuf, String> {
    let path = shell::target().join(name);
    let this = std::env::current_exe().map_err(|error| format!("find this program: {error}"))?;
    let fresh = path.with_extension(std::process::id().to_string());
    std::fs::copy(&this, &fresh)
        .and_then(|_| std::fs::rename(&fresh, &path))
        .map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(path)
}

/// Does what this program was called for as a wrapper, if its name is a wrapper's.
pub(crate) fn as_wrapper() -> Option<ExitCode> {
    let mut words = std::env::args_os();
    let name = words.next()?;
    let words: Vec<OsString> = words.collect();
    let is_done = match Path::new(&name).file_name()?.to_str()? {
        RUSTC => compile(&words),
        RUSTDOC => {
            let are_written = |pages| succeeds(Command::new("rustdoc").args(pages));
            pages(&words).is_none_or(are_written) && succeeds(Command::new("rustdoc").args(words))
        }
        _ => return None,
    };
    Some(if is_done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Calls the compiler of clippy that stands beside the one that cargo names first.
fn compile(words: &[OsString]) -> bool {
    let Some(rustc) = words.first() else { return false };
    let clippy = Path::new(rustc).with_file_name("clippy-driver");
    succeeds(Command::new(clippy).args(words).args(FLAGS))
}

/// What every crate of the workspace is compiled with besides.
const FLAGS: [&str; 3] = ["-Dwarnings", "-C", "instrument-coverage"];

/// Returns what writes a crate's pages, of what runs its doctests; nothing if that is not what rustdoc
/// was called for.
fn pages(words: &[OsString]) -> Option<Vec<OsString>> {
    const DIRECTORY: &str = "--test-run-directory";
    let is = |word: &OsString, flag: &str| word.as_os_str() == OsStr::new(flag);
    words.iter().any(|word| is(word, "--test")).then_some(())?;
    let mut pages: Vec<OsString> = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if is(word, DIRECTORY) {
            words.next();
        } else if !is(word, "--test") {
            pages.push(word.clone());
        }
    }
    pages.extend(["-Dwarnings".into(), "--out-dir".into(), shell::target().join("doc").into()]);
    Some(pages)
}

fn succeeds(command: &mut Command) -> bool {
    command.status().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn pages_are_written_of_what_is_tested() {
        let tested = "--crate-name a --test src/lib.rs --test-run-directory /x --extern b=c";
        let pages = pages(&words(tested)).unwrap();
        let (same, own) = pages.split_at(5);
        assert_eq!(same, words("--crate-name a src/lib.rs --extern b=c"));
        assert_eq!(own[..2], words("-Dwarnings --out-dir"));
        assert_eq!(super::pages(&words("-vV")), None);
    }
}
