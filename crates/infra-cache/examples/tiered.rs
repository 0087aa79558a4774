//! Two processes, played by two caches, in front of one second tier: what one removes the other does not serve.
//!
//! `cargo run -p infra-cache --example tiered`

#![allow(clippy::print_stdout, clippy::allow_attributes, reason = "an example shows what it does")]

use std::{sync::Arc, time::Duration};

use infra_cache::{BytesCache, Loaded, Options, Tiered, TieredBuilder};
use infra_core::{
    Result, SystemClock, cache::Cache, health::HealthCheck as _, lifecycle::Shutdown,
    pubsub::PubSub,
};
use infra_testkit::model::ModelPubSub;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let clock = SystemClock::shared();
    // In a service: `RedisCache::connect` for the tier, and a bus of infra-messaging.
    let second: Arc<dyn Cache> =
        Arc::new(BytesCache::new(Options::new(100_000), Arc::clone(&clock)));
    let bus: Arc<dyn PubSub> = Arc::new(ModelPubSub::new(1_000));
    let shutdown = Shutdown::new();
    let process = || -> Tiered<String> {
        let options = Options::new(10_000)
            .ttl(Duration::from_mins(1))
            .stale_on_error(Duration::from_mins(10));
        let cache = TieredBuilder::new(options, Arc::clone(&clock))
            .remote(Arc::clone(&second))
            .backplane(Arc::clone(&bus), "names", Duration::from_secs(1))
            .build();
        shutdown.spawn(cache.backplane().run(shutdown.stop()));
        cache
    };
    let (here, there) = (process(), process());
    while here.check().await.status != infra_core::health::Status::Up {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for cache in [&here, &there, &here] {
        let load = || async { Ok(Loaded::new("Ann".to_owned()).tagged("players")) };
        let read = cache.read_or_load("player:7", load).await?;
        println!("{:?} from {:?}", read.value, read.origin);
    }
    println!("removed {}", here.invalidate_tag("players").await?);
    println!("the other process has {:?}", there.get("player:7").await?);
    shutdown.close(Duration::from_secs(1)).await;
    Ok(())
}
