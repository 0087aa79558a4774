//! The tools that the commands need, and how they are installed.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::shell;

/// A tool of cargo's with its pinned version.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tool {
    name: &'static str,
    version: &'static str,
}

/// Runs tests.
pub(crate) const NEXTEST: Tool = Tool { name: "cargo-nextest", version: "0.9.143" };
/// Judges licences and sources.
pub(crate) const DENY: Tool = Tool { name: "cargo-deny", version: "0.20.2" };

impl Tool {
    /// Installs the tool if it is not there in any version.
    pub(crate) fn need(self) -> Result<(), String> {
        if shell::exists(self.name) {
            return Ok(());
        }
        println!("installing {} {}", self.name, self.version);
        // A tool that runs for seconds is not worth minutes of optimising, nor is it debugged.
        let args = ["install", "--debug", "--locked", "--version", self.version, self.name];
        let mut install = shell::command("cargo", &args);
        install.env_remove("CARGO_TARGET_DIR").env("CARGO_INCREMENTAL", "0");
        shell::run(install.env("CARGO_PROFILE_DEV_DEBUG", "0"))
    }
}

/// Installs the Autobahn cases' runner in a folder of its own, and returns its program.
pub(crate) fn kosoku() -> Result<PathBuf, String> {
    const VERSION: &str = "0.1.0";
    let folder = shell::target().join(format!("kosoku-{VERSION}"));
    let program = folder.join("bin/kosoku");
    if !program.exists() {
        println!("installing kosoku {VERSION}");
        make_environment(&folder, &[&format!("kosoku=={VERSION}")])?;
    }
    Ok(program)
}

/// Makes an environment of Python in a folder, with packages from its registry.
fn make_environment(folder: &Path, packages: &[&str]) -> Result<(), String> {
    let create = || {
        let mut venv = Command::new("python3");
        shell::run(venv.args(["-m", "venv", "--clear"]).arg(folder))
    };
    if create().is_err() {
        need_debian(&["python3-venv"])?;
        create()?;
    }
    let mut install = Command::new(folder.join("bin/pip"));
    shell::run(install.args(["install", "--quiet"]).args(packages))
}

/// Installs Debian packages if one of their programs is missing.
///
/// Where that cannot be done, the error names the exact command.
pub(crate) fn need_debian(packages: &[&str]) -> Result<(), String> {
    let command = format!("apt-get install -y --no-install-recommends {}", packages.join(" "));
    let is_root = shell::read(&mut Command::new("id").tap(|id| id.arg("-u")));
    if !shell::exists("apt-get") || is_root.as_deref().map(str::trim) != Ok("0") {
        return Err(format!("something is missing; install it as root with `{command}`"));
    }
    let mut update = Command::new("apt-get");
    shell::run(update.args(["update", "-qq"]))?;
    let mut install = Command::new("apt-get");
    install.args(["install", "-y", "-qq", "--no-install-recommends"]).args(packages);
    // Servers that a package would start are not wanted: tests start their own.
    install.env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1");
    shell::run(&mut install)
}

/// What tests run in Python: the server that speaks S3, and the reference parser of `OpenMetrics`.
const PACKAGES: [&str; 2] = ["moto[server]==5.2.1", "prometheus-client==0.26.0"];

/// Where they are installed if the system's Python lacks one.
fn environment() -> PathBuf {
    shell::target().join("moto")
}

/// Returns the Python that has them.
pub(crate) fn python() -> String {
    let own = environment().join("bin/python3");
    if own.exists() { own.display().to_string() } else { "python3".to_owned() }
}

/// Installs what tests run in Python, into an environment of its own, if the system's lacks any.
pub(crate) fn need_python() -> Result<(), String> {
    const LOOK: &str = "import sys, importlib.util as u; \
                        needed = ('moto', 'flask', 'prometheus_client'); \
                        sys.exit(any(u.find_spec(n) is None for n in needed))";
    let has_all = |python: &str| {
        let status = Command::new(python).args(["-c", LOOK]).status();
        status.is_ok_and(|status| status.success())
    };
    if has_all(&python()) {
        return Ok(());
    }
    println!("installing {}", PACKAGES.join(" "));
    make_environment(&environment(), &PACKAGES)
}

/// Refuses to begin without clippy, which rustup's minimal profile leaves out.
pub(crate) fn need_clippy() -> Result<(), String> {
    let sysroot = shell::read(&mut shell::command("rustc", &["--print", "sysroot"]))?;
    if Path::new(sysroot.trim()).join("bin/clippy-driver").exists() {
        return Ok(());
    }
    Err("clippy is missing; install it with `rustup component add clippy rustfmt`".to_owned())
}

/// Returns whether `kill` and `pkill` are there, which end what commands and tests have started.
pub(crate) fn has_kill() -> bool {
    shell::exists("kill") && shell::exists("pkill")
}

/// Installs `kill` and `pkill` if they are not there.
pub(crate) fn need_kill() -> Result<(), String> {
    if has_kill() { Ok(()) } else { need_debian(&["procps"]) }
}

trait Tap: Sized {
    fn tap(self, change: impl FnOnce(&mut Self) -> &mut Self) -> Self;
}

impl Tap for Command {
    fn tap(mut self, change: impl FnOnce(&mut Self) -> &mut Self) -> Self {
        change(&mut self);
        self
    }
}

/// The two programs that read coverage data; they must match rustc's LLVM.
#[derive(Debug)]
pub(crate) struct Llvm {
    pub(crate) cov: PathBuf,
    pub(crate) profdata: PathBuf,
}

/// Finds LLVM's tools: those of rustup, or the system's of the same major version.
pub(crate) fn llvm() -> Result<Llvm, String> {
    let sysroot = shell::read(&mut shell::command("rustc", &["--print", "sysroot"]))?;
    let version = shell::read(&mut shell::command("rustc", &["-vV"]))?;
    let line = |name: &str| {
        let found = version.lines().find_map(|line| line.strip_prefix(name));
        found.map(str::trim).unwrap_or_default().to_owned()
    };
    let host = line("host:");
    let major = line("LLVM version:").split('.').next().unwrap_or_default().to_owned();
    let rustup = PathBuf::from(sysroot.trim()).join("lib/rustlib").join(host).join("bin");
    let system = PathBuf::from(format!("/usr/lib/llvm-{major}/bin"));
    let within = |folder: &PathBuf| {
        let llvm = Llvm { cov: folder.join("llvm-cov"), profdata: folder.join("llvm-profdata") };
        (llvm.cov.exists() && llvm.profdata.exists()).then_some(llvm)
    };
    if let Some(found) = within(&rustup).or_else(|| within(&system)) {
        return Ok(found);
    }
    need_debian(&[&format!("llvm-{major}")]).map_err(|error| {
        format!("{error}, or llvm-tools with `rustup component add llvm-tools`")
    })?;
    within(&system).ok_or_else(|| format!("llvm-{major} has no llvm-cov in {}", system.display()))
}
