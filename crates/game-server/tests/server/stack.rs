//! A server on the whole stack: PostgreSQL, Redis, NATS and S3, each of the test's own.

use std::{sync::Arc, time::Duration};

use clap::Parser as _;
use game_server::config::{Cli, Options, Settings};
use infra_cache::{
    Tiered, TieredBuilder,
    redis::{RedisCache, RedisOptions},
};
use infra_core::{
    Clock, SystemClock, archive::ArchiveStore as _, id::QueueName, queue::Queue as _,
};
use infra_messaging::{JetStream, JetStreamQueue};
use infra_persistence::{Archive, S3Options};
use infra_testkit::server::{BUCKET, Kind, Server};
use serde_json::{Value, json};

use crate::{
    play::play_on,
    support::{Host, act, eventually, options, start_changed},
};

/// The servers of a stack; they end with this value.
#[derive(Debug)]
pub(crate) struct Stack {
    postgres: Server,
    redis: Server,
    nats: Server,
    s3: Server,
}

impl Stack {
    pub(crate) async fn start() -> Self {
        let start = async |kind| Server::start(kind).await.unwrap();
        let (postgres, redis) = (start(Kind::Postgres).await, start(Kind::Redis).await);
        Self { postgres, redis, nats: start(Kind::Nats).await, s3: start(Kind::S3).await }
    }

    fn archive(&self) -> Archive {
        let options = S3Options::new(BUCKET).endpoint(self.s3.url());
        Archive::in_bucket(&options.credentials("any", "secret")).unwrap()
    }

    /// Starts a server that keeps nothing but its keys in its own folder.
    pub(crate) async fn host(&self, options: Options) -> Host {
        let database = Some(self.postgres.url());
        let options = Options {
            events: database.clone(),
            documents: database,
            limiter: Some(self.redis.url()),
            cache: Some(self.redis.url()),
            bus: Some(self.nats.url()),
            queues: Some(self.nats.url()),
            archive: Some("memory:".to_owned()),
            ..options
        };
        // The keys of a bucket come from the environment, which a test has not to itself.
        let archive = Arc::new(self.archive());
        start_changed(options, SystemClock::shared(), |mut backends| {
            backends.archive = archive;
            backends
        })
        .await
    }
}

/// Returns how the queue of this name on a NATS server stands.
async fn stats(nats: &Server, queue: &str, capacity: usize) -> infra_core::queue::Stats {
    let options = infra_messaging::Options::new(capacity).max_failures(u32::MAX).max_crashes(10);
    let (name, clock) = (QueueName::new(queue).unwrap(), SystemClock::shared());
    let server = JetStream::at(nats.url());
    let queue = JetStreamQueue::connect(server, name, options, clock).await.unwrap();
    queue.stats().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_game_on_the_whole_stack_leaves_each_thing_where_it_was_told_to() {
    let stack = Stack::start().await;
    let host = stack.host(options()).await;
    let mut mei = host.host("Mei").await;
    act(&mut mei, &json!({"type": "start", "action": 1})).await;
    play_on(&mut mei, 2).await;
    let game = format!("games/{}-{}.json", mei.known.room, mei.known.table.epoch);
    let archive = stack.archive();
    eventually("the game is in the bucket", || async {
        archive.list("games", "", 9).await.unwrap().iter().any(|entry| entry.name == game)
    })
    .await;
    eventually("the room waits on NATS to be cleaned up", || async {
        stats(&stack.nats, "clean-up", 50_000).await.delayed == 1
    })
    .await;
    let queue = stats(&stack.nats, "archive", 10_000).await;
    assert_eq!((queue.ready, queue.leased, queue.dead), (0, 0, 0));
    let clock: Arc<dyn Clock> = SystemClock::shared();
    let redis = RedisOptions::new(stack.redis.url(), "game-server");
    let redis = RedisCache::connect(redis, Arc::clone(&clock)).await.unwrap();
    let nothing_stays = infra_cache::Options::new(1).ttl(Duration::from_millis(1));
    let shared = TieredBuilder::new(nothing_stays, clock).remote(Arc::new(redis));
    let shared: Tiered<Value> = shared.build();
    eventually("the leaderboard is in Redis for other servers", || async {
        let told = host.get("/api/leaderboard?by=score&over=day").await.2;
        let kept = shared.get("leaderboard Score Day").await.unwrap();
        told.contains("Mei") && kept.is_some_and(|board| board["rows"][0]["name"] == "Mei")
    })
    .await;
    assert!(!host.folder.path().join("events").exists(), "events are kept in PostgreSQL alone");
    host.stop().await;
}

/// Fills the variables of a value of compose.yaml in.
fn filled(value: &str) -> String {
    let mut text = value.to_owned();
    while let Some(start) = text.find("${") {
        let end = start + text[start..].find('}').unwrap();
        let default = text[start..end].split_once(":-").map_or("0123456789abcdef", |it| it.1);
        text = format!("{}{default}{}", &text[..start], &text[end + 1..]);
    }
    text
}

#[test]
fn the_example_of_the_whole_stack_sets_options_that_are_there() {
    let example = include_str!("../../../../deploy/compose.yaml");
    let set = example.lines().filter_map(|line| line.trim().strip_prefix("GAME_SERVER_"));
    let words = set.flat_map(|line| {
        let (name, value) = line.split_once(": ").unwrap();
        [format!("--{}", name.to_lowercase().replace('_', "-")), filled(value)]
    });
    let words = std::iter::once("game-server".to_owned()).chain(words);
    let settings = Settings::resolve(Cli::try_parse_from(words).unwrap().options).unwrap();
    let told = [&settings.events, &settings.documents, &settings.cache, &settings.limits.limiter];
    let told = told.map(ToString::to_string).join(" ");
    assert_eq!(
        told,
        "postgres://postgres/game postgres://postgres/game redis://redis redis://redis"
    );
    assert_eq!(settings.queues.unwrap().to_string(), "nats://nats");
}
