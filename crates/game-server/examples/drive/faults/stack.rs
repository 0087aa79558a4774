//! What a run stands on: a server process and servers of its own, all of which may be hurt.

use std::{
    fs::File,
    io::{self, Write as _},
    net::SocketAddr,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use infra_testkit::{
    proxy::FaultProxy,
    server::{BUCKET, Kind, Server},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    player::Failure,
    process::{Process, program},
};

/// What the server stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ground {
    /// Events and documents in PostgreSQL, limits in Redis, bus on NATS, archive on S3.
    Servers,
    /// Files of its own.
    Files,
    /// Files on a small volume of their own, which takes root to make.
    Volume,
}

/// Which program serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    /// The game-server.
    Real,
    /// The same server within this program, with a disk and a clock that do what they are told.
    Injected,
}

/// The limits of people are out of the way, and all that a message pays is counted all the same.
const OPTIONS: [&str; 20] = [
    "--connections-per-address",
    "20000",
    "--connections",
    "20000",
    "--rooms",
    "20000",
    "--limit-player",
    "12000/120",
    "--limit-room",
    "30000/60",
    "--limit-chat",
    "1000/5",
    "--limit-input",
    "2000/2",
    "--limit-control",
    "2000/4",
    "--limit-messages",
    "1000",
    "--timeouts",
    "60,120,300",
];

/// The foreign servers.
#[derive(Debug)]
pub(crate) struct Servers {
    pub(crate) postgres: Server,
    pub(crate) redis: Server,
    pub(crate) nats: Server,
    pub(crate) s3: Server,
    /// The way to PostgreSQL.
    pub(crate) line: FaultProxy,
}

/// A server and what it stands on.
#[derive(Debug)]
pub(crate) struct Stack {
    /// Where players connect, also after a restart.
    pub(crate) addr: SocketAddr,
    /// Which ground it is.
    pub(crate) ground: Ground,
    program: Program,
    /// What a server with a disk of its own is told, also when it starts again.
    injected: &'static str,
    options: Vec<String>,
    process: Option<Process>,
    servers: Option<Servers>,
    /// Dropped last: everything above lives in it.
    folder: TempDir,
}

impl Stack {
    /// Starts everything.
    pub(crate) async fn start(ground: Ground, program: Program) -> Result<Self, Failure> {
        let folder = tempfile::Builder::new().prefix("infra-faults-").tempdir()?;
        let mut options: Vec<String> = OPTIONS.map(str::to_owned).to_vec();
        let mut servers = None;
        if ground == Ground::Servers {
            let started = Servers::start().await?;
            options.extend(started.options());
            servers = Some(started);
        }
        let addr = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut stack = Self {
            addr,
            ground,
            program,
            injected: "heal",
            options,
            process: None,
            servers,
            folder,
        };
        std::fs::create_dir(stack.data())?;
        if ground == Ground::Volume {
            stack.mount()?;
        }
        stack.serve()?;
        Ok(stack)
    }

    /// Returns the data folder.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Returns the foreign servers.
    pub(crate) fn servers(&mut self) -> Result<&mut Servers, Failure> {
        self.servers.as_mut().ok_or_else(|| "this run has no foreign servers".into())
    }

    /// Returns the URL of PostgreSQL by a way that nobody spoils.
    pub(crate) fn postgres(&self) -> Option<String> {
        self.servers.as_ref().map(|servers| servers.postgres.url())
    }

    /// Starts the server, on the address that it had before.
    pub(crate) fn serve(&mut self) -> Result<(), Failure> {
        let mut command = match self.program {
            Program::Real => Command::new(program()?),
            Program::Injected => {
                let mut own = Command::new(std::env::current_exe()?);
                own.arg("serve").env(super::serve::INJECTED, self.injected);
                own
            }
        };
        credentials(&mut command);
        let log = File::options().create(true).append(true).open(self.log())?;
        command.stderr(log);
        let (data, addr) = (self.data(), self.addr.to_string());
        let launch = || Process::launch(&mut command, &data, &addr, &self.options);
        let process = tokio::task::block_in_place(launch)?;
        self.addr = process.addr;
        self.process = Some(process);
        Ok(())
    }

    /// Tells a server with a disk and a clock of its own what they do from now on.
    pub(crate) fn inject(&mut self, what: &'static str) -> Result<(), Failure> {
        self.injected = what;
        self.process.as_mut().map_or(Ok(()), |process| process.tell(what))
    }

