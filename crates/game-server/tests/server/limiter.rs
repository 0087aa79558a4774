//! Limits that several servers count together in one Redis.

use game_server::config::Options;
use infra_core::SystemClock;
use infra_testkit::server::{Kind, Server};
use serde_json::{Value, json};

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
