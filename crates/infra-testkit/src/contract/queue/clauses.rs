//! What a queue does whatever the time.

#![expect(clippy::missing_errors_doc, reason = "a clause's only error is its breach")]

use std::{collections::HashSet, sync::Arc, time::Duration};

use infra_core::{
    ErrorKind,
    clock::Timestamp,
    queue::{Attempts, Cause, DeadLetter, Priority},
};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::{
    CAPACITY, LIMIT, Store, lease, message, moment, publish, ready, receive, say, take, word,
};
use crate::{
    contract::{Breach, Verdict},
    ensure, ensure_eq,
};

/// A leased message is in nobody else's hands.
pub async fn one_at_a_time(queue: Store) -> Verdict {
    for number in 0..CAPACITY {
        say(&queue, message(&number.to_string())?).await?;
    }
    let hands = Arc::new(Mutex::new(HashSet::new()));
    let done = Arc::new(Mutex::new(Vec::new()));
    let mut consumers = JoinSet::new();
    for _ in 0..4 {
        let (queue, hands, done) = (Arc::clone(&queue), Arc::clone(&hands), Arc::clone(&done));
        consumers.spawn(async move {
            loop {
                let received = receive(&queue, 3, moment() * 10).await?;
                if received.is_empty() {
                    return Ok::<_, Breach>(());
                }
                for delivery in received {
                    let own = word(&delivery)?;
                    ensure!(hands.lock().insert(own.clone()), "{own} is in two hands");
                    tokio::task::yield_now().await;
                    hands.lock().remove(&own);
                    done.lock().push(own);
                    delivery.ack().await?;
                }
            }
        });
    }
    while let Some(said) = consumers.join_next().await {
        said.map_err(|error| Breach::new(error.to_string()))??;
    }
    let mut done: Vec<usize> = done.lock().iter().filter_map(|word| word.parse().ok()).collect();
    done.sort_unstable();
    ensure_eq!(done, (0..CAPACITY).collect::<Vec<_>>(), "the messages that were worked on");
    Ok(())
}

/// The most urgent is delivered first, then the oldest; a returned message keeps its priority.
pub async fn prioritised(queue: Store) -> Verdict {
    let order = [Priority::Normal, Priority::Low, Priority::Critical, Priority::High];
    if !queue.features().has_priorities {
        let said = publish(&queue, vec![message("urgent")?.priority(Priority::High)]).await;
        let kind = said.map_err(|error| error.kind().clone());
        ensure_eq!(kind, Err(ErrorKind::Unsupported), "a priority that the engine does not keep");
        return Ok(());
    }
    for number in 0..2 {
        for priority in order {
            say(&queue, message(&format!("{priority:?} {number}"))?.priority(priority)).await?;
        }
    }
    take(&queue).await?.release().await?;
    let mut said = Vec::new();
    for _ in 0..8 {
        let delivery = take(&queue).await?;
        said.push(word(&delivery)?);
        delivery.ack().await?;
    }
    let wanted =
        ["Critical 0", "Critical 1", "High 0", "High 1", "Normal 0", "Normal 1", "Low 0", "Low 1"];
    ensure_eq!(said, wanted, "the order of delivery");
    Ok(())
}

/// A delivery that is dropped is delivered again at once, and counts as no attempt.
pub async fn dropped_is_released(queue: Store) -> Verdict {
    say(&queue, message("a")?).await?;
    for releases in 0..10 {
        let delivery = take(&queue).await?;
        let wanted = Attempts { deliveries: releases + 1, releases, ..Attempts::default() };
        ensure_eq!(delivery.attempts(), wanted, "the attempts after {releases} releases");
        drop(delivery);
    }
    // A consumer that stops waiting takes nothing.
    drop(take(&queue).await?);
    let taken = receive(&queue, 1, Duration::from_secs(1)).await?;
    ensure_eq!(receive(&queue, 1, moment()).await?.len(), 0, "messages while it is leased");
    drop(taken);
    ensure_eq!(ready(&queue).await?, ["a"], "what is ready after it was dropped");
    Ok(())
}

