//! Pub/sub over Redis.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ::redis::{
    AsyncConnectionConfig, Client, Msg, Value,
    aio::{MultiplexedConnection, PubSubSink, PubSubStream},
};
use async_trait::async_trait;
use bytes::Bytes;
use futures_core::Stream as _;
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

const CONNECT: &str = "connect to Redis";

/// How long the server may take to answer, or to be reached.
const PATIENCE: Duration = Duration::from_secs(1);

/// After how long without a message a subscription asks the server whether it is there.
const QUIET: Duration = Duration::from_secs(2);

/// Hands messages to the subscribers of every process that uses the same Redis server. Clones are
/// the same bus.
///
/// Each subscription has a connection and a bounded mailbox of its own: where it was too slow it is
/// told how many messages it missed, and where the link was down, that some may be missing; it
/// connects again by itself. A link that is dead without a word, as behind a router that was
/// switched off, is noticed after three seconds. Redis's patterns are wider than ours, so what they
/// admit beyond ours is dropped here.
#[derive(Debug, Clone)]
pub struct RedisPubSub {
    client: Client,
    line: Arc<Line>,
    capacity: usize,
}

/// The connection that publishes, if there is one that answers.
#[derive(Default)]
struct Line {
    open: Mutex<Option<Arc<MultiplexedConnection>>>,
    /// Held by the one who connects.
    connecting: tokio::sync::Mutex<()>,
    /// How often connecting failed.
    failures: AtomicU64,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Line").field("is_open", &self.open.lock().is_some()).finish_non_exhaustive()
    }
}

impl Line {
    /// Returns the connection; of many callers that find none one makes it, and if that fails it has
    /// failed for all who waited for it: none waits for a second try.
    async fn get(&self, client: &Client) -> Result<Arc<MultiplexedConnection>> {
        let open = || self.open.lock().clone();
        if let Some(line) = open() {
            return Ok(line);
        }
        let failures = self.failures.load(Ordering::SeqCst);
        let _one = self.connecting.lock().await;
        if let Some(line) = open() {
            return Ok(line);
        }
        if self.failures.load(Ordering::SeqCst) != failures {
            return Err(Error::new(ErrorKind::Unavailable, CONNECT).detail("it failed just now"));
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        let made = client.get_multiplexed_async_connection_with_config(&config).await;
        let made = Arc::new(made.map_err(|cause| {
            self.failures.fetch_add(1, Ordering::SeqCst);
            failed(CONNECT, cause)
        })?);
        *self.open.lock() = Some(Arc::clone(&made));
        Ok(made)
    }

    /// Gives a connection up that did not answer, unless there is another one already.
    fn broke(&self, line: &Arc<MultiplexedConnection>) {
        self.open.lock().take_if(|open| Arc::ptr_eq(open, line));
    }

    async fn publish(&self, client: &Client, subject: &Subject, payload: &[u8]) -> Result<()> {
        let line = self.get(client).await?;
        let mut publish = ::redis::cmd("PUBLISH");
        publish.arg(subject.as_str()).arg(payload);
        let said: ::redis::RedisResult<i64> =
            publish.query_async(&mut MultiplexedConnection::clone(&line)).await;
        said.map_err(|cause| {
            if cause.is_io_error() || cause.is_unrecoverable_error() {
                self.broke(&line);
            }
            failed("publish message", cause)
        })?;
        PUBLISHED.add(1);
        Ok(())
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
        let client = Client::open(url)
            .map_err(|cause| Error::new(ErrorKind::Invalid, CONNECT).because(cause))?;
        let line = Arc::new(Line::default());
        line.get(&client).await?;
        Ok(Self { client, line, capacity })
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

/// A connection that listens.
struct Ear {
    asking: PubSubSink,
    messages: PubSubStream,
}

impl Ear {
    async fn open(client: &Client, pattern: &Pattern) -> Result<Self> {
        const LISTEN: &str = "subscribe to messages";
        let opening = async {
            let mut link = client.get_async_pubsub().await?;
            link.psubscribe(glob(pattern)).await?;
            Ok(link.split())
        };
        let late = |_| Error::new(ErrorKind::Unavailable, LISTEN).detail("no answer from Redis");
        let opened = tokio::time::timeout(2 * PATIENCE, opening).await.map_err(late)?;
        let (asking, messages) = opened.map_err(|cause| failed(LISTEN, cause))?;
        Ok(Self { asking, messages })
    }

    /// Returns the next message, or nothing once the link has ended or died.
    async fn next(&mut self) -> Option<Msg> {
        loop {
            let messages = &mut self.messages;
            let next = std::future::poll_fn(|cx| std::pin::Pin::new(&mut *messages).poll_next(cx));
            if let Ok(heard) = tokio::time::timeout(QUIET, next).await {
                return heard;
            }
            let ping = self.asking.ping::<Value>();
            tokio::time::timeout(PATIENCE, ping).await.ok()?.ok()?;
        }
    }
}

/// Puts what arrives into a mailbox, and connects again whenever the link ends.
async fn pump(client: Client, pattern: Pattern, mut ear: Ear, mailbox: Shared) {
    let backoff = Backoff::exponential(Duration::from_millis(50)).capped_at(Duration::from_secs(2));
    loop {
        while let Some(message) = ear.next().await {
            deliver(&pattern, &message, &mailbox);
        }
        mailbox.lock().interrupt(GapReason::Disconnected);
        let mut tries = 1;
        ear = loop {
            match Ear::open(&client, &pattern).await {
                Ok(ear) => break ear,
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
        let (client, line, subject) =
            (self.client.clone(), Arc::clone(&self.line), subject.clone());
        // Who loses patience must not leave a dead connection behind for the others.
        let publish = async move { line.publish(&client, &subject, &payload).await };
        tokio::spawn(publish).await.unwrap_or_else(|cause| {
            Err(Error::new(ErrorKind::Internal, "publish message").because(cause))
        })
    }

    async fn subscribe(&self, pattern: &Pattern) -> Result<Subscription> {
        let ear = Ear::open(&self.client, pattern).await?;
        let mailbox = Arc::new(Mutex::new(Mailbox::new(self.capacity)));
        let (client, pattern) = (self.client.clone(), pattern.clone());
        let pump = tokio::spawn(pump(client, pattern, ear, Arc::clone(&mailbox)));
        Ok(Box::pin(Listening::new(mailbox, pump.abort_handle())))
    }
}
