//! A message bus that loses, repeats and turns around what it is given.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use infra_core::{
    Result,
    pubsub::{Pattern, PubSub, Subject, Subscription},
};
use infra_testkit::model::ModelPubSub;
use parking_lot::Mutex;

/// How many messages are spoilt at a time.
const FEW: usize = 4;

/// What happens to the next messages.
#[derive(Debug, Default)]
enum Mood {
    #[default]
    Honest,
    /// So many are lost.
    Loses(usize),
    /// They are held until there are a few, and then come in the wrong order, the first one twice.
    Holds(Vec<(Subject, Bytes)>),
}

#[derive(Debug)]
pub(super) struct Bus {
    inner: Arc<ModelPubSub>,
    mood: Mutex<Mood>,
}

impl Bus {
    pub(super) fn new() -> Self {
        Self { inner: Arc::new(ModelPubSub::new(1_000)), mood: Mutex::default() }
    }

    pub(super) fn lose(&self) {
        *self.mood.lock() = Mood::Loses(FEW);
    }

    pub(super) fn hold(&self) {
        *self.mood.lock() = Mood::Holds(Vec::new());
    }

    pub(super) fn calm(&self) {
        // What was held is lost; who waits for it finds out by the next check.
        *self.mood.lock() = Mood::Honest;
    }

    /// Returns what is to be passed on now.
    fn pass(&self, subject: &Subject, payload: Bytes) -> Vec<(Subject, Bytes)> {
        let mut mood = self.mood.lock();
        match &mut *mood {
            Mood::Honest => vec![(subject.clone(), payload)],
            Mood::Loses(0) => {
                *mood = Mood::Honest;
                vec![(subject.clone(), payload)]
            }
            Mood::Loses(left) => {
                *left -= 1;
                Vec::new()
            }
            Mood::Holds(held) => {
                held.push((subject.clone(), payload));
                if held.len() < FEW {
                    return Vec::new();
                }
                let first = held[0].clone();
                let mut turned = std::mem::take(held);
                turned.reverse();
                turned.push(first);
                *mood = Mood::Honest;
                turned
            }
        }
    }
}

#[async_trait]
impl PubSub for Bus {
    async fn publish(&self, subject: &Subject, payload: Bytes) -> Result<()> {
        for (subject, payload) in self.pass(subject, payload) {
            self.inner.publish(&subject, payload).await?;
        }
        Ok(())
    }

    async fn subscribe(&self, pattern: &Pattern) -> Result<Subscription> {
        self.inner.subscribe(pattern).await
    }
}