/// Above capacity a publish is refused, and what was taken before is kept.
pub async fn bounded(queue: Store) -> Verdict {
    for number in 0..CAPACITY {
        say(&queue, message(&number.to_string())?).await?;
    }
    let held = take(&queue).await?;
    for _ in 0..3 {
        let said = publish(&queue, vec![message("more")?]).await;
        let kind = said.map_err(|error| error.kind().clone());
        ensure_eq!(kind, Err(ErrorKind::Overloaded), "a message above the capacity");
    }
    let stats = queue.stats().await?;
    let waiting = (stats.ready + stats.delayed, stats.leased, stats.dead);
    ensure_eq!(waiting, (CAPACITY as u64 - 1, 1, 0), "ready, leased and dead messages");
    held.ack().await?;
    say(&queue, message("more")?).await?;
    let mut seen = 0;
    while let Some(delivery) = receive(&queue, 1, moment()).await?.pop() {
        delivery.ack().await?;
        seen += 1;
    }
    ensure_eq!(seen, CAPACITY, "messages that are delivered");
    Ok(())
}

/// A batch is published whole or not at all.
pub async fn all_or_nothing(queue: Store) -> Verdict {
    let batch = |from, to| -> Result<Vec<_>, Breach> {
        (from..to).map(|number: usize| Ok(message(&number.to_string())?)).collect()
    };
    if !queue.features().has_batches {
        let said = publish(&queue, batch(0, 2)?).await.map_err(|error| error.kind().clone());
        ensure_eq!(said, Err(ErrorKind::Unsupported), "a batch that the engine does not keep");
        ensure_eq!(queue.stats().await?.ready, 0, "messages of a batch that was refused");
        return Ok(());
    }
    let new = publish(&queue, batch(0, CAPACITY - 1)?).await?;
    ensure_eq!(new, vec![true; CAPACITY - 1], "whether each of a batch is new");
    ensure!(publish(&queue, batch(0, 2)?).await.is_err(), "a batch above the capacity is taken");
    let stats = queue.stats().await?;
    ensure_eq!(stats.ready, CAPACITY as u64 - 1, "messages after a refused batch");
    ensure_eq!(publish(&queue, vec![]).await?, Vec::<bool>::new(), "an empty batch");
    Ok(())
}

/// A dead letter that is replayed has its payload, key, priority and dedup id, and fresh counts.
pub async fn replayed_whole(queue: Store) -> Verdict {
    let features = queue.features();
    let mut original = message("a")?.dedup("once");
    if features.has_priorities {
        original = original.priority(Priority::High);
    }
    if features.has_key_order {
        original = original.key("room-1");
    }
    original.headers.insert("from".to_owned(), "ann".to_owned());
    say(&queue, original.clone()).await?;
    ensure!(!queue.replay(original.id).await?, "a living message is replayed");
    take(&queue).await?.dead_letter("cannot be done").await?;
    let dead = queue.dead_letters(10).await?;
    let told: Vec<_> = dead.iter().map(|dead| (&dead.message, dead.reason.as_str())).collect();
    ensure_eq!(told, [(&original, "cannot be done")], "the dead letters");
    ensure_eq!(queue.dead_letters(0).await?.len(), 0, "at most zero dead letters");
    ensure!(queue.replay(original.id).await?, "a dead letter cannot be replayed");
    ensure!(!queue.replay(original.id).await?, "a dead letter is replayed twice");
    let delivery = take(&queue).await?;
    ensure_eq!(*delivery.message(), original, "the replayed message");
    let fresh = Attempts { deliveries: 1, replays: 1, ..Attempts::default() };
    ensure_eq!(delivery.attempts(), fresh, "its attempts");
    delivery.ack().await?;
    ensure_eq!(queue.stats().await?.dead, 0, "dead letters that are left");
    Ok(())
}

/// A paused queue takes messages and delivers none; a limit or lease of zero is refused.
pub async fn paused(queue: Store) -> Verdict {
    queue.set_paused(true).await?;
    say(&queue, message("a")?).await?;
    ensure_eq!(ready(&queue).await?, Vec::<String>::new(), "what a paused queue delivers");
    let waiting = Arc::clone(&queue);
    let waiter = tokio::spawn(async move { take(&waiting).await.map(|delivery| word(&delivery)) });
    tokio::task::yield_now().await;
    queue.set_paused(false).await?;
    let said = waiter.await.map_err(|error| Breach::new(error.to_string()))???;
    ensure_eq!(said, "a", "what is delivered to who waited");
    for (limit, length) in [(0, lease()), (1, Duration::ZERO)] {
        let said = queue.receive(limit, length).await.map(|received| received.len());
        let kind = said.map_err(|error| error.kind().clone());
        ensure_eq!(kind, Err(ErrorKind::Invalid), "limit {limit}, lease {length:?}");
    }
    Ok(())
}

