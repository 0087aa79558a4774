//! Real servers for tests: one of each, on free ports, in folders of their own, ended by pid.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde::{Deserialize, Serialize};

use crate::{
    args::{self, Asked},
    shell, tools,
};

const HELP: &str = "\
Usage: cargo xtask services up|down|status

Starts PostgreSQL, Redis, NATS and S3 (moto) on free ports, prints their URLs as environment
variables, with the path of the Autobahn cases' runner, and stops them again. What is missing is
installed where this runs as root and Debian's packages are to be had; elsewhere the exact command
is named.";

/// Where Debian's packages put each version of PostgreSQL.
const POSTGRES: &str = "/usr/lib/postgresql";

/// A server that was started.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Service {
    variable: String,
    url: String,
    pid: u32,
    port: u16,
}

/// The servers of a run; those that belong to it end with it.
#[derive(Debug)]
pub(crate) struct Running {
    services: Vec<Service>,
    children: Vec<Child>,
    folder: PathBuf,
    /// The runner of the Autobahn cases, which tests start themselves.
    kosoku: PathBuf,
}

impl Running {
    /// Returns the variables that tell tests where the servers are.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let services = self.services.iter().map(|s| (s.variable.clone(), s.url.clone()));
        let kosoku = ("INFRA_TEST_KOSOKU".to_owned(), self.kosoku.display().to_string());
        let python = ("INFRA_TEST_PYTHON".to_owned(), tools::python());
        services.chain([kosoku, python]).collect()
    }

    /// Lets the servers live on.
    fn keep(mut self) {
        self.children.clear();
        self.folder = PathBuf::new();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for child in &mut self.children {
            // A server that is gone already cannot be killed, which is fine.
            let _killed = child.kill().is_ok() && child.wait().is_ok();
        }
        if !self.folder.as_os_str().is_empty() {
            let _removed = fs::remove_dir_all(&self.folder).is_ok();
        }
    }
}

pub(crate) fn run(words: &[String]) -> Result<(), String> {
    let found = match args::parse(words, &[""], &[])? {
        Asked::Help => {
            println!("{HELP}");
            return Ok(());
        }
        Asked::Run(found) => found,
    };
    match found.first().map(|(word, _)| word.as_str()) {
        Some("up") => up(),
        Some("down") => down(),
        Some("status") => {
            status();
            Ok(())
        }
        _ => Err(format!("one of up, down, status is needed\n\n{HELP}")),
    }
}

fn state() -> PathBuf {
    shell::target().join("services.json")
}

