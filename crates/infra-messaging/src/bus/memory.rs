//! Pub/sub within a process.

use std::{
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::Stream;
use infra_core::{
    Error, ErrorKind, Result,
    pubsub::{Item, Pattern, PubSub, Subject, Subscription},
};
use parking_lot::{Mutex, RwLock};

use crate::{
    bus::mailbox::Mailbox,
    telemetry::{DELIVERED, MISSED, PUBLISHED},
};

/// Hands messages to the subscribers of one process. Clones are the same bus.
///
/// A message costs as many comparisons as there are subscribers; its bytes are shared, not copied.
#[derive(Debug, Clone)]
pub struct MemoryPubSub {
    listeners: Arc<RwLock<Option<Vec<Listener>>>>,
    capacity: usize,
}

/// A subscriber, as the bus knows it.
#[derive(Debug)]
struct Listener {
    pattern: Pattern,
    mailbox: Arc<Mutex<Mailbox>>,
}

/// A subscriber's end.
#[derive(Debug)]
struct Listening {
    mailbox: Arc<Mutex<Mailbox>>,
    listeners: Weak<RwLock<Option<Vec<Listener>>>>,
}

impl MemoryPubSub {
    /// Creates a bus where at most `capacity` messages wait for each subscriber (at least one).
    pub fn new(capacity: usize) -> Self {
        Self { listeners: Arc::new(RwLock::new(Some(Vec::new()))), capacity }
    }

    /// Ends the bus: subscriptions end after what waits for them, and nothing more is taken.
    pub fn close(&self) {
        for listener in self.listeners.write().take().into_iter().flatten() {
            listener.mailbox.lock().close();
        }
    }

    /// Returns how many subscriptions there are.
    pub fn subscribers(&self) -> usize {
        self.listeners.read().as_ref().map_or(0, Vec::len)
    }
}

fn closed(operation: &'static str) -> Error {
    Error::new(ErrorKind::Closed, operation)
}

#[async_trait]
impl PubSub for MemoryPubSub {
    async fn publish(&self, subject: &Subject, payload: Bytes) -> Result<()> {
        let listeners = self.listeners.read();
        let listeners = listeners.as_ref().ok_or_else(|| closed("publish message"))?;
        PUBLISHED.add(1);
        for listener in listeners.iter().filter(|listener| listener.pattern.admits(subject)) {
            let message = Item::Message { subject: subject.clone(), payload: payload.clone() };
            let is_put = listener.mailbox.lock().put(message);
            if is_put { DELIVERED.add(1) } else { MISSED.add(1) }
        }
        Ok(())
    }

    async fn subscribe(&self, pattern: &Pattern) -> Result<Subscription> {
        let mut listeners = self.listeners.write();
        let list = listeners.as_mut().ok_or_else(|| closed("subscribe to messages"))?;
        let mailbox = Arc::new(Mutex::new(Mailbox::new(self.capacity)));
        list.push(Listener { pattern: pattern.clone(), mailbox: Arc::clone(&mailbox) });
        Ok(Box::pin(Listening { mailbox, listeners: Arc::downgrade(&self.listeners) }))
    }
}

impl Stream for Listening {
    type Item = Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        self.mailbox.lock().poll(cx)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let Some(listeners) = self.listeners.upgrade() else { return };
        if let Some(list) = listeners.write().as_mut() {
            list.retain(|listener| !Arc::ptr_eq(&listener.mailbox, &self.mailbox));
        }
    }
}
