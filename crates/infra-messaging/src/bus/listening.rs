//! A subscriber's end of a bus that lives on a server.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_core::Stream;
use infra_core::pubsub::Item;
use parking_lot::Mutex;
use tokio::task::AbortHandle;

use crate::bus::mailbox::Mailbox;

/// What a pump fills: a mailbox that is shared with the subscription.
pub(crate) type Shared = Arc<Mutex<Mailbox>>;

/// A subscription whose mailbox a task fills; the task ends with it.
#[derive(Debug)]
pub(crate) struct Listening {
    mailbox: Shared,
    pump: AbortHandle,
}

impl Listening {
    pub(crate) const fn new(mailbox: Shared, pump: AbortHandle) -> Self {
        Self { mailbox, pump }
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
        self.pump.abort();
    }
}
