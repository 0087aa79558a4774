//! A game-server process: started, killed, started again on the same data.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::player::Failure;

/// A running server.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    /// Where players connect.
    pub(crate) addr: SocketAddr,
    /// Where operators connect.
    pub(crate) admin: SocketAddr,
}

/// Returns the program: `GAME_SERVER_BIN`, or the one beside this example.
pub(crate) fn program() -> Result<PathBuf, Failure> {
    if let Some(path) = std::env::var_os("GAME_SERVER_BIN") {
        return Ok(PathBuf::from(path));
    }
    let own = std::env::current_exe()?;
    let folder = own.parent().and_then(Path::parent).ok_or("the example has no folder")?;
    Ok(folder.join("game-server"))
}

impl Process {
    /// Starts a server on `data` and waits until it serves; `addr` with port 0 takes a free one.
    pub(crate) fn start(data: &Path, addr: &str, options: &[&str]) -> Result<Self, Failure> {
        Self::launch(&mut Command::new(program()?), data, addr, options)
    }

    /// Does the same with a program that takes the options of a server and says what it says.
    pub(crate) fn launch(
        program: &mut Command,
        data: &Path,
        addr: &str,
        options: &[impl AsRef<OsStr>],
    ) -> Result<Self, Failure> {
        let profile = data.join("child-%p.profraw");
        let mut child = program
            .args(["--addr", addr, "--admin-addr", "127.0.0.1:0", "--log", "error", "--data"])
            .arg(data)
            .args(options)
            .env("LLVM_PROFILE_FILE", profile)
            .stdout(Stdio::piped())
            .stdin(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().ok_or("the server has no output")?;
        let mut lines = BufReader::new(stdout).lines();
        let mut address = |name: &str| -> Result<SocketAddr, Failure> {
            let line = lines.next().ok_or("the server ended before it served")??;
            let (_, url) =
                line.split_once("http://").ok_or_else(|| format!("no {name}: {line}"))?;
            let host = url.split('/').next().unwrap_or_default();
            Ok(host.parse()?)
        };
        match (address("game"), address("dashboard")) {
            (Ok(addr), Ok(admin)) => Ok(Self { child, addr, admin }),
            (Err(error), _) | (_, Err(error)) => {
                // It has closed its output, so it has ended or is about to.
                let _ended = child.wait().is_ok();
                Err(error)
            }
        }
    }

    /// Says a line to a program that listens to its input.
    pub(crate) fn tell(&mut self, line: &str) -> Result<(), Failure> {
        let input = self.child.stdin.as_mut().ok_or("the server has no input")?;
        Ok(writeln!(input, "{line}")?)
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) -> Result<(), Failure> {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args([&format!("-{name}"), &pid]).status()?;
        if status.success() { Ok(()) } else { Err(format!("kill -{name} {pid}: {status}").into()) }
    }

    /// Returns whether the process has ended.
    pub(crate) fn has_ended(&mut self) -> Result<bool, Failure> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Kills the process as a loss of power would, but for what the system had in memory.
    pub(crate) fn kill(&mut self) -> Result<(), Failure> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Returns the resident memory in bytes.
    pub(crate) fn memory(&self) -> Option<u64> {
        self.status("VmRSS:")
    }

    /// Returns the most resident memory that it ever had, in bytes.
    pub(crate) fn peak(&self) -> Option<u64> {
        self.status("VmHWM:")
    }

    fn status(&self, field: &str) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(field))?;
        line.trim()
            .strip_suffix(" kB")?
            .trim()
            .parse::<u64>()
            .ok()
            .map(|kilobytes| kilobytes * 1024)
    }

    /// Returns the time of processors that it has taken so far.
    pub(crate) fn busy(&self) -> Option<Duration> {
        // Linux counts in hundredths of a second; the name before the figures may hold spaces.
        let figures = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).ok()?;
        let (_, figures) = figures.rsplit_once(") ")?;
        let ticks = figures.split(' ').skip(11).take(2).map(str::parse::<u64>);
        Some(Duration::from_millis(ticks.sum::<Result<u64, _>>().ok()? * 10))
    }

    /// Asks the process to end and waits for it.
    pub(crate) fn stop(&mut self) -> Result<(), Failure> {
        self.signal("TERM")?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended already cannot be killed, which is fine.
        let _killed = self.child.kill().is_ok() && self.child.wait().is_ok();
    }
}
