//! What a subscriber can see of an event store while others write.

#![expect(clippy::missing_errors_doc, reason = "a clause's only error is its breach")]

use std::{sync::Arc, time::Duration};

use infra_core::{
    event::{Append, Filter, Subscription, SubscriptionItem},
    version::{Expected, Position},
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
    let mut before = vec![Position::ZERO];
    for number in 0..40_u32 {
        before.push(say(&store, "before", &number.to_string()).await?.position);
    }
    let all = 40 + WRITERS * EACH;
    let mut subscribers = JoinSet::new();
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        write(&mut writers, &store, writer);
        // Each begins somewhere else in what was stored before.
        let reading = Arc::clone(&store);
        let begun = usize::try_from(writer * 13).unwrap_or_default();
        let after = before.get(begun).copied().unwrap_or_default();
        subscribers.spawn(async move {
            let subscription = reading.subscribe(after, Filter::default()).await?;
            follow(subscription, after, all - writer * 13).await
        });
    }
    join(writers).await?;
    let everything = read_paged(&store, 100, std::future::ready(Ok(()))).await?;
    while let Some(followed) = subscribers.join_next().await {
        let seen = followed.map_err(|error| Breach::new(error.to_string()))??;
        let right = everything.iter().rev().take(seen.len()).rev();
        ensure!(seen.iter().eq(right), "a subscriber saw other events than a reader");
    }
    Ok(())
}

/// Whoever pages by `read_to` while others append sees each event once.
pub async fn pages_never_skip(store: Store) -> Verdict {
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        write(&mut writers, &store, writer);
    }
    let paged = read_paged(&store, 7, join(writers)).await?;
    for writer in 0..WRITERS {
        let of_writer = |position: &Position| paged.contains(position);
        let events = super::whole(&store, &format!("writer-{writer}")).await?;
        let positions: Vec<Position> = events.iter().map(|event| event.position).collect();
        ensure!(positions.is_sorted(), "positions of a stream that go back: {positions:?}");
        ensure!(positions.iter().all(of_writer), "an event of writer {writer} was skipped");
    }
    Ok(())
}

/// A subscription tells how far it has looked, and resuming there repeats and skips none.
pub async fn resumed(store: Store) -> Verdict {
    let filter = || Filter { stream_prefix: Some("odd".to_owned()), ..Filter::default() };
    let mut right = Vec::new();
    for number in 0..60_u64 {
        let name = if number % 2 == 1 { "odd" } else { "even" };
        let position = say(&store, name, &number.to_string()).await?.position;
        if number % 2 == 1 {
            right.push(position);
        }
    }
    let last = say(&store, "even", "last").await?.position;
    store.wait_for(last, PATIENCE).await?;
    let (mut seen, mut after) = (Vec::new(), Position::ZERO);
    // Each time a few items are taken, and the next subscription begins where they ended.
    for taken in (1..=7_u64).cycle() {
        let mut subscription = store.subscribe(after, filter()).await?;
        for _ in 0..taken {
            match next(&mut subscription, PATIENCE).await? {
                Some(SubscriptionItem::Event(recorded)) => {
                    ensure_eq!(recorded.stream.as_str(), "odd", "the stream of an event");
                    after = recorded.position;
                    seen.push(after);
                }
                Some(SubscriptionItem::Checkpoint(position)) => {
                    ensure!(after <= position, "a checkpoint at {position} after {after}");
                    after = position;
                }
                Some(SubscriptionItem::CaughtUp(_)) => {}
                None => return Err(Breach::new(format!("nothing came after {after}"))),
            }
            if last <= after {
                break;
            }
        }
        if last <= after {
            break;
        }
    }
    ensure_eq!(seen, right, "the events of all subscriptions together");
    Ok(())
}

