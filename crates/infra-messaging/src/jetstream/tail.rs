//! Reads a log as it grows.

use std::{future::Future, pin::Pin, time::Duration};

use async_nats::jetstream::consumer::{
    AckPolicy, DeliverPolicy,
    pull::{Config, Stream},
};
use bytes::Bytes;
use futures_core::Stream as _;
use infra_core::Result;

use super::server::{Link, failed};

/// How long is waited before it is tried again to read.
const PAUSE: Duration = Duration::from_millis(200);

/// How often the server says that it is there.
const HEARTBEAT: Duration = Duration::from_secs(5);

type Opening = Pin<Box<dyn Future<Output = Result<Stream>> + Send>>;

/// A reader of the log that begins after some entry.
pub(super) enum Tail {
    Opening(Opening),
    Open(Box<Stream>),
}

impl Tail {
    /// Reads what comes after the sequence `after`.
    pub(super) fn after(link: &Link, after: u64) -> Self {
        Self::Opening(Box::pin(open(link.clone(), after)))
    }

    fn again(link: &Link, after: u64) -> Self {
        let link = link.clone();
        Self::Opening(Box::pin(async move {
            tokio::time::sleep(PAUSE).await;
            open(link, after).await
        }))
    }

    /// Waits for the next entry, and begins anew after `after` whenever the reading breaks off.
    ///
    /// Dropping the future loses nothing: how far it came is kept here.
    pub(super) async fn next(&mut self, link: &Link, after: u64) -> (u64, Bytes) {
        loop {
            *self = match self {
                Self::Opening(opening) => match opening.await {
                    Ok(stream) => Self::Open(Box::new(stream)),
                    Err(_) => Self::again(link, after),
                },
                Self::Open(stream) => {
                    let heard = std::future::poll_fn(|cx| Pin::new(&mut **stream).poll_next(cx));
                    let Some(Ok(message)) = heard.await else {
                        *self = Self::again(link, after);
                        continue;
                    };
                    if let Ok(info) = message.info() {
                        return (info.stream_sequence, message.message.payload);
                    }
                    Self::again(link, after)
                }
            };
        }
    }
}

async fn open(link: Link, after: u64) -> Result<Stream> {
    const READ: &str = "read log of queue";
    let config = Config {
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: after + 1 },
        ack_policy: AckPolicy::None,
        filter_subject: link.log(),
        // Who reads it is gone if it does not ask any more.
        inactive_threshold: Duration::from_mins(1),
        memory_storage: true,
        ..Config::default()
    };
    let consumer = link.context.create_consumer_on_stream(config, &link.stream).await;
    let consumer = consumer.map_err(|cause| failed(READ, cause))?;
    let stream = consumer.stream().heartbeat(HEARTBEAT).expires(HEARTBEAT * 6).messages().await;
    stream.map_err(|cause| failed(READ, cause))
}
