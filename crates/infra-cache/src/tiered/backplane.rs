//! The backplane: processes tell each other what they removed.

use std::{
    fmt::{self, Debug},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use infra_core::{
    Error, Result,
    clock::Instant,
    codec::{Codec, Json},
    lifecycle::Stop,
    pubsub::{Item, Pattern, PubSub, Subject, Subscription},
    random::Random,
};
use serde::{Deserialize, Serialize};

use super::{Shared, Tiered};
use crate::{
    entry::at,
    telemetry::{HEARD, Heard},
};

/// What was removed; it carries no value, so it may come twice and in any order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Removal {
    Keys(Vec<String>),
    Tag(String),
    Everything,
    /// Nothing: the sender listens to whether the bus works.
    Beat(u64),
}

/// A message: who sent it, and what it says.
#[derive(Debug, Serialize, Deserialize)]
struct Message {
    from: u64,
    removed: Removal,
}

/// The bus, as one cache uses it.
#[derive(Debug)]
pub(super) struct Channel {
    bus: Arc<dyn PubSub>,
    name: Arc<str>,
    /// After how long without a sign the local tier is not read.
    silence: Duration,
    own: u64,
    /// The number of the next beat.
    beat: AtomicU64,
}

impl Channel {
    pub(super) fn new(bus: Arc<dyn PubSub>, name: Arc<str>, silence: Duration) -> Self {
        let own = Random::from_system().next_u64();
        Self { bus, name, silence, own, beat: AtomicU64::new(0) }
    }

    async fn send(&self, removed: &Removal) -> Result<()> {
        let message = Message { from: self.own, removed: removed.clone() };
        self.bus.publish(&Subject::new(&*self.name)?, Json::encode(&message)?).await
    }
}

impl<V> Shared<V>
where
    V: Clone + Send + Sync + 'static,
{
    /// Tells other processes of a removal.
    pub(super) async fn tell(&self, removed: &Removal) -> Result<()> {
        match &self.channel {
            Some(channel) => channel.send(removed).await,
            None => Ok(()),
        }
    }

    /// Does what another process says.
    fn obey(&self, payload: &Bytes, sent: &mut Sent) {
        let Some(channel) = &self.channel else { return };
        let Ok(Message { from, removed }) = Json::decode::<Message>(payload) else {
            HEARD.add_for(Heard::Unknown, 1);
            // Whatever it said, it may have been about anything.
            return self.local.clear();
        };
        if from == channel.own {
            if let Removal::Beat(beat) = removed
                && let Some(at_sending) = sent.heard(beat)
            {
                self.trust(at(at_sending + channel.silence));
            }
            return;
        }
        match removed {
            Removal::Keys(keys) => {
                HEARD.add_for(Heard::Key, keys.len() as u64);
                self.local.invalidate_many(&keys);
            }
            Removal::Tag(tag) => {
                HEARD.add_for(Heard::Tag, 1);
                self.local.invalidate_tag(&tag);
            }
            Removal::Everything => {
                HEARD.add_for(Heard::Clear, 1);
                self.local.clear();
            }
            Removal::Beat(_) => {}
        }
    }
}

/// The beats that were sent and not heard yet: at most as many as fit into the silence.
#[derive(Debug, Default)]
struct Sent(Vec<(u64, Instant)>);

impl Sent {
    fn note(&mut self, beat: u64, now: Instant) {
        self.0.push((beat, now));
        let excess = self.0.len().saturating_sub(BEATS as usize * 2);
        self.0.drain(..excess);
    }

    /// Returns when a beat was sent; that and all before it are forgotten.
    fn heard(&mut self, beat: u64) -> Option<Instant> {
        let place = self.0.iter().position(|(own, _)| *own == beat)?;
        self.0.drain(..=place).next_back().map(|(_, at)| at)
    }
}

/// How many beats are sent within the silence.
const BEATS: u32 = 4;