fn known() -> Vec<Service> {
    let text = fs::read_to_string(state()).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

fn up() -> Result<(), String> {
    if known().iter().any(is_alive) {
        status();
        return Ok(());
    }
    let running = start()?;
    let text = serde_json::to_string_pretty(&running.services).map_err(|e| e.to_string())?;
    fs::write(state(), text).map_err(|error| error.to_string())?;
    for (name, url) in running.environment() {
        println!("export {name}={url}");
    }
    running.keep();
    Ok(())
}

fn down() -> Result<(), String> {
    for service in known().iter().filter(|service| is_alive(service)) {
        shell::run(Command::new("kill").arg(service.pid.to_string()))?;
        println!("stopped {} ({})", service.variable, service.pid);
    }
    if state().exists() {
        fs::remove_file(state()).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn status() {
    for service in known() {
        let condition = if is_alive(&service) { "up" } else { "down" };
        println!("{condition:<5} {}={} (pid {})", service.variable, service.url, service.pid);
    }
}

/// A process counts as alive only if it is the one that was started: its port still answers.
fn is_alive(service: &Service) -> bool {
    Path::new("/proc").join(service.pid.to_string()).exists()
        && TcpStream::connect(("127.0.0.1", service.port)).is_ok()
}

/// Starts one of each server and waits until they answer.
pub(crate) fn start() -> Result<Running, String> {
    install()?;
    let folder = std::env::temp_dir().join(format!("infra-services-{}", std::process::id()));
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let kosoku = tools::kosoku()?;
    let mut running = Running { services: Vec::new(), children: Vec::new(), folder, kosoku };
    let redis = redis(&running.folder)?;
    running.add("INFRA_TEST_REDIS_URL", redis, |port| format!("redis://127.0.0.1:{port}"))?;
    let nats = nats(&running.folder)?;
    running.add("INFRA_TEST_NATS_URL", nats, |port| format!("nats://127.0.0.1:{port}"))?;
    let s3 = s3(&running.folder)?;
    running.add("INFRA_TEST_S3_URL", s3, |port| format!("http://127.0.0.1:{port}"))?;
    let postgres = postgres(&running.folder)?;
    running.add("INFRA_TEST_POSTGRES_URL", postgres, |port| {
        format!("postgres://postgres@127.0.0.1:{port}/postgres")
    })?;
    Ok(running)
}

impl Running {
    fn add(
        &mut self,
        variable: &str,
        mut server: Starting,
        url: impl FnOnce(u16) -> String,
    ) -> Result<(), String> {
        let answers = server.answers();
        let (variable, url, port) = (variable.to_owned(), url(server.port), server.port);
        let pid = server.child.id();
        self.children.push(server.child);
        answers.map_err(|error| format!("{variable}: {error}"))?;
        self.services.push(Service { variable, url, pid, port });
        Ok(())
    }
}

/// A server that was started and need not answer yet.
struct Starting {
    child: Child,
    port: u16,
    /// The file of what it complains of. A pipe that nobody reads would hold it up once it is full.
    said: PathBuf,
}

impl Starting {
    /// Starts a server that is told to listen on `port`.
    fn spawn(command: &mut Command, port: u16, folder: &Path) -> Result<Self, String> {
        let said = folder.join(format!("{port}.log"));
        let log =
            fs::File::create(&said).map_err(|error| format!("{}: {error}", said.display()))?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn();
        let child =
            child.map_err(|error| format!("{}: {error}", command.get_program().display()))?;
        Ok(Self { child, port, said })
    }

    /// Waits until its port is open, or it has ended.
    fn answers(&mut self) -> Result<(), String> {
        for _ in 0..600 {
            if TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], self.port))).is_ok() {
                return Ok(());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                let said = fs::read_to_string(&self.said).unwrap_or_default();
                return Err(format!("it ended with {status}: {said}"));
            }
            pause();
        }
        Err("it does not answer".to_owned())
    }
}

#[expect(clippy::disallowed_methods, reason = "a command waits for a process of the system")]
fn pause() {
    std::thread::sleep(std::time::Duration::from_millis(50));
}

/// Installs what is missing of the servers.
pub(crate) fn install() -> Result<(), String> {
    let missing: Vec<&str> = [
        ("redis-server", shell::exists("redis-server")),
        ("nats-server", shell::exists("nats-server")),
        ("postgresql", shell::exists(postgres_program(Path::new(POSTGRES), "postgres"))),
        ("chromium", shell::exists("chromium")),
        ("chromium-driver", shell::exists("chromedriver")),
        // For promtool; nothing of it runs as a service.
        ("prometheus", shell::exists("promtool")),
        ("python3-venv", shell::exists("python3")),
        ("procps", tools::has_kill()),
    ]
    .into_iter()
    .filter(|(_, is_there)| !is_there)
    .map(|(package, _)| package)
    .collect();
    if !missing.is_empty() {
        tools::need_debian(&missing)?;
    }
    tools::need_python()
}

/// Returns a program of the newest PostgreSQL that Debian's packages have installed; its name alone, to
/// be found on the path, where they have installed none.
fn postgres_program(versions: &Path, name: &str) -> PathBuf {
    let folders = fs::read_dir(versions).into_iter().flatten().flatten();
    let numbers = folders.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let path = |number: u32| versions.join(number.to_string()).join("bin").join(name);
    let newest = numbers.filter(|number| path(*number).exists()).max();
    newest.map_or_else(|| PathBuf::from(name), path)
}

/// Finds a port that nobody uses now.
fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    listener.local_addr().map(|address| address.port()).map_err(|error| error.to_string())
}

fn redis(folder: &Path) -> Result<Starting, String> {
    let port = free_port()?;
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"]);
    command.arg(folder).args(["--port", &port.to_string()]);
    Starting::spawn(&mut command, port, folder)
}

