//! The clauses of limits that count in windows; they take a limiter with the limits of [`WINDOWS`] too.

use std::{sync::Arc, time::Duration};

use infra_core::{
    clock::{Clock as _, SystemClock},
    limit::Verdict as Said,
};

use super::{Breach, Limiter, Verdict, charge};
use crate::{ensure, ensure_eq};

/// How a window counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counting {
    /// Each admission, until it is as old as the window is long.
    Log,
    /// The current window and the one before it, weighted by how much of it is still covered.
    Sliding,
    /// Windows that follow each other.
    Fixed,
}

/// The windows that a clause needs: name, how it counts, what it admits, and how long it is.
pub const WINDOWS: [(&str, Counting, u32, Duration); 3] = [
    ("log", Counting::Log, 6, LENGTH),
    ("sliding", Counting::Sliding, 6, LENGTH),
    ("fixed", Counting::Fixed, 6, LENGTH),
];

const LENGTH: Duration = Duration::from_secs(1);

/// How often somebody asks while the windows go by.
const EVERY: Duration = Duration::from_millis(90);

async fn admits(limiter: &Limiter, limit: &'static str, cost: u32) -> Result<bool, Breach> {
    Ok(limiter.acquire(&[charge(limit, "ann", cost)]).await?.is_admitted())
}

/// What a log admitted counts until just before it is as old as the window is long.
pub async fn exact_window(limiter: Limiter) -> Verdict {
    for cost in [2, 4] {
        ensure!(admits(&limiter, "log", cost).await?, "{cost} of an empty window");
        tokio::time::sleep(LENGTH / 4).await;
    }
    let left = LENGTH / 2;
    let refused = limiter.acquire(&[charge("log", "ann", 1)]).await?;
    ensure_eq!(refused.retry_after(), Some(left), "the wait until the oldest leaves");
    tokio::time::sleep(left.saturating_sub(Duration::from_millis(1))).await;
    ensure!(!admits(&limiter, "log", 1).await?, "a millisecond before the oldest leaves");
    tokio::time::sleep(Duration::from_millis(1)).await;
    ensure!(!admits(&limiter, "log", 3).await?, "three where two have left");
    ensure!(admits(&limiter, "log", 2).await?, "what has left, at once");
    ensure!(!admits(&limiter, "log", 1).await?, "more than what has left");
    Ok(())
}

/// In no stretch as long as the window a log admits more than its capacity, and no other window more
/// than twice of it; each admits about its capacity in each. A window pays, waits and gives back as
/// any limit does.
pub async fn bounded_windows(limiter: Limiter) -> Verdict {
    for (name, counting, capacity, _) in WINDOWS {
        let at = flood(&limiter, name).await?;
        let most = at.iter().map(|begun| {
            at.iter().filter(|end| *begun <= **end && **end < *begun + LENGTH).count()
        });
        let bound = if counting == Counting::Log { capacity } else { capacity * 2 };
        let most = most.max().unwrap_or_default();
        ensure!(most <= bound as usize, "{name} admits {most} within its length");
        let least = capacity as usize * 7;
        ensure!(least <= at.len(), "{name} admits {} in ten windows", at.len());
        tokio::time::sleep(LENGTH * 2).await;
        as_any_limit(&limiter, name, capacity).await?;
    }
    pay_together(&limiter).await
}

/// Asks for ten windows, and returns when somebody was admitted.
async fn flood(limiter: &Limiter, name: &'static str) -> Result<Vec<Duration>, Breach> {
    let clock = SystemClock::new();
    let mut at = Vec::new();
    while clock.now().since_start() < LENGTH * 10 {
        if admits(limiter, name, 1).await? {
            at.push(clock.now().since_start());
        }
        tokio::time::sleep(EVERY).await;
    }
    Ok(at)
}

async fn as_any_limit(limiter: &Limiter, name: &'static str, capacity: u32) -> Verdict {
    let all = [charge(name, "bob", capacity)];
    let much = limiter.acquire(&[charge(name, "bob", capacity + 1)]).await?;
    ensure_eq!(much.verdict, Said::Never, "{name} for more than its capacity");
    let (decision, reserved) = limiter.reserve(&all).await?;
    ensure!(decision.is_admitted(), "{name} is empty and says {decision:?}");
    drop(reserved);
    ensure!(limiter.peek(&all).await?.is_admitted(), "{name} gives back what was not used");
    ensure!(limiter.acquire(&all).await?.is_admitted(), "{name} takes something for a peek");
    let refused = limiter.acquire(&all).await?;
    let Some(wait) = refused.retry_after() else {
        return Err(Breach::new(format!("{name} is full and says {refused:?}")));
    };
    ensure!(wait <= LENGTH * 2, "{name} asks to wait for {wait:?}");
    tokio::time::sleep(wait / 2).await;
    ensure!(!limiter.acquire(&all).await?.is_admitted(), "{name}: half of {wait:?} is enough");
    tokio::time::sleep(wait.saturating_sub(wait / 2)).await;
    ensure!(limiter.acquire(&all).await?.is_admitted(), "{name}: {wait:?} is not enough");
    Ok(())
}

/// Windows that are asked together are paid together.
async fn pay_together(limiter: &Limiter) -> Verdict {
    let limiter = Arc::clone(limiter);
    limiter.acquire(&[charge("fixed", "eve", 4)]).await?;
    let three = WINDOWS.map(|(name, ..)| charge(name, "eve", 3));
    let refused = limiter.acquire(&three).await?;
    ensure_eq!(refused.limit, "fixed", "the window that refuses");
    for (name, left) in [("log", 6), ("sliding", 6), ("fixed", 2)] {
        let rest = limiter.acquire(&[charge(name, "eve", left)]).await?;
        ensure!(rest.is_admitted(), "{name} has paid for what another refused: {rest:?}");
    }
    Ok(())
}
