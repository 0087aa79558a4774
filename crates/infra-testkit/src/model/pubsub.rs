//! The bus as the contract reads: one list of all messages, and a place in it for each subscriber.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::Stream;
use infra_core::{
    Result,
    pubsub::{GapReason, Item, Pattern, PubSub, Subject, Subscription},
};
use parking_lot::Mutex;

/// Keeps every message for ever, but lets a subscriber lag by a few only.
#[derive(Debug)]
pub struct ModelPubSub {
    state: Arc<Mutex<State>>,
    capacity: usize,
}

#[derive(Debug, Default)]
struct State {
    messages: Vec<(Subject, Bytes)>,
    wakers: Vec<Waker>,
}

impl ModelPubSub {
    /// Creates a bus where `capacity` messages may wait for a subscriber.
    pub fn new(capacity: usize) -> Self {
        Self { state: Arc::default(), capacity }
    }
}

#[async_trait]
impl PubSub for ModelPubSub {
    async fn publish(&self, subject: &Subject, payload: Bytes) -> Result<()> {
        let mut state = self.state.lock();
        state.messages.push((subject.clone(), payload));
        state.wakers.drain(..).for_each(Waker::wake);
        Ok(())
    }

    async fn subscribe(&self, pattern: &Pattern) -> Result<Subscription> {
        let next = self.state.lock().messages.len();
        let (state, capacity) = (Arc::clone(&self.state), self.capacity);
        Ok(Box::pin(Listening { state, pattern: pattern.clone(), next, capacity }))
    }
}

struct Listening {
    state: Arc<Mutex<State>>,
    pattern: Pattern,
    next: usize,
    capacity: usize,
}

impl Stream for Listening {
    type Item = Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        let state = Arc::clone(&self.state);
        let mut state = state.lock();
        let waiting = state.messages.iter().enumerate().skip(self.next);
        let waiting: Vec<usize> = waiting
            .filter(|(_, (subject, _))| self.pattern.admits(subject))
            .map(|(place, _)| place)
            .collect();
        let missed = waiting.len().saturating_sub(self.capacity);
        if let Some(last) = missed.checked_sub(1).and_then(|place| waiting.get(place)) {
            self.next = last + 1;
            let missed = Some(missed as u64);
            return Poll::Ready(Some(Item::Gap { reason: GapReason::Lagged, missed }));
        }
        let first = waiting.first().and_then(|place| Some((*place, state.messages.get(*place)?)));
        if let Some((place, (subject, payload))) = first {
            self.next = place + 1;
            let (subject, payload) = (subject.clone(), payload.clone());
            return Poll::Ready(Some(Item::Message { subject, payload }));
        }
        state.wakers.push(cx.waker().clone());
        Poll::Pending
    }
}
