//! What happens on each message, in memory: a cache hit, a decision over three keys, a queue.
#![expect(clippy::unwrap_used, reason = "a benchmark has nobody to tell")]

use std::{sync::Arc, time::Duration};

use criterion::{Criterion, criterion_group, criterion_main};
use infra_cache::LocalCache;
use infra_core::{
    SystemClock,
    clock::Timestamp,
    codec::Payload,
    durability::Durability,
    id::{MessageId, QueueName},
    limit::{Charge, RateLimiter},
    queue::{Message, Queue},
    random::Random,
};
use infra_messaging::MemoryQueue;
use infra_ratelimit::{Limiter, Quota};

fn cache(criterion: &mut Criterion) {
    let options = infra_cache::Options::new(10_000).ttl(Duration::from_mins(10));
    let cache = LocalCache::new(options, SystemClock::shared());
    (0..1_000_u64).for_each(|key| cache.put(key, Arc::new(key)));
    let mut key = 0;
    criterion.bench_function("cache hit", |bencher| {
        bencher.iter(|| {
            key = (key + 7) % 1_000;
            cache.get(&key)
        });
    });
}

fn limiter(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let quota = Quota::new(1_000_000, Duration::from_millis(1)).unwrap();
    let limiter = ["player", "room", "address"]
        .into_iter()
        .fold(Limiter::new(SystemClock::shared()), |limiter, name| limiter.limit(name, quota));
    let charges = ["player", "room", "address"].map(|limit| Charge::one(limit, "ann"));
    criterion.bench_function("decision over three keys", |bencher| {
        bencher.iter(|| runtime.block_on(limiter.acquire(&charges)).unwrap());
    });
}

fn queue(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let options = infra_messaging::Options::new(1_000);
    let name = QueueName::new("work").unwrap();
    let queue = MemoryQueue::new(name, options, SystemClock::shared());
    let random = Random::from_system();
    criterion.bench_function("publish, receive, acknowledge", |bencher| {
        bencher.iter(|| {
            runtime.block_on(async {
                let id = MessageId::generate(Timestamp::EPOCH, &random);
                let message = Message::new(id, Payload::raw("work"));
                queue.publish(vec![message], Durability::Applied).await.unwrap();
                for delivery in queue.receive(1, Duration::from_secs(30)).await.unwrap() {
                    delivery.ack().await.unwrap();
                }
            });
        });
    });
}

criterion_group!(benches, cache, limiter, queue);
criterion_main!(benches);