/// A purge removes the dead letters of before a time, and no others.
pub async fn purged(queue: Store) -> Verdict {
    for number in 0..3 {
        say(&queue, message(&number.to_string())?).await?;
        take(&queue).await?.dead_letter("no").await?;
    }
    take_failing(&queue).await?;
    let all = Timestamp::from_millis(9_000_000_000_000);
    ensure_eq!(
        queue.purge_dead(Timestamp::EPOCH, None).await?,
        0,
        "dead letters of before all time"
    );
    ensure_eq!(queue.stats().await?.dead, 4, "dead letters");
    ensure_eq!(queue.purge_dead(all, Some(Cause::Failed)).await?, 1, "those that failed");
    ensure_eq!(queue.stats().await?.dead, 3, "dead letters of other causes");
    ensure_eq!(queue.purge_dead(all, None).await?, 3, "all dead letters");
    ensure_eq!(queue.stats().await?.dead, 0, "dead letters after the purge");
    Ok(())
}

/// To clear removes what waits and what is delayed; what is in hand, dead letters and the queue itself
/// stay.
pub async fn cleared(queue: Store) -> Verdict {
    say(&queue, message("dead")?).await?;
    take(&queue).await?.dead_letter("no").await?;
    say(&queue, message("held")?).await?;
    let held = take(&queue).await?;
    say(&queue, message("ready")?.key("room")).await?;
    say(&queue, message("behind it")?.key("room")).await?;
    say(&queue, message("later")?.delay(Duration::from_hours(1))).await?;
    ensure_eq!(queue.clear().await?, 3, "messages that were in nobody's hand");
    let stats = queue.stats().await?;
    let left = (stats.ready, stats.delayed, stats.leased, stats.dead);
    ensure_eq!(left, (0, 0, 1, 1), "ready, delayed, leased and dead after that");
    held.ack().await?;
    ensure_eq!(queue.clear().await?, 0, "messages of an empty queue");
    say(&queue, message("next")?.key("room")).await?;
    ensure_eq!(word(&take(&queue).await?)?, "next", "what came after that");
    Ok(())
}

/// Publishes a message and lets it fail until it is dead.
async fn take_failing(queue: &Store) -> Verdict {
    say(queue, message("fails")?).await?;
    for number in 0..LIMIT {
        take(queue).await?.nack(Duration::ZERO, format!("failure {number}")).await?;
    }
    Ok(())
}

/// What waits can be looked at, in the order of publishing, and stays there.
pub async fn peeked(queue: Store) -> Verdict {
    for number in 0..3 {
        say(&queue, message(&number.to_string())?).await?;
    }
    for (limit, wanted) in [(0, 0), (2, 2), (10, 3)] {
        let seen = queue.peek(limit).await?;
        let words: Vec<String> =
            seen.iter().map(|message| message.payload.decode()).collect::<Result<_, _>>()?;
        let all = ["0", "1", "2"];
        ensure_eq!(words, all.get(..wanted).unwrap_or_default(), "what is seen of {limit}");
    }
    ensure_eq!(queue.stats().await?.ready, 3, "messages after they were looked at");
    Ok(())
}

/// A dead letter tells its cause, its counts and its latest failures, also of earlier lives; a
/// handler that broke down is a crash.
pub async fn accounted(queue: Store) -> Verdict {
    take_failing(&queue).await?;
    let told = |letters: &[DeadLetter]| -> Vec<String> {
        letters.iter().flat_map(|one| one.history.iter().map(|past| past.reason.clone())).collect()
    };
    let dead = queue.dead_letters(9).await?;
    ensure_eq!(told(&dead), ["failure 0", "failure 1", "failure 2"], "the failures");
    let first = dead.first().map(|letter| (letter.cause, letter.message.id));
    let Some((cause, id)) = first else { return Err(Breach::new("no dead letter")) };
    ensure_eq!(cause, Cause::Failed, "the cause of what failed too often");
    ensure!(queue.replay(id).await?, "it cannot be replayed");
    for number in 0..LIMIT {
        let delivery = take(&queue).await?;
        let wanted =
            Attempts { deliveries: number + 1, crashes: number, replays: 1, ..Attempts::default() };
        ensure_eq!(delivery.attempts(), wanted, "the attempts after {number} crashes");
        delivery.crashed(format!("panic {number}")).await?;
    }
    let dead = queue.dead_letters(9).await?;
    let causes: Vec<Cause> = dead.iter().map(|letter| letter.cause).collect();
    ensure_eq!(causes, [Cause::Crashed], "the cause of what crashed too often");
    let wanted = ["failure 0", "failure 1", "failure 2", "panic 0", "panic 1", "panic 2"];
    ensure_eq!(told(&dead), wanted, "the failures of both lives");
    Ok(())
}
