//! What a queue does when time passes.

#![expect(clippy::missing_errors_doc, reason = "a clause's only error is its breach")]

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use infra_core::{Clock as _, ErrorKind, SystemClock, queue::Attempts};
use tokio::time::sleep;

use super::{
    LIMIT, PATIENCE, Store, lease, message, moment, publish, ready, receive, say, take, window,
    word,
};
use crate::{
    contract::{Breach, Verdict, paced},
    ensure, ensure_eq,
};

/// A message is delivered until it is acknowledged, also when its consumer dies.
pub async fn acknowledged_or_again(queue: Store) -> Verdict {
    for number in 0..30 {
        say(&queue, message(&number.to_string())?).await?;
    }
    let (mut acknowledged, mut crashed) = (HashSet::new(), HashMap::new());
    let mut held = Vec::new();
    while acknowledged.len() < 30 {
        let Some(delivery) = receive(&queue, 1, lease() * 2).await?.pop() else {
            return Err(Breach::new(format!(
                "{} of 30 are acknowledged, no more come",
                acknowledged.len()
            )));
        };
        let own = word(&delivery)?;
        let times: &mut u32 = crashed.entry(own.clone()).or_default();
        if *times < LIMIT - 1 {
            // Its consumer never says a word again.
            *times += 1;
            held.push(delivery);
            continue;
        }
        ensure!(acknowledged.insert(own.clone()), "{own} is delivered after it was acknowledged");
        ensure_eq!(delivery.attempts().crashes, LIMIT - 1, "the crashes of {own}");
        delivery.ack().await?;
    }
    drop(held);
    sleep(lease() * 2).await;
    ensure_eq!(ready(&queue).await?, Vec::<String>::new(), "what is left when all is done");
    let stats = queue.stats().await?;
    ensure_eq!((stats.ready, stats.leased, stats.dead), (0, 0, 0), "what the queue holds");
    Ok(())
}

/// Messages of one key are delivered in order, one in flight at a time, also over retries.
pub async fn order_per_key(queue: Store) -> Verdict {
    let keyed = |word: &str, key: &str| message(word).map(|message| message.key(key));
    if !queue.features().has_key_order {
        let said =
            publish(&queue, vec![keyed("a1", "a")?]).await.map_err(|error| error.kind().clone());
        ensure_eq!(said, Err(ErrorKind::Unsupported), "a key that the engine does not keep");
        return Ok(());
    }
    for (word, key) in [("a1", "a"), ("a2", "a"), ("b1", "b"), ("a3", "a"), ("b2", "b")] {
        say(&queue, keyed(word, key)?).await?;
    }
    let mut first = receive(&queue, 10, PATIENCE).await?;
    let words: Vec<String> = first.iter().map(word).collect::<Result<_, _>>()?;
    ensure_eq!(words, ["a1", "b1"], "what is delivered at first");
    ensure_eq!(ready(&queue).await?, Vec::<String>::new(), "what is delivered beside them");
    let (b1, a1) = (first.pop(), first.pop());
    if let (Some(a1), Some(b1)) = (a1, b1) {
        a1.nack(Duration::from_secs(2), "not yet").await?;
        b1.ack().await?;
    }
    // `a2` waits for the retry of `a1`, not `b2`.
    let b2 = take(&queue).await?;
    ensure_eq!(word(&b2)?, "b2", "what is delivered while a1 waits");
    b2.ack().await?;
    for wanted in ["a1", "a2", "a3"] {
        let delivery = take(&queue).await?;
        ensure_eq!(word(&delivery)?, wanted, "the next of key a");
        delivery.ack().await?;
    }
    Ok(())
}

/// Failures and crashes have limits of their own and end in dead letters.
pub async fn failures_and_crashes_counted_apart(queue: Store) -> Verdict {
    say(&queue, message("fails")?).await?;
    for _ in 0..LIMIT - 1 {
        // One crash for each failure kills nobody.
        let crashed = take(&queue).await?;
        sleep(lease() + moment()).await;
        drop(crashed);
        take(&queue).await?.nack(Duration::ZERO, "again").await?;
        take(&queue).await?.release().await?;
    }
    ensure_eq!(queue.stats().await?.dead, 0, "dead letters below the limits");
    take(&queue).await?.nack(Duration::ZERO, "the last straw").await?;
    say(&queue, message("crashes")?).await?;
    for _ in 0..LIMIT {
        let crashed = take(&queue).await?;
        ensure_eq!(word(&crashed)?, "crashes", "what is delivered");
        sleep(lease() + moment()).await;
        drop(crashed);
    }
    ensure_eq!(ready(&queue).await?, Vec::<String>::new(), "what is ready beyond the limits");
    let dead = queue.dead_letters(10).await?;
    let told: Vec<_> =
        dead.iter().map(|dead| (dead.attempts.failures, dead.attempts.crashes)).collect();
    ensure_eq!(told, [(LIMIT, LIMIT - 1), (0, LIMIT)], "failures and crashes of the dead letters");
    let reason = dead.first().map(|dead| dead.reason.as_str());
    ensure_eq!(reason, Some("the last straw"), "why the first is dead");
    ensure!(dead.iter().all(|dead| !dead.reason.is_empty()), "a dead letter without a reason");
    Ok(())
}

