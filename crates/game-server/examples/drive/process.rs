//! A game-server process: started, killed, started again on the same data.

use std::{
    io::{BufRead, BufReader},
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
        let profile = data.join("child-%p.profraw");
        let mut child = Command::new(program()?)
            .args(["--addr", addr, "--admin-addr", "127.0.0.1:0", "--log", "error", "--data"])
            .arg(data)
            .args(options)
            .env("LLVM_PROFILE_FILE", profile)
            .stdout(Stdio::piped())
            .stdin(Stdio::null())
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
        let (addr, admin) = (address("game")?, address("dashboard")?);
        Ok(Self { child, addr, admin })
    }

    /// Kills the process as a loss of power would, but for what the system had in memory.
    pub(crate) fn kill(&mut self) -> Result<(), Failure> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Returns the resident memory in bytes.
    pub(crate) fn memory(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
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
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status()?;
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
