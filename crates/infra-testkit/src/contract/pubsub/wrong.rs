//! Buses that are wrong on purpose: each has one bug that a clause must catch.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::Stream;
use infra_core::{
    Result,
    pubsub::{Item, Pattern, PubSub, Subject, Subscription},
};

/// A planted bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// Each tenth message is published twice.
    Twice,
    /// Gaps are not told.
    Silent,
    /// The first message after the subscription is lost.
    Late,
    /// Every subscriber sees everything.
    Unmatched,
    /// A publisher waits for ever after many messages.
    Hindered,
}

impl Bug {
    /// Every bug, and the clause that catches it.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::Twice, "at_most_once_and_in_order"),
        (Self::Silent, "never_silent"),
        (Self::Late, "from_now_on"),
        (Self::Unmatched, "matched"),
        (Self::Hindered, "unhindered"),
    ];
}

/// A right bus with a planted bug.
#[derive(Debug)]
pub struct Wrong {
    right: Arc<dyn PubSub>,
    bug: Bug,
    published: AtomicU64,
}

impl Wrong {
    /// Plants a bug into a right bus.
    pub fn plant(right: Arc<dyn PubSub>, bug: Bug) -> Arc<dyn PubSub> {
        Arc::new(Self { right, bug, published: AtomicU64::new(0) })
    }
}

#[async_trait]
impl PubSub for Wrong {
    async fn publish(&self, subject: &Subject, payload: Bytes) -> Result<()> {
        let count = self.published.fetch_add(1, Ordering::SeqCst);
        if self.bug == Bug::Hindered && 500 < count {
            std::future::pending::<()>().await;
        }
        if self.bug == Bug::Twice && count.is_multiple_of(10) {
            self.right.publish(subject, payload.clone()).await?;
        }
        self.right.publish(subject, payload).await
    }

    async fn subscribe(&self, pattern: &Pattern) -> Result<Subscription> {
        let everything = Pattern::new(">")?;
        let pattern = if self.bug == Bug::Unmatched { &everything } else { pattern };
        let right = self.right.subscribe(pattern).await?;
        let skips = u32::from(self.bug == Bug::Late);
        Ok(Box::pin(WrongListening { right, skips, is_silent: self.bug == Bug::Silent }))
    }
}

/// A subscription that leaves things out.
struct WrongListening {
    right: Subscription,
    skips: u32,
    is_silent: bool,
}

impl Stream for WrongListening {
    type Item = Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        loop {
            let item = self.right.as_mut().poll_next(cx);
            match &item {
                Poll::Ready(Some(Item::Gap { .. })) if self.is_silent => {}
                Poll::Ready(Some(Item::Message { .. })) if 0 < self.skips => self.skips -= 1,
                Poll::Ready(_) | Poll::Pending => return item,
            }
        }
    }
}
