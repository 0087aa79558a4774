//! The contract of [`infra_core::pubsub::PubSub`].
//!
//! Clauses take a bus where about a hundred messages may wait for a subscriber.

pub mod wrong;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use infra_core::pubsub::{Item, Pattern, PubSub, Subject, Subscription};
use tokio::task::JoinSet;

use super::{Breach, Verdict};
use crate::{ensure, ensure_eq};

/// What a clause takes: a bus that nobody uses yet.
pub type Bus = Arc<dyn PubSub>;

/// Stamps out one test per clause for a bus; the expression makes one.
///
/// `planted` before it stamps out the test of the suite itself; then the expression takes a bug.
#[macro_export]
macro_rules! pubsub_contract {
    (planted $make:expr) => {
        $crate::pubsub_contract!(@ planted $make);
    };
    (@ $then:ident $make:expr) => {
        $crate::$then!(
            $crate::contract::pubsub,
            [at_most_once_and_in_order, never_silent, from_now_on, matched, unhindered],
            timed [],
            $make
        );
    };
    ($make:expr) => {
        $crate::pubsub_contract!(@ stamp $make);
    };
}

/// How many messages are more than any mailbox holds.
const ALL: u64 = 5_000;

/// How long a message may take to arrive.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long it is waited for what must not come.
const MOMENT: Duration = Duration::from_millis(30);

async fn subscribe(bus: &Bus, pattern: &str) -> Result<Subscription, Breach> {
    Ok(bus.subscribe(&Pattern::new(pattern)?).await?)
}

async fn publish(bus: &Bus, subject: &str, number: u64) -> Verdict {
    let payload = Bytes::copy_from_slice(&number.to_be_bytes());
    Ok(bus.publish(&Subject::new(subject)?, payload).await?)
}

async fn next(subscription: &mut Subscription, patience: Duration) -> Option<Item> {
    let item = std::future::poll_fn(|context| subscription.as_mut().poll_next(context));
    tokio::time::timeout(patience, item).await.ok().flatten()
}

fn number(payload: &Bytes) -> u64 {
    payload.as_ref().try_into().map_or(u64::MAX, u64::from_be_bytes)
}

/// A subscriber sees each message of a publisher once, in their order.
///
/// # Errors
///
/// How the clause was broken.
pub async fn at_most_once_and_in_order(bus: Bus) -> Verdict {
    let mut subscription = subscribe(&bus, "work.*").await?;
    let mut publishers = JoinSet::new();
    for publisher in 0..4_u64 {
        let bus = Arc::clone(&bus);
        publishers.spawn(async move {
            for count in 0..20 {
                publish(&bus, &format!("work.{publisher}"), count).await?;
            }
            Ok::<_, Breach>(())
        });
    }
    let mut seen = std::collections::HashMap::new();
    for _ in 0..80 {
        match next(&mut subscription, PATIENCE).await {
            Some(Item::Message { subject, payload }) => {
                let expected = seen.entry(subject.as_str().to_owned()).or_insert(0);
                ensure_eq!(number(&payload), *expected, "the next message on {}", subject.as_str());
                *expected += 1;
            }
            other => return Err(Breach::new(format!("a message was expected, not {other:?}"))),
        }
    }
    while let Some(published) = publishers.join_next().await {
        published.map_err(|error| Breach::new(error.to_string()))??;
    }
    ensure_eq!(next(&mut subscription, MOMENT).await, None, "after the last message");
    Ok(())
}

/// Where messages were lost, the subscription says so, and how many.
///
/// # Errors
///
/// How the clause was broken.
pub async fn never_silent(bus: Bus) -> Verdict {
    let mut subscription = subscribe(&bus, "flood").await?;
    for count in 0..ALL {
        publish(&bus, "flood", count).await?;
    }
    let (mut expected, mut gaps) = (0, 0);
    while expected < ALL {
        match next(&mut subscription, PATIENCE).await {
            Some(Item::Message { payload, .. }) => {
                ensure_eq!(number(&payload), expected, "the message after what was told");
                expected += 1;
            }
            Some(Item::Gap { missed: Some(missed), .. }) => {
                gaps += 1;
                expected += missed;
            }
            other => {
                return Err(Breach::new(format!("{other:?} though {expected} of {ALL} are told")));
            }
        }
    }
    ensure!(0 < gaps, "a subscriber that did not read missed nothing of {ALL}");
    publish(&bus, "flood", ALL).await?;
    let last = next(&mut subscription, PATIENCE).await;
    let is_last = matches!(&last, Some(Item::Message { payload, .. }) if number(payload) == ALL);
    ensure!(is_last, "after the flood messages arrive again, not {last:?}");
    Ok(())
}

/// A message that is published after the subscription arrives, and none from before.
///
/// # Errors
///
/// How the clause was broken.
pub async fn from_now_on(bus: Bus) -> Verdict {
    for count in 0..50 {
        publish(&bus, "news", count).await?;
        let mut subscription = subscribe(&bus, "news").await?;
        publish(&bus, "news", 1_000 + count).await?;
        let first = next(&mut subscription, PATIENCE).await;
        let is_first = matches!(&first, Some(Item::Message { payload, .. }) if number(payload) == 1_000 + count);
        ensure!(is_first, "the first message after subscription {count}, not {first:?}");
    }
    Ok(())
}

/// A subscriber sees the subjects that its pattern admits, and no others.
///
/// # Errors
///
/// How the clause was broken.
pub async fn matched(bus: Bus) -> Verdict {
    let subjects =
        ["room", "room.1", "room.1.events", "room.2.events", "room.1.events.late", "lobby"];
    for pattern in ["room", "room.*", "room.>", "room.*.events", "*", ">", "room.1.>"] {
        let mut subscription = subscribe(&bus, pattern).await?;
        let admits = Pattern::new(pattern)?;
        for subject in subjects {
            publish(&bus, subject, 0).await?;
        }
        for subject in subjects.into_iter().map(Subject::new) {
            let subject = subject?;
            if !admits.admits(&subject) {
                continue;
            }
            match next(&mut subscription, PATIENCE).await {
                Some(Item::Message { subject: found, .. }) => {
                    ensure_eq!(found, subject, "what `{pattern}` sees next");
                }
                other => return Err(Breach::new(format!("`{pattern}` sees {other:?}"))),
            }
        }
        ensure_eq!(next(&mut subscription, MOMENT).await, None, "what else `{pattern}` sees");
    }
    Ok(())
}

/// A subscriber that never reads delays neither publishers nor others.
///
/// # Errors
///
/// How the clause was broken.
pub async fn unhindered(bus: Bus) -> Verdict {
    let _never_read = subscribe(&bus, ">").await?;
    let mut reader = subscribe(&bus, "busy").await?;
    for count in 0..2_000 {
        let published = tokio::time::timeout(PATIENCE, publish(&bus, "busy", count)).await;
        ensure!(published.is_ok(), "publishing waits for a subscriber that never reads");
        published.map_err(|error| Breach::new(error.to_string()))??;
        match next(&mut reader, PATIENCE).await {
            Some(Item::Message { payload, .. }) => ensure_eq!(number(&payload), count, "a reader"),
            other => return Err(Breach::new(format!("a reader is hindered: {other:?}"))),
        }
    }
    Ok(())
}