    /// Starts the server again and again until it serves, as an init system would.
    pub(crate) async fn serve_at_last(&mut self) -> Result<(), Failure> {
        let begun = Instant::now();
        while let Err(error) = self.serve() {
            if Duration::from_mins(1) < begun.elapsed() {
                return Err(error);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// Returns the server's process.
    pub(crate) fn process(&mut self) -> Result<&mut Process, Failure> {
        self.process.as_mut().ok_or_else(|| "the server does not run".into())
    }

    /// Returns whether the server was started, or started again.
    pub(crate) const fn is_serving(&self) -> bool {
        self.process.is_some()
    }

    /// Kills the server's process.
    pub(crate) fn kill(&mut self) -> Result<(), Failure> {
        self.process.take().map_or(Ok(()), |mut process| process.kill())
    }

    /// Asks the server's process to end and waits for that; returns how long it took.
    pub(crate) async fn stop(&mut self) -> Result<Duration, Failure> {
        let begun = Instant::now();
        if let Some(mut process) = self.process.take() {
            process.signal("TERM")?;
            while !process.has_ended()? {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(begun.elapsed())
    }

    /// Gives the process away that serves now.
    pub(crate) const fn hand_over(&mut self) -> Option<Process> {
        self.process.take()
    }

    /// Returns what the server has complained of: the end of it.
    pub(crate) fn complaints(&self) -> String {
        let said = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = said.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// Returns the names of all archived games, as an operator's command lists them.
    pub(crate) fn archived(&self) -> Result<Vec<String>, Failure> {
        let files = format!("file:{}", self.data().join("archive").display());
        let archive = self.options.iter().skip_while(|word| *word != "--archive").nth(1);
        let mut list = Command::new(program()?);
        list.args(["archive", "list", "--prefix", "games", "--archive"]);
        credentials(list.arg(archive.unwrap_or(&files)));
        list.env("LLVM_PROFILE_FILE", self.folder.path().join("list-%p.profraw"));
        let output = tokio::task::block_in_place(|| list.output())?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
        }
        let said = String::from_utf8(output.stdout)?;
        let names = said.lines().filter_map(|line| line.split_whitespace().last());
        Ok(names.map(str::to_owned).collect())
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }

    fn mount(&self) -> Result<(), Failure> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=400m", "tmpfs"]).arg(self.data());
        let output = mount.output()?;
        if output.status.success() {
            return Ok(());
        }
        Err(format!("a volume needs root: {}", String::from_utf8_lossy(&output.stderr)).into())
    }

    /// Fills the volume to its last byte.
    pub(crate) fn fill(&self) -> Result<(), Failure> {
        let mut ballast = File::create(self.data().join("ballast"))?;
        for size in [1 << 20, 1 << 12, 1] {
            let chunk = vec![0_u8; size];
            loop {
                match ballast.write_all(&chunk) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// Gives the volume its room back.
    pub(crate) fn empty(&self) -> Result<(), Failure> {
        Ok(std::fs::remove_file(self.data().join("ballast"))?)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        self.process = None;
        if self.ground == Ground::Volume {
            let mut umount = Command::new("umount");
            // A folder that stays mounted is all that can come of it.
            let _done = umount.arg(self.data()).status().is_ok();
        }
    }
}

/// Any will do for the servers of a run.
fn credentials(command: &mut Command) {
    command.env("AWS_ACCESS_KEY_ID", "any").env("AWS_SECRET_ACCESS_KEY", "secret");
}

impl Servers {
    async fn start() -> Result<Self, Failure> {
        let (postgres, redis, nats, s3) = tokio::try_join!(
            Server::start(Kind::Postgres),
            Server::start(Kind::Redis),
            Server::start(Kind::Nats),
            Server::start(Kind::S3)
        )?;
        let line = FaultProxy::start(postgres.addr()).await?;
        Ok(Self { postgres, redis, nats, s3, line })
    }

    fn options(&self) -> Vec<String> {
        let (direct, by_line) = (self.postgres.addr().to_string(), self.line.addr().to_string());
        let database = self.postgres.url().replace(&direct, &by_line);
        let archive = format!("s3://{BUCKET}/run?endpoint={}&region=eu-north-1", self.s3.url());
        [
            ("--events", database.clone()),
            ("--documents", database),
            ("--limiter", self.redis.url()),
            ("--bus", self.nats.url()),
            ("--archive", archive),
        ]
        .into_iter()
        .flat_map(|(name, value)| [name.to_owned(), value])
        .collect()
    }

    /// Gives Redis a command of one line.
    pub(crate) async fn tell_redis(&self, command: &str) -> Result<(), Failure> {
        let mut socket = TcpStream::connect(self.redis.addr()).await?;
        socket.write_all(format!("{command}\r\n").as_bytes()).await?;
        let mut answer = [0; 64];
        let read = socket.read(&mut answer).await?;
        match answer.get(..read) {
            Some(answer) if answer.starts_with(b"+OK") => Ok(()),
            answer => Err(format!("redis: {command}: {answer:?}").into()),
        }
    }
}
