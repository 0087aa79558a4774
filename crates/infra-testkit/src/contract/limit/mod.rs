//! The contract of [`infra_core::limit::RateLimiter`].
//!
//! Clauses take a limiter on the system's clock with the limits of [`LIMITS`] and [`WINDOWS`].

#![expect(clippy::missing_errors_doc, reason = "a clause's only error is its breach")]

mod windows;
pub mod wrong;

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use infra_core::{
    ErrorKind,
    limit::{Charge, Decision, RateLimiter},
};
use tokio::task::JoinSet;

pub use self::windows::{Counting, WINDOWS, bounded_windows, exact_window};
use super::{Breach, Verdict};
use crate::{ensure, ensure_eq};

/// What a clause takes: a limiter that nobody has asked yet.
pub type Limiter = Arc<dyn RateLimiter>;

/// The limits that a clause needs: name, what it holds when it is full, time until one is back.
pub const LIMITS: [(&str, u32, Duration); 3] = [
    ("player", 5, Duration::from_millis(100)),
    ("room", 20, Duration::from_millis(50)),
    ("slow", 50, Duration::from_hours(1)),
];

/// Stamps out one test per clause for a limiter; the expression makes one.
///
/// `planted` before it stamps out the test of the suite itself; then the expression takes a bug.
#[macro_export]
macro_rules! rate_limiter_contract {
    (planted $make:expr) => {
        $crate::rate_limiter_contract!(@ planted $make);
    };
    (@ $then:ident $make:expr) => {
        $crate::$then!(
            $crate::contract::limit,
            [exact_under_contention],
            timed [
                all_or_nothing,
                refusal_is_a_value,
                honest_wait,
                never,
                peeking_is_free,
                refunded,
                apart,
                exact_window,
                bounded_windows,
            ],
            $make
        );
    };
    ($make:expr) => {
        $crate::rate_limiter_contract!(@ stamp $make);
    };
}

fn charge(limit: &'static str, key: &str, cost: u32) -> Charge {
    let cost = NonZeroU32::new(cost).unwrap_or(NonZeroU32::MIN);
    Charge::one(limit, key).cost(cost)
}

async fn acquire(limiter: &Limiter, key: &str, cost: u32) -> Result<Decision, Breach> {
    Ok(limiter.acquire(&[charge("player", key, cost)]).await?)
}

/// Returns what is left for a player.
async fn left(limiter: &Limiter, key: &str) -> Result<u32, Breach> {
    let decision = limiter.peek(&[charge("player", key, 1)]).await?;
    // A peek answers as `acquire` would, which tells what is left after it.
    Ok(decision.remaining + u32::from(decision.is_admitted()))
}

/// Concurrent callers together get the limit, never more and never less.
pub async fn exact_under_contention(limiter: Limiter) -> Verdict {
    let mut callers = JoinSet::new();
    for caller in 0..8 {
        let limiter = Arc::clone(&limiter);
        callers.spawn(async move {
            let mut admitted = 0;
            for number in 0..25 {
                let own = charge("slow", &format!("own {caller} {number}"), 1);
                let decision = limiter.acquire(&[charge("slow", "shared", 1), own]).await?;
                admitted += u32::from(decision.is_admitted());
            }
            Ok::<u32, Breach>(admitted)
        });
    }
    let mut admitted = 0;
    while let Some(said) = callers.join_next().await {
        admitted += said.map_err(|error| Breach::new(error.to_string()))??;
    }
    ensure_eq!(admitted, 50, "requests of 200 that a limit of 50 admits");
    Ok(())
}

/// Several charges pass together or not at all; a refusal costs nothing.
pub async fn all_or_nothing(limiter: Limiter) -> Verdict {
    let both = |cost| [charge("player", "ann", cost), charge("room", "7", cost)];
    for round in 0..5 {
        let decision = limiter.acquire(&both(1)).await?;
        ensure!(decision.is_admitted(), "round {round} is refused: {decision:?}");
        ensure_eq!((decision.limit, decision.capacity), ("player", 5), "the limit with least left");
        ensure_eq!(decision.remaining, 4 - round, "what is left after round {round}");
    }
    for _ in 0..30 {
        let refused = limiter.acquire(&both(1)).await?;
        ensure!(!refused.is_admitted(), "a sixth request of a player with five");
        ensure_eq!(refused.limit, "player", "the limit that refused");
    }
    let room = limiter.acquire(&[charge("room", "7", 15)]).await?;
    ensure!(room.is_admitted(), "refused requests were paid by the room: {room:?}");
    Ok(())
}

/// Only an undeclared limit, a repeated one or none at all is an error.
pub async fn refusal_is_a_value(limiter: Limiter) -> Verdict {
    let bad = [
        vec![charge("undeclared", "ann", 1)],
        vec![charge("player", "ann", 1), charge("player", "ann", 1)],
        vec![],
    ];
    for charges in bad {
        let said = limiter.acquire(&charges).await.map_err(|error| error.kind().clone());
        ensure_eq!(said, Err(ErrorKind::Invalid), "the charges {charges:?}");
    }
    ensure!(acquire(&limiter, "ann", 5).await?.is_admitted(), "bad charges were paid");
    ensure!(!acquire(&limiter, "ann", 1).await?.is_admitted(), "an empty limit admits");
    Ok(())
}

