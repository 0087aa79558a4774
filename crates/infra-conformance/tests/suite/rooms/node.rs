//! A node that serves rooms in a process of its own: its bus is NATS, its history PostgreSQL.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use infra_core::{SystemClock, backoff::Backoff, lifecycle::Shutdown};
use infra_events::{PostgresEventStore, PostgresOptions};
use infra_messaging::NatsPubSub;
use infra_testkit::server::{Kind, shared};
use infra_ws::{
    Facts, Hub, Options, OriginPolicy,
    client::{Rooms, RoomsOptions},
    history::EventHistory,
    room::{
        Cluster, Denied, Identity, Published, Role, RoomHandler, RoomOptions, RoomServer, TokenBook,
    },
    serve,
    token::KeyRing,
    wire::JSON,
};
use serde_json::Value;
use tokio::net::TcpListener;

const NAME: &str = "INFRA_ROOMS_NODE";

/// Everybody may say anything.
#[derive(Debug)]
struct Open;

#[async_trait]
impl RoomHandler for Open {
    async fn authenticate(&self, token: &str, _: &Facts) -> Result<Identity, Denied> {
        Ok(Identity::user(token))
    }

    async fn may_enter(&self, _: &Identity, _: &str) -> Result<Role, Denied> {
        Ok(Role::Spectator)
    }

    async fn publish(&self, _: &Identity, _: &str, data: Value) -> Result<Published, Denied> {
        Ok(Published::Event(data))
    }
}

/// Returns the name of the cluster that this process is to be a node of, if it is one.
pub(super) fn own_name() -> Option<String> {
    std::env::var(NAME).ok()
}

/// Serves until the standard input ends, so that no node outlives its test.
pub(super) async fn run(name: &str) {
    let clock = SystemClock::shared();
    let postgres = PostgresOptions::new(shared(Kind::Postgres).unwrap()).schema(name).unwrap();
    let store = Arc::new(PostgresEventStore::open(postgres).await.unwrap());
    let history = Arc::new(EventHistory::new(store, "room.", Arc::clone(&clock)).unwrap());
    let options = Options::new(OriginPolicy::same_host()).protocol(JSON);
    let hub = Hub::new(options, Arc::clone(&clock), Shutdown::new());
    let tokens = TokenBook::in_memory(KeyRing::from_secret([7; 32]), clock);
    // What comes in time came over the bus: the check of the history is left out.
    let options = RoomOptions::new().check(Duration::from_mins(10));
    let rooms = RoomServer::new(Arc::clone(&hub), Open, history, tokens, options);
    let bus = NatsPubSub::connect(&shared(Kind::Nats).unwrap(), 1_000).await.unwrap();
    rooms.join_cluster(Cluster::new(Arc::new(bus), name)).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("\nport {}", listener.local_addr().unwrap().port());
    tokio::spawn(serve(listener, hub, Arc::new(rooms)));
    let ends = || std::io::stdin().read_to_end(&mut Vec::new());
    tokio::task::spawn_blocking(ends).await.unwrap().unwrap();
}

/// A node in a process of its own; it is killed with this value.
#[derive(Debug)]
pub(super) struct Node {
    process: Child,
    url: String,
}

impl Node {
    /// Runs the test `own` once more, as a node of a cluster.
    pub(super) fn start(own: &str, name: &str) -> Self {
        let process = Command::new(std::env::current_exe().unwrap())
            .args([own, "--exact", "--nocapture"])
            .env(NAME, name)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut node = Self { process, url: String::new() };
        let said = BufReader::new(node.process.stdout.take().unwrap()).lines();
        let port = said.map_while(Result::ok).find_map(|line| {
            let port = line.strip_prefix("port ")?;
            Some(port.to_owned())
        });
        node.url = format!("ws://127.0.0.1:{}/", port.expect("the node serves"));
        node
    }

    /// Connects to it.
    pub(super) fn client(&self, user: &'static str) -> Rooms {
        let backoff = Backoff::exponential(Duration::from_millis(20));
        let backoff = backoff.capped_at(Duration::from_millis(200));
        Rooms::start(RoomsOptions::new(&self.url, move || user.to_owned()).backoff(backoff))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // SIGKILL: it has no time to say anything.
        let _ended = self.process.kill().is_ok() && self.process.wait().is_ok();
    }
}
