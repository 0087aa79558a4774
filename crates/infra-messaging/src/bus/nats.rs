//! Pub/sub over NATS.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use async_nats::{Client, ConnectOptions, Event, Subscriber, connection::State};
use async_trait::async_trait;
use bytes::Bytes;
use futures_core::Stream as _;
use infra_core::{
    Error, ErrorKind, Result,
    pubsub::{GapReason, Item, Pattern, PubSub, Subject, Subscription},
};
use parking_lot::Mutex;

use crate::{
    bus::listening::{Listening, Shared},
    bus::mailbox::Mailbox,
    telemetry::{DELIVERED, MISSED, PUBLISHED},
};

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often the server is asked whether it is there; the third time without an answer ends the link.
pub(crate) const PING: Duration = Duration::from_secs(2);

/// Where answers of the server and of clients go, which are nobody else's.
const INBOXES: &str = "_INBOX.";

/// Hands messages to the subscribers of every process that is connected to the same NATS servers.
/// Clones are the same bus.
///
/// A subscriber has a bounded mailbox of its own in this process: where it was too slow it is told
/// how many messages it missed, and where the link was down, that some may be missing. The client
/// connects again by itself. A link that is dead without a word is noticed after some seconds.
#[derive(Debug, Clone)]
pub struct NatsPubSub {
    client: Client,
    mailboxes: Arc<Mutex<Vec<Weak<Mutex<Mailbox>>>>>,
    capacity: usize,
}

fn failed(operation: &'static str, cause: impl Into<infra_core::error::BoxError>) -> Error {
    Error::new(ErrorKind::Unavailable, operation).because(cause)
}

impl NatsPubSub {
    /// Connects to a server such as `nats://localhost:4222`; at most `capacity` messages wait for
    /// each subscriber (at least one).
    ///
    /// # Errors
    ///
    /// [`Unavailable`](ErrorKind::Unavailable) if it cannot be reached.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the connection.
    pub async fn connect(url: &str, capacity: usize) -> Result<Self> {
        Self::with(ConnectOptions::new(), url, capacity).await
    }

    /// Does the same, but begins with the link down if no server can be reached yet: it connects by
    /// itself once there is one. Until then publishing and subscribing fail as they do whenever the
    /// link is down.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](ErrorKind::Unavailable) for an address that cannot be.
    ///
    /// # Cancel safety
    ///
    /// As for [`connect`](Self::connect).
    pub async fn connect_once_there(url: &str, capacity: usize) -> Result<Self> {
        Self::with(ConnectOptions::new().retry_on_initial_connect(), url, capacity).await
    }

    async fn with(options: ConnectOptions, url: &str, capacity: usize) -> Result<Self> {
        let mailboxes: Arc<Mutex<Vec<Weak<Mutex<Mailbox>>>>> = Arc::default();
        let cut = Arc::clone(&mailboxes);
        let options = options.ping_interval(PING).event_callback(move |event| {
            if matches!(event, Event::Disconnected | Event::SlowConsumer(_)) {
                interrupt(&cut, &event);
            }
            std::future::ready(())
        });
        let client = options.connect(url).await;
        let client = client.map_err(|cause| failed("connect to NATS", cause))?;
        Ok(Self { client, mailboxes, capacity })
    }

    /// Waits until the server has taken everything that was said to it before.
    async fn reach_server(&self) -> Result<()> {
        const REACH: &str = "subscribe to messages";
        let inbox = self.client.new_inbox();
        let mut echo =
            self.client.subscribe(inbox.clone()).await.map_err(|cause| failed(REACH, cause))?;
        self.client.publish(inbox, Bytes::new()).await.map_err(|cause| failed(REACH, cause))?;
        self.client.flush().await.map_err(|cause| failed(REACH, cause))?;
        match tokio::time::timeout(PATIENCE, next(&mut echo)).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(Error::new(ErrorKind::Closed, REACH)),
            Err(cause) => Err(failed(REACH, cause)),
        }
    }
}

fn interrupt(mailboxes: &Mutex<Vec<Weak<Mutex<Mailbox>>>>, event: &Event) {
    let is_cut = matches!(event, Event::Disconnected);
    let reason = if is_cut { GapReason::Disconnected } else { GapReason::Lagged };
    let open: Vec<_> = mailboxes.lock().iter().filter_map(Weak::upgrade).collect();
    for mailbox in open {
        mailbox.lock().interrupt(reason);
    }
}

async fn next(subscriber: &mut Subscriber) -> Option<async_nats::Message> {
    std::future::poll_fn(|cx| std::pin::Pin::new(&mut *subscriber).poll_next(cx)).await
}

/// Puts what arrives into a mailbox, until the connection is closed.
async fn pump(mut subscriber: Subscriber, mailbox: Shared) {
    while let Some(message) = next(&mut subscriber).await {
        if message.subject.starts_with(INBOXES) {
            continue;
        }
        // What is no subject of ours was published by somebody else.
        let Ok(subject) = Subject::new(message.subject.as_str()) else { continue };
        let item = Item::Message { subject, payload: message.payload };
        let is_put = mailbox.lock().put(item);
        if is_put { DELIVERED.add(1) } else { MISSED.add(1) }
    }
    mailbox.lock().close();
}

#[async_trait]
impl PubSub for NatsPubSub {
    async fn publish(&self, subject: &Subject, payload: Bytes) -> Result<()> {
        const PUBLISH: &str = "publish message";
        if self.client.connection_state() != State::Connected {
            return Err(Error::new(ErrorKind::Unavailable, PUBLISH).detail("the link is down"));
        }
        let said = self.client.publish(subject.as_str().to_owned(), payload).await;
        said.map_err(|cause| failed(PUBLISH, cause))?;
        PUBLISHED.add(1);
        Ok(())
    }

    async fn subscribe(&self, pattern: &Pattern) -> Result<Subscription> {
        let subscriber = self.client.subscribe(pattern.as_str().to_owned()).await;
        let subscriber = subscriber.map_err(|cause| failed("subscribe to messages", cause))?;
        let mailbox = Arc::new(Mutex::new(Mailbox::new(self.capacity)));
        {
            let mut mailboxes = self.mailboxes.lock();
            mailboxes.retain(|mailbox| 0 < mailbox.strong_count());
            mailboxes.push(Arc::downgrade(&mailbox));
        }
        let pump = tokio::spawn(pump(subscriber, Arc::clone(&mailbox))).abort_handle();
        let listening = Listening::new(mailbox, pump);
        self.reach_server().await?;
        Ok(Box::pin(listening))
    }
}