/// After the lease's end a verdict is `LeaseLost`; until then it can be extended.
pub async fn late_verdict(queue: Store) -> Verdict {
    say(&queue, message("a")?).await?;
    let first = take(&queue).await?;
    sleep(lease().saturating_sub(moment())).await;
    first.extend(lease()).await?;
    sleep(lease().saturating_sub(moment() * 2)).await;
    ensure_eq!(
        ready(&queue).await?,
        Vec::<String>::new(),
        "what is ready during an extended lease"
    );
    sleep(moment() * 2).await;
    let lost = |said: infra_core::Result<()>| said.map_err(|error| error.kind().clone());
    ensure_eq!(lost(first.extend(lease()).await), Err(ErrorKind::LeaseLost), "a late extension");
    let second = take(&queue).await?;
    ensure_eq!(lost(first.ack().await), Err(ErrorKind::LeaseLost), "a late verdict");
    let wanted = Attempts { deliveries: 2, crashes: 1, ..Attempts::default() };
    ensure_eq!(second.attempts(), wanted, "the attempts of the second delivery");
    second.ack().await?;
    Ok(())
}

/// A repeated dedup id is not published again within the window, and says so.
pub async fn once_within_the_window(queue: Store) -> Verdict {
    let one = || message("a").map(|message| message.dedup("once"));
    ensure_eq!(publish(&queue, vec![one()?]).await?, [true], "the first");
    ensure_eq!(publish(&queue, vec![one()?, message("b")?]).await?, [false, true], "the second");
    ensure_eq!(queue.stats().await?.ready, 2, "messages");
    for _ in 0..2 {
        take(&queue).await?.ack().await?;
    }
    sleep(window().saturating_sub(moment())).await;
    ensure_eq!(publish(&queue, vec![one()?]).await?, [false], "one that was acknowledged");
    sleep(moment()).await;
    let both = publish(&queue, vec![one()?, one()?]).await?;
    ensure_eq!(both, [true, false], "two of one batch after the window");
    ensure_eq!(ready(&queue).await?, ["a"], "what is ready");
    Ok(())
}

/// Nothing is delivered before its delay or after its time to live.
pub async fn in_time(queue: Store) -> Verdict {
    let delay = paced(Duration::from_secs(3), Duration::from_millis(1_500));
    if !queue.features().has_delay {
        let said = publish(&queue, vec![message("a")?.delay(delay)]).await;
        let said = said.map_err(|error| error.kind().clone());
        ensure_eq!(said, Err(ErrorKind::Unsupported), "a delay that the engine does not keep");
        return Ok(());
    }
    let clock = SystemClock::new();
    let start = clock.now();
    let messages = vec![
        message("late")?.delay(delay),
        message("over")?.ttl(delay).delay(delay * 2),
        message("now")?.ttl(delay),
    ];
    publish(&queue, messages).await?;
    ensure_eq!(queue.stats().await?.delayed, 2, "delayed messages");
    let now = take(&queue).await?;
    ensure_eq!(word(&now)?, "now", "what is delivered at once");
    now.ack().await?;
    let late = take(&queue).await?;
    ensure_eq!(word(&late)?, "late", "what is delivered next");
    let passed = clock.now().since(start);
    ensure!(delay <= passed, "it is delivered after {passed:?} of {delay:?}");
    late.ack().await?;
    sleep(delay * 2).await;
    ensure_eq!(ready(&queue).await?, Vec::<String>::new(), "what is delivered after its time");
    let dead: Vec<_> = queue.dead_letters(9).await?.iter().map(|dead| dead.message.ttl).collect();
    ensure_eq!(dead, [Some(delay)], "what died of its time");
    Ok(())
}