/// After the time that a refusal names, the same request passes; the time is not longer than needed.
pub async fn honest_wait(limiter: Limiter) -> Verdict {
    acquire(&limiter, "ann", 5).await?;
    for cost in 1..=5_u32 {
        let refused = acquire(&limiter, "ann", cost).await?;
        let Some(wait) = refused.retry_after() else {
            return Err(Breach::new(format!("an empty limit says {refused:?}")));
        };
        let needed = Duration::from_millis(100) * cost;
        ensure!(wait <= needed, "{wait:?} to wait for what needs {needed:?}");
        tokio::time::sleep(wait / 2).await;
        ensure!(!acquire(&limiter, "ann", cost).await?.is_admitted(), "half of {wait:?} is enough");
        tokio::time::sleep(wait.saturating_sub(wait / 2)).await;
        let again = acquire(&limiter, "ann", cost).await?;
        ensure!(again.is_admitted(), "after {wait:?} it is {again:?}");
    }
    tokio::time::sleep(Duration::from_mins(1)).await;
    ensure_eq!(left(&limiter, "ann").await?, 5, "what is left after a long time");
    longest_wait(&limiter).await
}

/// Of two limits that refuse, the longest wait is named: after it both pass.
async fn longest_wait(limiter: &Limiter) -> Verdict {
    limiter.acquire(&[charge("player", "eve", 5), charge("room", "9", 20)]).await?;
    for both in [
        [charge("player", "eve", 1), charge("room", "9", 10)],
        [charge("room", "9", 10), charge("player", "eve", 1)],
    ] {
        let refused = limiter.acquire(&both).await?;
        ensure_eq!(refused.limit, "room", "the limit that refuses for longest");
        let Some(wait) = refused.retry_after() else {
            return Err(Breach::new(format!("two empty limits say {refused:?}")));
        };
        tokio::time::sleep(wait).await;
        let again = limiter.acquire(&both).await?;
        ensure!(again.is_admitted(), "after {wait:?} both are asked and it is {again:?}");
    }
    Ok(())
}

/// A cost above the capacity is `Never`, and costs nothing.
pub async fn never(limiter: Limiter) -> Verdict {
    let said = acquire(&limiter, "ann", 6).await?;
    ensure_eq!(said.verdict, infra_core::limit::Verdict::Never, "six of five");
    ensure!(acquire(&limiter, "ann", 5).await?.is_admitted(), "what can never pass was paid");
    Ok(())
}

/// A peek changes nothing and answers as `acquire` would.
pub async fn peeking_is_free(limiter: Limiter) -> Verdict {
    for cost in [1, 3, 2, 6] {
        let charges = [charge("player", "ann", cost), charge("room", "7", cost)];
        for _ in 0..10 {
            limiter.peek(&charges).await?;
        }
        let peeked = limiter.peek(&charges).await?;
        ensure_eq!(limiter.acquire(&charges).await?, peeked, "the answer to a cost of {cost}");
        ensure_eq!(peeked.is_admitted(), matches!(cost, 1 | 3), "whether {cost} is admitted");
    }
    Ok(())
}

/// A reservation gives back exactly what it took and was not used.
pub async fn refunded(limiter: Limiter) -> Verdict {
    let charges = [charge("player", "ann", 4)];
    for (way, wanted) in [("drop", 5), ("settle", 3), ("settle for more", 1), ("keep", 1)] {
        let (decision, reservation) = limiter.reserve(&charges).await?;
        let Some(reservation) = reservation else {
            return Err(Breach::new(format!("a reservation before `{way}` is {decision:?}")));
        };
        ensure_eq!(left(&limiter, "ann").await?, 1, "what is left before `{way}`");
        match way {
            "drop" => drop(reservation),
            "settle" => reservation.settle(2),
            "settle for more" => reservation.settle(9),
            _ => reservation.keep(),
        }
        ensure_eq!(left(&limiter, "ann").await?, wanted, "what is left after `{way}`");
        tokio::time::sleep(Duration::from_mins(1)).await;
    }
    only_its_own(&limiter).await?;
    acquire(&limiter, "ann", 5).await?;
    let (refused, reservation) = limiter.reserve(&charges).await?;
    ensure!(!refused.is_admitted() && reservation.is_none(), "an empty limit is reserved");
    Ok(())
}

/// A reservation gives back neither what others paid nor what time has given back already.
async fn only_its_own(limiter: &Limiter) -> Verdict {
    acquire(limiter, "bob", 1).await?;
    drop(limiter.reserve(&[charge("player", "bob", 4)]).await?);
    ensure_eq!(left(limiter, "bob").await?, 4, "what is left beside what another paid");
    let (_, late) = limiter.reserve(&[charge("player", "eve", 4)]).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    acquire(limiter, "eve", 5).await?;
    drop(late);
    ensure_eq!(left(limiter, "eve").await?, 0, "what is left after a refund that time had made");
    Ok(())
}

/// Keys of one limit, and equal keys of two limits, never share a budget.
pub async fn apart(limiter: Limiter) -> Verdict {
    acquire(&limiter, "ann", 5).await?;
    ensure!(acquire(&limiter, "bob", 5).await?.is_admitted(), "ann pays for bob");
    let room = limiter.acquire(&[charge("room", "ann", 20)]).await?;
    ensure!(room.is_admitted(), "player ann pays for room ann");
    Ok(())
}
