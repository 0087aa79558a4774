//! The ports of infra-core: whatever stands behind them, it must answer a harmless question.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use infra_core::{
    Error, ErrorKind,
    cache::{Cache, CacheExt as _},
    event::EventStore,
    health::{Finding, HealthCheck},
    id::Collection,
    pubsub::{PubSub, Subject},
    store::DocumentStore,
};

macro_rules! check {
    ($(#[$doc:meta])* $name:ident, $port:ident, $called:literal, |$at:ident| $ask:expr) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name(Arc<dyn $port>);

        impl $name {
            /// Watches this port.
            pub fn new(port: Arc<dyn $port>) -> Self {
                Self(port)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_tuple(stringify!($name)).finish()
            }
        }

        #[async_trait]
        impl HealthCheck for $name {
            fn name(&self) -> &'static str {
                $called
            }

            async fn check(&self) -> Finding {
                let $at = &self.0;
                judge($ask.await.map(drop))
            }
        }
    };
}

check! {
    /// Whether a store of documents answers: it is asked for a document that is not there.
    Documents, DocumentStore, "documents", |store| async {
        store.get(&Collection::new("infra.health")?, b"probe").await
    }
}

check! {
    /// Whether a store of events answers: it is asked how far it is.
    Events, EventStore, "events", |store| store.stable_head()
}

check! {
    /// Whether a cache answers: it is asked for a value that is not there.
    CacheTier, Cache, "cache", |cache| cache.get("infra.health.probe")
}

check! {
    /// Whether a bus takes messages: it is given one that nobody waits for.
    Bus, PubSub, "bus", |bus| async {
        bus.publish(&Subject::new("infra.health.probe")?, Bytes::new()).await
    }
}

fn judge(answer: Result<(), Error>) -> Finding {
    match answer {
        Ok(()) => Finding::up(),
        Err(error)
            if matches!(error.kind(), ErrorKind::Throttled { .. } | ErrorKind::Overloaded) =>
        {
            Finding::degraded(error.to_string())
        }
        Err(error) => Finding::down(error.to_string()),
    }
}
