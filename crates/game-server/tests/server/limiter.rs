//! Limits that several servers count together in one Redis.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, ChildStdout, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use game_server::config::Options;
use infra_core::{
    Clock, SystemClock,
    limit::{Charge, RateLimiter},
};
use infra_ratelimit::{
    Limit,
    redis::{Options as RedisOptions, RedisLimiter, Time},
};
use infra_testkit::{
    clock::ManualClock,
    server::{Kind, Server},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    player::Player,
    raw::{Heard, RawSocket},
    support::{Host, ask, eventually, options, start_with},
};

/// Starts one of two servers that count in this Redis, with limits that hardly refill.
async fn one_of_two(redis: &Server) -> Host {
    let options = Options {
        limits: Some("enforce".to_owned()),
        limiter: Some(redis.url()),
        limiter_nodes: Some(2),
        limit_arrivals: Some("4/86400".to_owned()),
        limit_player: Some("40/864000".to_owned()),
        limit_control: Some("10000/1".to_owned()),
        ..options()
    };
    start_with(options, SystemClock::shared()).await
}

async fn ping(player: &mut Player) -> Value {
    ask(player, &json!({"type": "ping", "nonce": 1}), &["pong", "refused"]).await
}

/// Returns how many pings pass, of so many at most.
async fn pongs(player: &mut Player, most: u32) -> u32 {
    for number in 0..most {
        let answer = ping(player).await;
        if answer["type"] == "refused" {
            assert_eq!(answer["code"], "rate_limited");
            return number;
        }
    }
    most
}

async fn status_of_limiter(host: &Host) -> String {
    let health: Value = serde_json::from_str(&host.get("/health").await.2).unwrap();
    let checks = health["checks"].as_array().unwrap();
    let limiter = checks.iter().find(|check| check["name"] == "limiter").unwrap();
    limiter["status"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_address_may_do_is_counted_over_all_servers() {
    let redis = Server::start(Kind::Redis).await.unwrap();
    let (first, second) = (one_of_two(&redis).await, one_of_two(&redis).await);
    let _players =
        (first.player().await, second.player().await, second.player().await, first.player().await);
    for host in [&first, &second] {
        let mut fifth = RawSocket::open(host.server.addr()).await;
        fifth.say(r#"{"type":"hello"}"#).await;
        let Heard::Message(refused) = fifth.hear().await else { panic!("no refusal") };
        assert_eq!(
            (&refused["request"], &refused["code"]),
            (&json!("hello"), &json!("rate_limited"))
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_redis_is_lost_plays_on_with_its_share_and_tells_of_it() {
    let mut redis = Server::start(Kind::Redis).await.unwrap();
    let host = one_of_two(&redis).await;
    let mut player = host.player().await;
    assert_eq!(pongs(&mut player, 10).await, 10);
    eventually("its health is known", || async { status_of_limiter(&host).await == "up" }).await;
    redis.kill().unwrap();
    // Half of the 30 that are left.
    assert_eq!(pongs(&mut player, 40).await, 15);
    eventually("it is noticed", || async { status_of_limiter(&host).await == "degraded" }).await;
    redis.restart().await.unwrap();
    eventually("it is taken up again", || async { status_of_limiter(&host).await == "up" }).await;
    assert_eq!(pongs(&mut player, 40).await, 15, "25 of 40 were spent");
}

/// A server that is a process of its own.
struct Process {
    child: Child,
    addr: SocketAddr,
    _says: BufReader<ChildStdout>,
    _data: TempDir,
}

impl Process {
    /// Starts a server that counts in this Redis.
    fn start(redis: &Server) -> Self {
        let data = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_game-server"));
        command.env_clear().arg("--data").arg(data.path()).args(["--limiter", &redis.url()]);
        command.args(["--addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (mut says, mut line) = (BufReader::new(child.stdout.take().unwrap()), String::new());
        says.read_line(&mut line).unwrap();
        let addr = line.split_once("http://").and_then(|(_, rest)| rest.split('/').next());
        let addr = addr.and_then(|addr| addr.trim().parse().ok()).expect("it names its address");
        Self { child, addr, _says: says, _data: data }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Returns how many connections from here count in this Redis at a time, which may be yet to come.
async fn counted(redis: &Server, at: Duration) -> u32 {
    const ROOM: u32 = 100;
    let clock = ManualClock::new();
    clock.advance(at);
    let options = RedisOptions::new(redis.url(), "game-server").time(Time::Clock);
    let options = options.timeout(Duration::from_secs(20));
    let judge = RedisLimiter::connect(options, Arc::new(clock)).await.unwrap();
    let name = "connections per address";
    let judge = judge.limit(name, Limit::concurrent(ROOM).unwrap()).unwrap();
    let decision = judge.peek(&[Charge::one(name, "127.0.0.1")]).await.unwrap();
    ROOM - 1 - decision.remaining
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_server_held_is_free_after_fifteen_seconds_and_what_a_living_one_holds_is_not()
 {
    let now = || Duration::from_millis(SystemClock::new().wall().as_millis() + 1);
    let redis = Server::start(Kind::Redis).await.unwrap();
    let (living, mut killed) = (one_of_two(&redis).await, Process::start(&redis));
    let _player = living.player().await;
    let _lost =
        (Player::connect(killed.addr).await.unwrap(), Player::connect(killed.addr).await.unwrap());
    killed.kill();
    let killed_at = now();
    assert_eq!(counted(&redis, killed_at).await, 3, "a kill gives nothing back");
    let free_at = killed_at + Duration::from_secs(15);
    // The living one renews what it holds every five seconds.
    eventually("its own is renewed", || async { counted(&redis, free_at).await == 1 }).await;
}
