//! A router: topics with wildcards, a rule for what is urgent, and an alternate for the rest.

use std::sync::Arc;

use infra_core::{
    Result, SystemClock,
    codec::Payload,
    durability::Durability,
    id::QueueName,
    queue::{Priority, Queue},
    random::Random,
};
use infra_messaging::{
    MemoryQueue, Mint, Options,
    route::{Dialect, Router, Rule, Then},
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let clock = SystemClock::shared();
    let mint = Mint::new(Arc::clone(&clock), Random::from_system());
    let mut router = Router::new(Dialect::Nats, mint.clone());
    for name in ["games", "alarms", "rest"] {
        let queue = MemoryQueue::new(QueueName::new(name)?, Options::new(100), Arc::clone(&clock));
        router.add(Arc::new(queue) as Arc<dyn Queue>)?;
    }
    router.topic("game.*.>", "games")?;
    router.rule(1, Rule::AtLeast(Priority::Critical), &["alarms"], Then::Stop)?;
    router.alternate("rest")?;
    let message = mint.message(Payload::json(1, "hello")?);
    let urgent = message.clone().priority(Priority::Critical);
    for (topic, message, wanted) in [
        ("game.started.room7", &message, "games"),
        ("game.started.room7", &urgent, "alarms"),
        ("weather", &message, "rest"),
    ] {
        let sent = router.route(topic, message, Durability::Applied).await?;
        let names: Vec<&str> = sent.iter().map(|one| one.destination.as_str()).collect();
        assert_eq!(names, [wanted]);
    }
    Ok(())
}