/// Listens to what other processes removed, and to whether the bus still works.
///
/// It sends a beat each quarter of the silence and trusts the local tier until a silence after the sending of
/// the last beat that came back: in between no message can have been lost unseen. When beats stop
/// coming back, the local tier is not read any more; when they come again, or the bus says that messages were lost,
/// it is emptied first.
#[must_use = "nothing is heard unless it runs"]
pub struct Backplane<V> {
    shared: Arc<Shared<V>>,
}

impl<V> Debug for Backplane<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backplane").field("channel", &self.shared.channel).finish_non_exhaustive()
    }
}

impl<V, C> Tiered<V, C>
where
    V: Clone + Send + Sync + 'static,
{
    /// Returns the task that listens to other processes.
    pub fn backplane(&self) -> Backplane<V> {
        Backplane { shared: Arc::clone(&self.shared) }
    }
}

impl<V> Backplane<V>
where
    V: Clone + Send + Sync + 'static,
{
    /// Listens until it is told to stop; without a bus it returns at once.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the listening; the local tier is not read any more after the silence.
    pub async fn run(self, stop: Stop) {
        let Some(channel) = &self.shared.channel else { return };
        let pause = (channel.silence / BEATS).max(Duration::from_millis(1));
        loop {
            // Nothing is known of what was removed while nobody listened.
            self.shared.distrust();
            tokio::select! {
                () = stop.requested() => break,
                _ended = self.listen(channel, pause) => {}
            }
            tokio::select! {
                () = stop.requested() => break,
                () = tokio::time::sleep(pause) => {}
            }
        }
        self.shared.distrust();
    }

    /// Listens until the bus fails, or nothing is heard for the length of the silence.
    async fn listen(&self, channel: &Channel, pause: Duration) -> Result<()> {
        let pattern = Pattern::new(&*channel.name)?;
        let subscribing = tokio::time::timeout(channel.silence, channel.bus.subscribe(&pattern));
        let late = || Error::new(infra_core::ErrorKind::Timeout, "subscribe to backplane");
        let mut subscription = subscribing.await.map_err(|_| late())??;
        // What was filled between the flush and the subscription may have been removed unheard.
        self.shared.local.clear();
        let mut sent = Sent::default();
        let mut heard = self.shared.clock.now();
        loop {
            let number = channel.beat.fetch_add(1, Ordering::Relaxed);
            sent.note(number, self.shared.clock.now());
            // A bus that hangs must not keep us from listening; what is not sent does not come back.
            let removed = Removal::Beat(number);
            let beat = channel.send(&removed);
            let _sent = tokio::time::timeout(pause, beat).await.is_ok();
            let until = tokio::time::sleep(pause);
            tokio::pin!(until);
            loop {
                tokio::select! {
                    () = &mut until => break,
                    item = next(&mut subscription) => match item {
                        Some(Item::Message { payload, .. }) => {
                            self.shared.obey(&payload, &mut sent);
                            heard = self.shared.clock.now();
                        }
                        Some(Item::Gap { .. }) => {
                            HEARD.add_for(Heard::Gap, 1);
                            self.shared.distrust();
                            // Beats from before the gap prove nothing about what was lost in it.
                            sent = Sent::default();
                        }
                        None => return Ok(()),
                    }
                }
            }
            if channel.silence < self.shared.clock.now().since(heard) {
                return Err(Error::new(infra_core::ErrorKind::Timeout, "listen to backplane"));
            }
        }
    }
}

async fn next(subscription: &mut Subscription) -> Option<Item> {
    std::future::poll_fn(|context| subscription.as_mut().poll_next(context)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beat_that_comes_back_proves_the_time_up_to_its_own_sending() {
        let mut sent = Sent::default();
        let after = |millis| Instant::from_start(Duration::from_millis(millis));
        (0..3).for_each(|beat| sent.note(beat, after(beat * 10)));
        assert_eq!(sent.heard(1), Some(after(10)));
        assert_eq!(sent.heard(0), None, "an earlier one says less");
        assert_eq!(sent.heard(2), Some(after(20)));
        (0..100).for_each(|beat| sent.note(beat, after(beat)));
        assert!(sent.0.len() <= 8);
    }
}
