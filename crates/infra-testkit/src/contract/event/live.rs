//! What a subscriber can see of an event store while others write.

#![expect(clippy::missing_errors_doc, reason = "a clause's only error is its breach")]

use std::{sync::Arc, time::Duration};

use infra_core::{
    event::{Filter, RecordedEvent, Subscription, SubscriptionItem},
    version::Position,
};
use tokio::task::JoinSet;

use super::{Store, say};
use crate::{
    contract::{Breach, Verdict},
    ensure, ensure_eq,
};

const WRITERS: u64 = 4;
const EACH: u64 = 60;

/// How long nothing may come before it is given up.
const PATIENCE: Duration = Duration::from_secs(20);

/// A subscription yields each fitting event once, in order, over the hand-over to live.
pub async fn live_without_gap(store: Store) -> Verdict {
    for number in 0..40_u32 {
        say(&store, "before", &number.to_string()).await?;
    }
    let all = 40 + WRITERS * EACH;
    let mut subscribers = JoinSet::new();
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let (writing, reading) = (Arc::clone(&store), Arc::clone(&store));
        writers.spawn(async move {
            for number in 0..EACH {
                say(&writing, &format!("writer-{writer}"), &number.to_string()).await?;
            }
            Ok::<_, Breach>(())
        });
        // Each begins somewhere else in what was stored before.
        let after = Position::new(writer * 13);
        subscribers.spawn(async move {
            let subscription = reading.subscribe(after, Filter::default()).await?;
            follow(subscription, after, all - after.get()).await
        });
    }
    while let Some(written) = writers.join_next().await {
        written.map_err(|error| Breach::new(error.to_string()))??;
    }
    while let Some(followed) = subscribers.join_next().await {
        followed.map_err(|error| Breach::new(error.to_string()))??;
    }
    Ok(())
}

/// Follows until so many events have come, and looks whether something more comes.
async fn follow(mut subscription: Subscription, after: Position, count: u64) -> Verdict {
    let mut last = after;
    let (mut seen, mut caught_up) = (0, 0);
    while seen < count || caught_up == 0 {
        match next(&mut subscription, PATIENCE).await? {
            Some(SubscriptionItem::Event(recorded)) => {
                check(&recorded, last)?;
                last = recorded.position;
                seen += 1;
            }
            Some(SubscriptionItem::CaughtUp(_)) => caught_up += 1,
            Some(SubscriptionItem::Checkpoint(position)) => {
                ensure!(position <= last, "a checkpoint at {position} before its events");
            }
            None => {
                return Err(Breach::new(format!("nothing came after {last}: {seen} of {count}")));
            }
        }
    }
    ensure_eq!(caught_up, 1, "how often it caught up");
    while let Some(item) = next(&mut subscription, Duration::from_millis(50)).await? {
        let is_event = matches!(item, SubscriptionItem::Event(_) | SubscriptionItem::CaughtUp(_));
        ensure!(!is_event, "something more came than was written: {item:?}");
    }
    Ok(())
}

fn check(recorded: &RecordedEvent, last: Position) -> Verdict {
    ensure_eq!(recorded.position, last.next(), "the position after {last}");
    Ok(())
}

async fn next(
    subscription: &mut Subscription,
    patience: Duration,
) -> Result<Option<SubscriptionItem>, Breach> {
    let item = std::future::poll_fn(|context| subscription.as_mut().poll_next(context));
    match tokio::time::timeout(patience, item).await {
        Ok(Some(item)) => Ok(Some(item?)),
        Ok(None) => Err(Breach::new("the subscription ended")),
        Err(_) => Ok(None),
    }
}
