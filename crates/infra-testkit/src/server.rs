//! Real servers that a test may hurt: a PostgreSQL, Redis, NATS or S3 of its own.
//!
//! Tests that only use a server share one of each, whose URL `cargo xtask ci` passes; see
//! [`shared`]. A test that kills, stops or starves a server starts its own. A supervisor holds it: a
//! shell that ends the server when its standard input is closed, which happens whatever way the
//! test ends, so nothing outlives a test that is killed.

use std::{
    env,
    io::{self, BufRead as _, BufReader},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Starts its arguments, says the process id, and ends it when nothing can be read any more.
const SUPERVISOR: &str = r#""$@" >server.log 2>&1 & echo $!; read _; kill -9 $! 2>/dev/null; wait"#;

/// How long a server may take to say whether it takes clients.
const ANSWER: Duration = Duration::from_secs(1);

/// Where Debian's packages put each version of PostgreSQL.
const POSTGRES: &str = "/usr/lib/postgresql";

/// Runs moto as a server that can be killed; see there.
const S3: &str = include_str!("s3_server.py");

/// The bucket that each S3 server has.
pub const BUCKET: &str = "tests";

/// How often it is tried to reach a server that starts, a twentieth of a second apart.
const TRIES: u32 = 600;

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// PostgreSQL; it refuses to run as root and is run as its own user then.
    Postgres,
    /// Redis, which writes each command to its disk before it answers.
    Redis,
    /// NATS with `JetStream`.
    Nats,
    /// S3 as moto speaks it, in one bucket, [`BUCKET`]; any key id and secret will do. It honours
    /// conditional puts, and keeps what it acknowledged when it is killed.
    S3,
}

impl Kind {
    /// Returns the environment variable with the URL of the server that all tests of a run share.
    pub const fn variable(self) -> &'static str {
        match self {
            Self::Postgres => "INFRA_TEST_POSTGRES_URL",
            Self::Redis => "INFRA_TEST_REDIS_URL",
            Self::Nats => "INFRA_TEST_NATS_URL",
            Self::S3 => "INFRA_TEST_S3_URL",
        }
    }

    fn url(self, port: u16) -> String {
        match self {
            Self::Postgres => format!("postgres://postgres@127.0.0.1:{port}/postgres"),
            Self::Redis => format!("redis://127.0.0.1:{port}"),
            Self::Nats => format!("nats://127.0.0.1:{port}"),
            Self::S3 => format!("http://127.0.0.1:{port}"),
        }
    }

    /// Returns the command that runs the server on a port and in a folder.
    fn command(self, port: u16, folder: &Path) -> Vec<String> {
        let port = port.to_string();
        let python = env::var("INFRA_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let words = match self {
            Self::Postgres => {
                let mut words = as_postgres("postgres");
                let data = folder.join("data").display().to_string();
                let options = ["-D", &data, "-h", "127.0.0.1", "-p", &port, "-k", &data];
                words.extend(options.map(str::to_owned));
                return words;
            }
            Self::Redis => {
                let keep = ["--appendonly", "yes", "--appendfsync", "always", "--save", ""];
                let place = ["redis-server", "--bind", "127.0.0.1", "--port", &port];
                [&place[..], &keep].concat()
            }
            Self::Nats => vec!["nats-server", "-a", "127.0.0.1", "-p", &port, "-js", "-sd", "data"],
            Self::S3 => vec![&python, "-c", S3, &port, "."],
        };
        words.into_iter().map(str::to_owned).collect()
    }
}

/// Returns the URL of the server that all tests of a run share; each test takes a database, key
/// prefix or subject of its own.
///
/// # Errors
///
/// [`io::ErrorKind::NotFound`] if the run has none; it says how to get one.
pub fn shared(kind: Kind) -> io::Result<String> {
    env::var(kind.variable()).map_err(|_| {
        let variable = kind.variable();
        let help = format!("{variable} is not set: export what `cargo xtask services up` prints");
        io::Error::new(io::ErrorKind::NotFound, help)
    })
}

/// A server that belongs to one test; it ends with this value, or with the test's process.
#[derive(Debug)]
pub struct Server {
    kind: Kind,
    port: u16,
    folder: TempDir,
    supervisor: Child,
    pid: Pid,
}

