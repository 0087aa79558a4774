//! Pub/sub over Redis.

use std::{sync::Arc, time::Duration};

use ::redis::{Client, Msg, aio::ConnectionManager};
use async_trait::async_trait;
use bytes::Bytes;
use futures_core::Stream;
use infra_core::{
    Error, ErrorKind, Result,
    backoff::Backoff,
    pubsub::{GapReason, Item, Pattern, PubSub, Subject, Subscription},
};
use parking_lot::Mutex;

use crate::{
    bus::listening::{Listening, Shared},
    bus::mailbox::Mailbox,
    telemetry::{DELIVERED, MISSED, PUBLISHED},
};

/// Hands messages to the subscribers of every process that uses the same Redis server. Clones are
/// the same bus.
///
/// Each subscription has a connection and a bounded mailbox of its own: where it was too slow it is
/// told how many messages it missed, and where the link was down, that some may be missing; it
/// connects again by itself. Redis's patterns are wider than ours, so what they admit beyond ours is
/// dropped here.
#[derive(Clone)]
pub struct RedisPubSub {
    client: Client,
    connection: ConnectionManager,
    capacity: usize,
}

impl std::fmt::Debug for RedisPubSub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisPubSub").field("capacity", &self.capacity).finish_non_exhaustive()
    }
}

fn failed(operation: &'static str, cause: ::redis::RedisError) -> Error {
    Error::new(ErrorKind::Unavailable, operation).because(cause)
}

impl RedisPubSub {
    /// Connects to a server such as `redis://localhost:6379`; at most `capacity` messages wait for
    /// each subscriber (at least one).
    ///
    /// # Errors
    ///
    /// [`Invalid`](ErrorKind::Invalid) if it is no such URL,
    /// [`Unavailable`](ErrorKind::Unavailable) if it cannot be reached.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the connection.
    pub async fn connect(url: &str, capacity: usize) -> Result<Self> {
        const CONNECT: &str = "connect to Redis";
        let client = Client::open(url)
            .map_err(|cause| Error::new(ErrorKind::Invalid, CONNECT).because(cause))?;
        let connection = ConnectionManager::new(client.clone()).await;
        let connection = connection.map_err(|cause| failed(CONNECT, cause))?;
        Ok(Self { client, connection, capacity })
    }
}

/// Returns Redis's glob for a pattern: a little wider, since its `*` also stands for dots.
fn glob(pattern: &Pattern) -> String {
    let tokens = pattern.as_str().split('.').map(|token| match token {
        "*" | ">" => "*".to_owned(),
        word => word
            .chars()
            .flat_map(|letter| {
                let is_special = matches!(letter, '?' | '[' | ']' | '\\' | '^' | '-');
                is_special.then_some('\\').into_iter().chain([letter])
            })
            .collect(),
    });
    tokens.collect::<Vec<_>>().join(".")
}

type Messages = std::pin::Pin<Box<dyn Stream<Item = Msg> + Send>>;

async fn listen(client: &Client, pattern: &Pattern) -> Result<Messages> {
    const LISTEN: &str = "subscribe to messages";
    let mut link = client.get_async_pubsub().await.map_err(|cause| failed(LISTEN, cause))?;
    link.psubscribe(glob(pattern)).await.map_err(|cause| failed(LISTEN, cause))?;
    Ok(Box::pin(link.into_on_message()))
}

/// Puts what arrives into a mailbox, and connects again whenever the link ends.
async fn pump(client: Client, pattern: Pattern, mut messages: Messages, mailbox: Shared) {
    let backoff = Backoff::exponential(Duration::from_millis(50)).capped_at(Duration::from_secs(2));
    loop {
        while let Some(message) = std::future::poll_fn(|cx| messages.as_mut().poll_next(cx)).await {
            deliver(&pattern, &message, &mailbox);
        }
        mailbox.lock().interrupt(GapReason::Disconnected);
        let mut tries = 1;
        messages = loop {
            match listen(&client, &pattern).await {
                Ok(messages) => break messages,
                Err(_) => tokio::time::sleep(backoff.pause_before(tries)).await,
            }
            tries += 1;
        };
        // Until here messages may have passed by.
        mailbox.lock().interrupt(GapReason::Disconnected);
    }
}

fn deliver(pattern: &Pattern, message: &Msg, mailbox: &Shared) {
    // What is no subject of ours was published by somebody else.
    let Ok(subject) = Subject::new(message.get_channel_name()) else { return };
    if !pattern.admits(&subject) {
        return;
    }
    let payload = Bytes::copy_from_slice(message.get_payload_bytes());
    let is_put = mailbox.lock().put(Item::Message { subject, payload });
    if is_put { DELIVERED.add(1) } else { MISSED.add(1) }
}

#[async_trait]
impl PubSub for RedisPubSub {
    async fn publish(&self, subject: &Subject, payload: Bytes) -> Result<()> {
        let mut connection = self.connection.clone();
        let mut publish = ::redis::cmd("PUBLISH");
        publish.arg(subject.as_str()).arg(payload.as_ref());
        let said: ::redis::RedisResult<i64> = publish.query_async(&mut connection).await;
        said.map_err(|cause| failed("publish message", cause))?;
        PUBLISHED.add(1);
        Ok(())
    }

    async fn subscribe(&self, pattern: &Pattern) -> Result<Subscription> {
        let messages = listen(&self.client, pattern).await?;
        let mailbox = Arc::new(Mutex::new(Mailbox::new(self.capacity)));
        let (client, pattern) = (self.client.clone(), pattern.clone());
        let pump = tokio::spawn(pump(client, pattern, messages, Arc::clone(&mailbox)));
        Ok(Box::pin(Listening::new(mailbox, pump.abort_handle())))
    }
}
