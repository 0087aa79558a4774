//! A work queue: four workers, a task that fails twice, and one that never succeeds.

use std::{sync::Arc, time::Duration};

use infra_core::{
    Result, SystemClock, codec::Payload, durability::Durability, id::QueueName,
    lifecycle::Shutdown, queue::Queue as _, random::Random,
};
use infra_messaging::{
    MemoryQueue, Mint, Options,
    handler::{Failure, Job, Schedule, Worker},
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let clock = SystemClock::shared();
    let queue = MemoryQueue::new(QueueName::new("work")?, Options::new(100), Arc::clone(&clock));
    let mint = Mint::new(clock, Random::from_system());
    for task in ["paint", "flaky", "polish", "impossible"] {
        queue.publish(vec![mint.message(Payload::json(1, task)?)], Durability::Applied).await?;
    }
    queue.drain(); // The example ends when everything is done.
    let work = tower::service_fn(|job: Job| async move {
        match (job.message.payload.decode::<String>()?.as_str(), job.attempts.deliveries) {
            ("flaky", 1 | 2) => Err(Failure::Retryable("not yet".to_owned())),
            ("impossible", _) => Err(Failure::Permanent("cannot be done".to_owned())),
            _ => Ok(()),
        }
    });
    let retries = Schedule::exponential(Duration::from_millis(10), 2.0, 3);
    let worker = Worker::new(Arc::new(queue.clone()), work)
        .concurrency(4)
        .schedule(retries, Random::from_system());
    let tally = worker.run(Shutdown::new().stop()).await?;
    assert_eq!((tally.done, tally.retried, tally.dead), (3, 2, 1));
    let dead = queue.dead_letters(10).await?;
    assert_eq!(dead.first().map(|letter| letter.reason.as_str()), Some("cannot be done"));
    Ok(())
}