/// A reader that stops for long loses nothing, and nobody waits for it.
pub async fn slow_reader_loses_nothing(store: Store) -> Verdict {
    let mut subscription = store.subscribe(Position::ZERO, Filter::default()).await?;
    say(&store, "first", "one").await?;
    let first = next(&mut subscription, PATIENCE).await?;
    ensure!(first.is_some(), "the first item does not come");
    let mut right = Vec::new();
    for number in 0..600_u32 {
        right.push(say(&store, "a", &number.to_string()).await?.position);
    }
    let mut seen = Vec::new();
    while seen.last() < right.last() {
        match next(&mut subscription, PATIENCE).await? {
            Some(SubscriptionItem::Event(recorded)) if recorded.stream.as_str() == "a" => {
                seen.push(recorded.position);
            }
            Some(_) => {}
            None => return Err(Breach::new("a slow reader waits in vain")),
        }
    }
    ensure_eq!(seen, right, "what came after the pause");
    Ok(())
}

/// Starts a writer of single events and small batches.
fn write(writers: &mut JoinSet<Verdict>, store: &Store, writer: u64) {
    let store = Arc::clone(store);
    writers.spawn(async move {
        let name = format!("writer-{writer}");
        let mut written = 0;
        for number in 0.. {
            let count = (number % 3 + 1).min(EACH - written);
            let words = (0..count).map(|_| super::event(&number.to_string()));
            let events = words.collect::<Result<Vec<_>, Breach>>()?;
            if events.is_empty() {
                break;
            }
            store.append(Append::to(super::stream(&name)?, Expected::Any, events)).await?;
            written += count;
        }
        Ok(())
    });
}

async fn join(mut writers: JoinSet<Verdict>) -> Verdict {
    while let Some(written) = writers.join_next().await {
        written.map_err(|error| Breach::new(error.to_string()))??;
    }
    Ok(())
}

/// Reads page by page while others write, and then what the last of them left.
async fn read_paged(
    store: &Store,
    limit: usize,
    writing: impl Future<Output = Verdict>,
) -> Result<Vec<Position>, Breach> {
    let (mut after, mut seen) = (Position::ZERO, Vec::new());
    let mut writing = std::pin::pin!(writing);
    let mut is_written = false;
    loop {
        let page = store.read_all(after, &Filter::default(), limit).await?;
        for recorded in &page.events {
            ensure!(after < recorded.position, "{} after {after}", recorded.position);
            after = recorded.position;
            seen.push(after);
        }
        ensure!(after <= page.read_to, "read to {} but saw {after}", page.read_to);
        after = page.read_to;
        if is_written && page.is_end {
            return Ok(seen);
        }
        if !is_written {
            let pause = tokio::time::timeout(Duration::from_millis(1), writing.as_mut());
            if let Ok(written) = pause.await {
                written?;
                is_written = true;
                settle(store).await?;
            }
        }
    }
}

/// Waits until what the writers wrote can be read everywhere.
async fn settle(store: &Store) -> Verdict {
    for writer in 0..WRITERS {
        super::settled(store, &[&format!("writer-{writer}")]).await?;
    }
    Ok(())
}

/// Follows until so many events have come, and looks whether something more comes.
async fn follow(
    mut subscription: Subscription,
    after: Position,
    count: u64,
) -> Result<Vec<Position>, Breach> {
    let mut last = after;
    let mut seen = Vec::new();
    let mut caught_up = 0;
    while (seen.len() as u64) < count || caught_up == 0 {
        match next(&mut subscription, PATIENCE).await? {
            Some(SubscriptionItem::Event(recorded)) => {
                ensure!(last < recorded.position, "{} came after {last}", recorded.position);
                last = recorded.position;
                seen.push(last);
            }
            Some(SubscriptionItem::CaughtUp(_)) => caught_up += 1,
            // An event that came later than a checkpoint behind it would be lost by who resumes.
            Some(SubscriptionItem::Checkpoint(position)) => last = last.max(position),
            None => {
                let seen = seen.len();
                return Err(Breach::new(format!("nothing came after {last}: {seen} of {count}")));
            }
        }
    }
    ensure_eq!(caught_up, 1, "how often it caught up");
    while let Some(item) = next(&mut subscription, Duration::from_millis(50)).await? {
        let is_event = matches!(item, SubscriptionItem::Event(_) | SubscriptionItem::CaughtUp(_));
        ensure!(!is_event, "something more came than was written: {item:?}");
    }
    Ok(seen)
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
