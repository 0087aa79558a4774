//! The cases of the Autobahn test suite, run by kosoku: RFC 6455 as everybody understands it.
//!
//! Sections 12 and 13 are left out: they are for compression, which is not spoken.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener as StdListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use infra_core::{SystemClock, lifecycle::Shutdown};
use infra_ws::{
    App, Class, Close, Connection, Frame, Hub, Inbound, Options, OriginPolicy,
    client::{Client, Received},
    serve,
};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};

/// How long one case may take, and the start of the runner.
const PATIENCE: Duration = Duration::from_mins(1);

const MIB: usize = 1024 * 1024;

/// How many cases there are.
const ALL: usize = 301;

/// What is not strictly OK, and why it is right all the same.
const NOT_STRICT: [(&str, &str); 5] = [
    // Text that breaks in the middle of a frame is refused at the frame's end, not at the octet.
    ("6.4.3", "NON-STRICT"),
    ("6.4.4", "NON-STRICT"),
    // These have no right answer: what follows a close, and codes that are nobody's.
    ("7.1.6", "INFORMATIONAL"),
    ("7.13.1", "INFORMATIONAL"),
    ("7.13.2", "INFORMATIONAL"),
];

/// Sends back what it gets.
#[derive(Debug)]
struct Mirror;

#[async_trait]
impl App for Mirror {
    type Session = Connection;

    async fn open(&self, connection: Connection) -> Result<Connection, Close> {
        Ok(connection)
    }

    async fn message(&self, session: &mut Connection, message: Inbound) -> Result<(), Close> {
        let frame = match message {
            Inbound::Text(text) => Frame::Text(text),
            Inbound::Binary(bytes) => Frame::Binary(bytes),
        };
        session.send(frame, Class::Durable);
        Ok(())
    }

    async fn closed(&self, _session: Connection) {}
}

/// Returns the runner's command; `cargo xtask ci` and `cargo xtask services up` install it.
fn kosoku(mode: &str, folder: &Path, cases: &[String]) -> Command {
    let program = std::env::var_os("INFRA_TEST_KOSOKU").expect(
        "INFRA_TEST_KOSOKU is not set: `cargo xtask services up` installs kosoku and prints it",
    );
    let mut command = Command::new(program);
    command.args(["-m", mode, "-p", "2", "-x", "12.*", "-x", "13.*", "-o"]).arg(folder);
    for case in cases {
        command.args(["-i", case]);
    }
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Holds the report against what is known not to be strict, and returns the cases that are wrong.
#[expect(clippy::print_stdout, reason = "the figures are what the run is for")]
fn judge(folder: &Path, wanted: usize) -> Vec<String> {
    let text = std::fs::read_to_string(folder.join("index.json")).unwrap();
    let report: Value = serde_json::from_str(&text).unwrap();
    let (_, cases) = report.as_object().unwrap().iter().next().unwrap();
    let cases = cases.as_object().unwrap();
    assert_eq!(cases.len(), wanted);
    let is_ok = |case: &&Value| case["behavior"] == "OK" && case["behaviorClose"] == "OK";
    let odd: BTreeMap<&str, &str> = cases
        .iter()
        .filter(|(_, case)| !is_ok(case))
        .map(|(name, case)| {
            let (message, close) = (&case["behavior"], &case["behaviorClose"]);
            let worse = if message == "OK" { close } else { message };
            (name.as_str(), worse.as_str().unwrap())
        })
        .collect();
    println!("{} of {} cases are strictly OK; {odd:?}", cases.len() - odd.len(), cases.len());
    let wrong = odd.iter().filter(|case| !NOT_STRICT.contains(&(*case.0, *case.1)));
    wrong.map(|(name, _)| (*name).to_owned()).collect()
}

/// A child process that ends with its test.
struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        let _ended = self.0.kill().is_ok() && self.0.wait().is_ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_passes_every_case_without_compression() {
    let options = Options::new(OriginPolicy::same_host())
        .message_bytes(17 * MIB)
        .outbox(10_000, 64 * MIB)
        .budgets(256 * MIB, 512 * MIB)
        .assembly(PATIENCE)
        .first_message(PATIENCE)
        .write(PATIENCE);
    let hub = Hub::new(options, SystemClock::shared(), Shutdown::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    tokio::spawn(serve(listener, hub, Arc::new(Mirror)));
    let wrong = examine(&url, &[]).await;
    // The runner waits a second for each answer; on a busy machine that may pass.
    if !wrong.is_empty() {
        assert_eq!(examine(&url, &wrong).await, Vec::<String>::new());
    }
}

/// Runs all cases, or these, and returns those that are wrong.
async fn examine(url: &str, cases: &[String]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let mut command = kosoku("fuzzingclient", folder.path(), cases);
    command.arg(url);
    let done = tokio::task::spawn_blocking(move || command.status()).await.unwrap();
    // Its status counts cases that are only informational as failures; the report tells.
    assert!(done.unwrap().code().is_some());
    judge(folder.path(), if cases.is_empty() { ALL } else { cases.len() })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_passes_every_case_without_compression() {
    let folder = tempfile::tempdir().unwrap();
    let address = free_address();
    let mut runner = Ending(
        kosoku("fuzzingserver", folder.path(), &[])
            .arg(address.to_string())
            .spawn()
            .expect("kosoku"),
    );
    let up = async {
        while TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, up).await.expect("kosoku listens in time");
    let visit = async |path: &str| Client::connect(&format!("ws://{address}/{path}"), &[]).await;
    let mut counting = visit("getCaseCount").await.unwrap();
    let Received::Text(count) = counting.receive(PATIENCE).await.unwrap() else { panic!("text") };
    for case in 1..=count.parse::<u32>().unwrap() {
        let client = visit(&format!("runCase?case={case}&agent=infra-ws")).await.unwrap();
        mirror(client).await;
    }
    visit("updateReports?agent=infra-ws").await.unwrap().close(PATIENCE).await;
    let written: PathBuf = folder.path().join("index.json");
    let ended = async {
        while runner.0.try_wait().unwrap().is_none() && !written.exists() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        runner.0.wait().unwrap()
    };
    tokio::time::timeout(PATIENCE, ended).await.expect("kosoku writes its report");
    assert_eq!(judge(folder.path(), ALL), Vec::<String>::new());
}

/// Sends back what comes until the server ends the case.
async fn mirror(mut client: Client) {
    loop {
        let sent = match client.receive(PATIENCE).await.unwrap() {
            Received::Text(text) => client.send(text).await,
            Received::Binary(bytes) => client.send_binary(bytes).await,
            Received::Closed(_) => return,
        };
        if sent.is_err() {
            return;
        }
    }
}

fn free_address() -> SocketAddr {
    StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