impl Server {
    /// Starts a server with an empty folder on a free port, and waits until it takes clients.
    ///
    /// # Errors
    ///
    /// If it is not installed or does not start; the error holds what the server said.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the server.
    pub async fn start(kind: Kind) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("infra-server-").tempdir()?;
        if kind == Kind::Postgres {
            prepare_postgres(folder.path())?;
        }
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let (supervisor, pid) = supervise(kind, port, folder.path())?;
        let mut server = Self { kind, port, folder, supervisor, pid };
        server.listens().await?;
        Ok(server)
    }

    /// Returns the URL under which clients reach it.
    pub fn url(&self) -> String {
        self.kind.url(self.port)
    }

    /// Returns the address where it listens, for a [`FaultProxy`](crate::proxy::FaultProxy).
    pub fn addr(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// Returns the folder in which it keeps everything, for a test that looks into its files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Creates an empty database of a PostgreSQL, and returns the URL under which clients reach it.
    ///
    /// It blocks its thread until `createdb` has ended.
    ///
    /// # Errors
    ///
    /// What `createdb` says; also if the server is no PostgreSQL.
    pub fn create_database(&self, name: &str) -> io::Result<String> {
        let mut creating = Command::new(postgres_program(Path::new(POSTGRES), "createdb"));
        creating.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "postgres", name]);
        let output = creating.output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(io::Error::other(format!("createdb: {said}")));
        }
        Ok(format!("postgres://postgres@127.0.0.1:{}/{name}", self.port))
    }

    /// Kills the server as `kill -9` does, and starts it again with the same folder and port.
    ///
    /// # Errors
    ///
    /// As for [`Server::start`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the server killed or starting.
    pub async fn restart(&mut self) -> io::Result<()> {
        self.kill()?;
        (self.supervisor, self.pid) = supervise(self.kind, self.port, self.folder.path())?;
        self.listens().await
    }

    /// Kills the server as `kill -9` does, and the processes that it has started: what one of them still
    /// held would keep a PostgreSQL that starts at once from its folder.
    ///
    /// # Errors
    ///
    /// If the system cannot wait for its end.
    pub fn kill(&mut self) -> io::Result<()> {
        let started = children(self.pid);
        for pid in [self.pid].into_iter().chain(started.iter().copied()) {
            // One that is gone already cannot be killed, which is fine.
            let _killed = kill_process(pid, Signal::KILL).is_ok();
        }
        while started.iter().any(|pid| threads(*pid).any(|state| !matches!(state, 'Z' | 'X'))) {
            std::thread::yield_now();
        }
        drop(self.supervisor.stdin.take());
        self.supervisor.wait().map(|_| ())
    }

    /// Stops the server in its tracks, with the processes that it has started: it keeps its connections
    /// and answers nobody.
    ///
    /// # Errors
    ///
    /// If the server is gone.
    pub fn freeze(&self) -> io::Result<()> {
        kill_process(self.pid, Signal::STOP)?;
        settle(self.pid);
        // It starts no more of them now. One that ends just then answers nobody either.
        for child in children(self.pid) {
            if kill_process(child, Signal::STOP).is_ok() {
                settle(child);
            }
        }
        Ok(())
    }

    /// Lets a frozen server go on.
    ///
    /// # Errors
    ///
    /// As for [`Server::freeze`].
    pub fn thaw(&self) -> io::Result<()> {
        for child in children(self.pid) {
            let _goes_on = kill_process(child, Signal::CONT).is_ok();
        }
        Ok(kill_process(self.pid, Signal::CONT)?)
    }

    /// Asks a server that listens whether it is done with starting up.
    async fn takes_clients(&self) -> io::Result<bool> {
        match self.kind {
            Kind::Postgres => {
                let mut asking = Command::new(postgres_program(Path::new(POSTGRES), "pg_isready"));
                asking.args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()]);
                Ok(asking.status()?.success())
            }
            Kind::Redis => {
                let answer = tokio::time::timeout(ANSWER, self.pong()).await;
                Ok(answer.is_ok_and(|answer| answer.unwrap_or(false)))
            }
            Kind::Nats | Kind::S3 => Ok(true),
        }
    }

    /// Asks a Redis, which listens while it reads what it had written, and answers with an error then.
    async fn pong(&self) -> io::Result<bool> {
        let mut asking = TcpStream::connect(self.addr()).await?;
        asking.write_all(b"PING\r\n").await?;
        let mut answer = [0; 5];
        asking.read_exact(&mut answer).await?;
        Ok(answer == *b"+PONG")
    }

    async fn listens(&mut self) -> io::Result<()> {
        for _ in 0..TRIES {
            if TcpStream::connect(self.addr()).await.is_ok() && self.takes_clients().await? {
                return Ok(());
            }
            if rustix::process::test_kill_process(self.pid).is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let said = std::fs::read_to_string(self.folder.path().join("server.log"));
        let said = said.unwrap_or_default();
        Err(io::Error::other(format!("{:?} does not listen: {said}", self.kind)))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing better can be done about a server that cannot be ended.
        let _ended = self.kill().is_ok();
    }
}

