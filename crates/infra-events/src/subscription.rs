//! Subscriptions: catch up from the store, then follow its head, with a bounded buffer.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use async_trait::async_trait;
use futures_core::Stream;
use infra_core::{
    Result,
    event::{EventPage, Filter, Subscription, SubscriptionItem},
    version::Position,
};
use tokio::sync::{mpsc, watch};

/// How many items may wait for a subscriber; a slower one is read to again from the store.
const BUFFER: usize = 64;

/// How many events are read at a time.
const PAGE: usize = 256;

/// What a subscription reads from.
#[async_trait]
pub(crate) trait Source: Send + Sync + 'static {
    async fn page(&self, after: Position, filter: &Filter, limit: usize) -> Result<EventPage>;
}

/// Starts a subscription; it ends when it is dropped, fails, or `head` is closed.
pub(crate) fn start(
    source: Arc<dyn Source>,
    head: watch::Receiver<Position>,
    after: Position,
    filter: Filter,
) -> Subscription {
    let (sender, receiver) = mpsc::channel(BUFFER);
    tokio::spawn(follow(source, head, after, filter, sender));
    Box::pin(Items(receiver))
}

struct Items(mpsc::Receiver<Result<SubscriptionItem>>);

impl Stream for Items {
    type Item = Result<SubscriptionItem>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx)
    }
}

async fn follow(
    source: Arc<dyn Source>,
    mut head: watch::Receiver<Position>,
    mut after: Position,
    filter: Filter,
    sender: mpsc::Sender<Result<SubscriptionItem>>,
) {
    let mut has_caught_up = false;
    loop {
        let page = match source.page(after, &filter, PAGE).await {
            Ok(page) => page,
            Err(error) => {
                // Nobody is there to hear it if the subscriber has gone.
                let _heard = sender.send(Err(error)).await.is_ok();
                return;
            }
        };
        let EventPage { events, read_to, is_end } = page;
        let mut items: Vec<_> =
            events.into_iter().map(|event| SubscriptionItem::Event(Box::new(event))).collect();
        if after < read_to {
            items.push(SubscriptionItem::Checkpoint(read_to));
        }
        if is_end && !has_caught_up {
            has_caught_up = true;
            items.push(SubscriptionItem::CaughtUp(read_to));
        }
        after = read_to;
        for item in items {
            if sender.send(Ok(item)).await.is_err() {
                return;
            }
        }
        if !is_end {
            continue;
        }
        tokio::select! {
            () = sender.closed() => return,
            changed = head.wait_for(|head| after < *head) => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}
