//! Subscriptions: catch up from the store, then follow its head, with a bounded buffer.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use futures_core::Stream;
use infra_core::{
    Result,
    backoff::Backoff,
    event::{EventPage, Filter, Subscription, SubscriptionItem},
    version::Position,
};
use tokio::sync::{mpsc, watch};

/// How many items may wait for a subscriber; a slower one is read to again from the store.
const BUFFER: usize = 64;

/// How many events are read at a time.
const PAGE: usize = 256;

/// How often a page is read before the subscription ends with the error.
const TRIES: u32 = 12;

/// What a subscription reads from.
#[async_trait]
pub(crate) trait Source: Send + Sync + 'static {
    async fn page(&self, after: Position, filter: &Filter, limit: usize) -> Result<EventPage>;

    /// Waits until something may lie after a position; `false` if nothing ever will.
    async fn changed(&self, after: Position) -> bool;
}

/// Waits until a head is beyond a position; `false` if nobody moves it any more.
pub(crate) async fn beyond(head: &watch::Receiver<Position>, after: Position) -> bool {
    head.clone().wait_for(|head| after < *head).await.is_ok()
}

/// Starts a subscription; it ends when it is dropped, fails, or nothing more can come.
pub(crate) fn start(source: Arc<dyn Source>, after: Position, filter: Filter) -> Subscription {
    let (sender, receiver) = mpsc::channel(BUFFER);
    tokio::spawn(follow(source, after, filter, sender));
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
    mut after: Position,
    filter: Filter,
    sender: mpsc::Sender<Result<SubscriptionItem>>,
) {
    let mut has_caught_up = false;
    loop {
        let page = tokio::select! {
            page = patiently(source.as_ref(), after, &filter) => page,
            () = sender.closed() => return,
        };
        let page = match page {
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
            changed = source.changed(after) => {
                if !changed {
                    return;
                }
            }
        }
    }
}

/// Reads a page, and tries again what may succeed later.
async fn patiently(source: &dyn Source, after: Position, filter: &Filter) -> Result<EventPage> {
    let backoff = Backoff::exponential(Duration::from_millis(20)).capped_at(Duration::from_secs(5));
    for attempt in 1..TRIES {
        match source.page(after, filter, PAGE).await {
            Err(error) if error.is_transient() => {
                tracing::debug!(error = &error as &dyn std::error::Error, "page is read again");
                tokio::time::sleep(backoff.pause_before(attempt)).await;
            }
            page => return page,
        }
    }
    source.page(after, filter, PAGE).await
}