/// Returns the processes that a process has started, as Linux tells it; elsewhere none.
fn children(parent: Pid) -> Vec<Pid> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let is_child = |pid: &Pid| {
        let path = format!("/proc/{}/stat", pid.as_raw_nonzero());
        let text = std::fs::read_to_string(path).unwrap_or_default();
        // The parent stands behind the state, that behind the name in brackets.
        let figures = text.rsplit_once(") ").map(|(_, figures)| figures).unwrap_or_default();
        let found = figures.split(' ').nth(1).and_then(|number| number.parse().ok());
        found == Some(parent.as_raw_nonzero().get())
    };
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter_map(Pid::from_raw).filter(is_child).collect()
}

/// Waits until a process that was told to stop has stopped: the signal reaches one thread after the other.
fn settle(pid: Pid) {
    while threads(pid).any(|state| !matches!(state, 'T' | 't' | 'Z' | 'X')) {
        std::thread::yield_now();
    }
}

/// Returns the state of each thread of a process, as Linux tells it; elsewhere none.
fn threads(pid: Pid) -> impl Iterator<Item = char> {
    let tasks = format!("/proc/{}/task", pid.as_raw_nonzero());
    let tasks = std::fs::read_dir(tasks).into_iter().flatten().flatten();
    tasks.filter_map(|task| {
        let stat = std::fs::read_to_string(task.path().join("stat")).ok()?;
        // The name before the state stands in parentheses, and may have some of its own.
        stat.rsplit_once(") ")?.1.chars().next()
    })
}

fn supervise(kind: Kind, port: u16, folder: &Path) -> io::Result<(Child, Pid)> {
    let mut command = Command::new("sh");
    command.args(["-c", SUPERVISOR, "supervisor"]).args(kind.command(port, folder));
    command.current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut line)?;
    }
    let pid = line.trim().parse().ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other(format!("the supervisor said {line:?}")))?;
    Ok((child, pid))
}

/// Returns a program of the newest PostgreSQL that Debian's packages have installed; its name alone, to
/// be found on the path, where they have installed none.
fn postgres_program(versions: &Path, name: &str) -> PathBuf {
    let folders = std::fs::read_dir(versions).into_iter().flatten().flatten();
    let numbers = folders.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let path = |number: u32| versions.join(number.to_string()).join("bin").join(name);
    let newest = numbers.filter(|number| path(*number).exists()).max();
    newest.map_or_else(|| PathBuf::from(name), path)
}

/// Returns a program of PostgreSQL, as a user that may run it.
fn as_postgres(program: &str) -> Vec<String> {
    let program = postgres_program(Path::new(POSTGRES), program).display().to_string();
    if !rustix::process::geteuid().is_root() {
        return vec![program];
    }
    let user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"];
    user.map(str::to_owned).into_iter().chain([program]).collect()
}

fn prepare_postgres(folder: &Path) -> io::Result<()> {
    let data = folder.join("data");
    std::fs::create_dir(&data)?;
    let run = |words: &[String]| {
        let (program, arguments) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let output = Command::new(program).args(arguments).current_dir(folder).output()?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(io::Error::other(format!("{program}: {said}")))
    };
    let data = data.display().to_string();
    if rustix::process::geteuid().is_root() {
        let folder = folder.display().to_string();
        run(&["chown", "-R", "postgres:postgres", &folder].map(str::to_owned))?;
    }
    let options = ["-D", &data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"];
    let mut initdb = as_postgres("initdb");
    initdb.extend(options.map(str::to_owned));
    run(&initdb)
}