fn nats(folder: &Path) -> Result<Starting, String> {
    let port = free_port()?;
    let mut command = Command::new("nats-server");
    command.args(["-a", "127.0.0.1", "-p", &port.to_string(), "-js", "-sd"]);
    command.arg(folder.join("nats"));
    Starting::spawn(&mut command, port, folder)
}

/// The same program as tests start that hurt it.
fn s3(folder: &Path) -> Result<Starting, String> {
    const PROGRAM: &str = include_str!("../../crates/infra-testkit/src/s3_server.py");
    let (port, data) = (free_port()?, folder.join("s3"));
    fs::create_dir_all(&data).map_err(|error| error.to_string())?;
    let mut command = Command::new(tools::python());
    command.args(["-c", PROGRAM, &port.to_string()]).arg(&data);
    Starting::spawn(&mut command, port, folder)
}

/// PostgreSQL refuses to run as root; its own user is used then.
fn postgres(folder: &Path) -> Result<Starting, String> {
    let port = free_port()?;
    let data = folder.join("postgres");
    fs::create_dir_all(&data).map_err(|error| error.to_string())?;
    let id = shell::read(Command::new("id").arg("-u"))?;
    let as_user = |program: &str| {
        let program = postgres_program(Path::new(POSTGRES), program);
        if id.trim() == "0" {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
            command
        } else {
            Command::new(program)
        }
    };
    if id.trim() == "0" {
        shell::run(Command::new("chown").arg("postgres:postgres").arg(&data))?;
    }
    let mut initdb = as_user("initdb");
    initdb.arg("-D").arg(&data).args(["-U", "postgres", "-A", "trust", "-E", "UTF8"]);
    shell::run(initdb.arg("--no-instructions").current_dir(&data).stdout(Stdio::null()))?;
    let mut server = as_user("postgres");
    server.arg("-D").arg(&data).args(["-h", "127.0.0.1", "-p", &port.to_string(), "-k"]);
    // Some tests run at a time, each with pools and processes of its own.
    server.arg(&data).args(["-c", "max_connections=300"]);
    Starting::spawn(server.current_dir(&data), port, folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_postgresql_is_taken_and_else_what_is_on_the_path() {
        let versions = std::env::temp_dir().join(format!("infra-versions-{}", std::process::id()));
        let found = |name| postgres_program(&versions, name);
        assert_eq!(found("initdb"), Path::new("initdb"));
        for folder in ["9/bin", "15/bin", "17/bin", "common/bin"] {
            fs::create_dir_all(versions.join(folder)).unwrap();
        }
        for program in ["9/bin/initdb", "15/bin/initdb", "common/bin/initdb"] {
            fs::write(versions.join(program), "").unwrap();
        }
        assert_eq!(found("initdb"), versions.join("15/bin/initdb"), "17 has its clients alone");
        fs::remove_dir_all(&versions).unwrap();
    }

    #[test]
    fn a_server_that_complains_much_is_not_held_up_by_it() {
        let folder = std::env::temp_dir().join(format!("infra-complains-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let mut server = Command::new("sh");
        server.args(["-c", "yes complaint | head -c 1000000 >&2; exit 7"]);
        let mut server = Starting::spawn(&mut server, free_port().unwrap(), &folder).unwrap();
        let said = server.answers().unwrap_err();
        fs::remove_dir_all(&folder).unwrap();
        assert!(said.contains("status: 7: complaint"), "{}", said.len());
    }

    #[test]
    fn real_servers_start_on_free_ports_and_end_with_their_run() {
        let running = start().unwrap();
        let ports: Vec<u16> = running.services.iter().map(|service| service.port).collect();
        let services = running.services.clone();
        assert_eq!(ports.len(), 4);
        assert!(services.iter().all(is_alive));
        let names: Vec<_> = running.environment().into_iter().map(|(name, _)| name).collect();
        let wanted = [
            "INFRA_TEST_REDIS_URL",
            "INFRA_TEST_NATS_URL",
            "INFRA_TEST_S3_URL",
            "INFRA_TEST_POSTGRES_URL",
            "INFRA_TEST_KOSOKU",
            "INFRA_TEST_PYTHON",
        ];
        assert_eq!(names, wanted);
        assert!(running.kosoku.exists());
        drop(running);
        assert!(services.iter().all(|service| !is_alive(service)));
    }
}
