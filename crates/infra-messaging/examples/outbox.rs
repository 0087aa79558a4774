//! An outbox: a document and the message about it are committed together, and relayed.

use std::{sync::Arc, time::Duration};

use infra_core::{
    Result, SystemClock,
    codec::Payload,
    id::{Collection, QueueName},
    lifecycle::Shutdown,
    queue::Queue as _,
    random::Random,
    store::{Batch, DocumentStore},
    version::Expected,
};
use infra_messaging::{DurableQueue, Mint, Options, outbox::DocumentRelay};
use infra_testkit::model::ModelDocuments;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let clock = SystemClock::shared();
    // Any document store will do; queue, documents and outbox may share one.
    let store: Arc<dyn DocumentStore> = Arc::new(ModelDocuments::new(Arc::clone(&clock)));
    let (name, options) = (QueueName::new("mail")?, Options::new(1_000));
    let queue = DurableQueue::open(Arc::clone(&store), name, options, Arc::clone(&clock)).await?;
    let relay = DocumentRelay::new("mail", Arc::clone(&store), Arc::new(queue.clone()))?;
    let shutdown = Shutdown::new();
    let (relaying, stop) = (relay.clone(), shutdown.stop());
    let running = tokio::spawn(async move { relaying.run(stop).await });

    let welcome = Mint::new(clock, Random::from_system()).message(Payload::json(1, "welcome")?);
    let batch = Batch::new()
        .put(Collection::new("players")?, "ann", Expected::Absent, Payload::json(1, "Ann")?)
        .write(relay.row(&welcome)?);
    store.commit(batch).await?;
    relay.nudge();

    for delivery in queue.receive(1, Duration::from_secs(30)).await? {
        assert_eq!(delivery.message().payload, welcome.payload);
        delivery.ack().await?;
    }
    shutdown.begin();
    if let Ok(ended) = running.await {
        ended?;
    }
    Ok(())
}
