//! The contract of [`infra_core::lease::Leases`], on the system's clock.

#![expect(clippy::missing_errors_doc, reason = "a clause's only error is its breach")]

pub mod wrong;

use std::{sync::Arc, time::Duration};

use infra_core::{
    ErrorKind, Result,
    id::Scope,
    lease::{Lease, Leases},
    version::FencingToken,
};
use tokio::task::JoinSet;

use super::{Breach, Verdict};
use crate::{ensure, ensure_eq};

/// What a clause takes: leases of which none is granted.
pub type Store = Arc<dyn Leases>;

/// Stamps out one test per clause for leases; the expression makes them.
///
/// `planted` before it stamps out the test of the suite itself; then the expression takes a bug.
/// `real` before it runs all clauses on real time, for an engine whose clock is a server's.
#[macro_export]
macro_rules! leases_contract {
    (real $make:expr) => {
        $crate::stamp!(
            $crate::contract::lease,
            [one_owner, apart, exclusive, growing, late_is_lost, reentrant_never],
            timed [],
            $make
        );
    };
    (planted $make:expr) => {
        $crate::leases_contract!(@ planted $make);
    };
    (@ $then:ident $make:expr) => {
        $crate::$then!(
            $crate::contract::lease,
            [one_owner, apart],
            timed [exclusive, growing, late_is_lost, reentrant_never],
            $make
        );
    };
    ($make:expr) => {
        $crate::leases_contract!(@ stamp $make);
    };
}

/// Long enough for a busy machine, where time is real.
const TTL: Duration = Duration::from_secs(2);

async fn acquire(leases: &Store, scope: &str, owner: &str) -> Result<Option<Lease>> {
    leases.acquire(&Scope::new(scope)?, owner, TTL).await
}

async fn granted(leases: &Store, scope: &str, owner: &str) -> Result<Lease, Breach> {
    let lease = acquire(leases, scope, owner).await?;
    lease.ok_or_else(|| Breach::new(format!("{owner} is refused {scope}, which nobody holds")))
}

fn is_lost<T>(said: &Result<T>) -> bool {
    said.as_ref().is_err_and(|error| *error.kind() == ErrorKind::LeaseLost)
}

/// Of many that ask at once exactly one is granted the lease.
pub async fn one_owner(leases: Store) -> Verdict {
    for round in 0..10 {
        let mut owners = JoinSet::new();
        for owner in 0..16 {
            let leases = Arc::clone(&leases);
            let scope = format!("room-{round}");
            owners.spawn(async move {
                leases.acquire(&Scope::new(scope)?, &format!("owner {owner}"), TTL * 100).await
            });
        }
        let mut count = 0;
        while let Some(said) = owners.join_next().await {
            let said = said.map_err(|error| Breach::new(error.to_string()))?;
            count += u32::from(said?.is_some());
        }
        ensure_eq!(count, 1, "owners in round {round}");
    }
    Ok(())
}

/// Scopes have nothing to do with each other, also where one name begins the other.
pub async fn apart(leases: Store) -> Verdict {
    let first = granted(&leases, "room", "ann").await?;
    let second = granted(&leases, "room-1", "bob").await?;
    leases.release(first).await?;
    let holder = leases.holder(&second.scope).await?;
    ensure_eq!(holder.map(|lease| lease.owner), Some("bob".to_owned()), "the holder of room-1");
    Ok(())
}

/// While a lease holds, others are refused; at its end it is free.
pub async fn exclusive(leases: Store) -> Verdict {
    let held = granted(&leases, "room", "ann").await?;
    ensure_eq!(leases.holder(&held.scope).await?, Some(held.clone()), "the holder");
    tokio::time::sleep(TTL / 2).await;
    ensure_eq!(acquire(&leases, "room", "bob").await?, None, "a lease that somebody else holds");
    let renewed = leases.renew(&held, TTL).await?;
    ensure_eq!(renewed.token, held.token, "the token of a renewed lease");
    ensure!(held.expires < renewed.expires, "a renewed lease ends no later");
    tokio::time::sleep(TTL / 2 + TTL / 4).await;
    ensure_eq!(acquire(&leases, "room", "bob").await?, None, "a lease that was renewed");
    tokio::time::sleep(TTL / 4 + Duration::from_millis(5)).await;
    ensure_eq!(leases.holder(&held.scope).await?, None, "the holder after the end");
    granted(&leases, "room", "bob").await?;
    Ok(())
}

/// Each granted lease of a scope has a higher token than all before, over release and expiry.
pub async fn growing(leases: Store) -> Verdict {
    let mut last = FencingToken::ZERO;
    for round in 0..6 {
        let lease = granted(&leases, "room", "ann").await?;
        ensure!(last < lease.token, "token {} after {last}", lease.token);
        ensure_eq!(lease.fence().token, lease.token, "the fence's token");
        last = lease.token;
        if round % 2 == 0 {
            leases.release(lease).await?;
        } else {
            tokio::time::sleep(TTL + Duration::from_millis(5)).await;
        }
    }
    Ok(())
}

/// Renewing or releasing a lease that has ended changes nothing and says so.
pub async fn late_is_lost(leases: Store) -> Verdict {
    let old = granted(&leases, "room", "ann").await?;
    tokio::time::sleep(TTL + Duration::from_millis(5)).await;
    ensure!(is_lost(&leases.renew(&old, TTL).await), "a lease is renewed after its end");
    let new = granted(&leases, "room", "bob").await?;
    ensure!(is_lost(&leases.renew(&old, TTL).await), "a lease is renewed that another one holds");
    ensure!(is_lost(&leases.release(old).await), "a lease is released that another one holds");
    ensure_eq!(leases.holder(&new.scope).await?, Some(new.clone()), "the holder");
    leases.release(new.clone()).await?;
    ensure!(is_lost(&leases.release(new.clone()).await), "a lease is released twice");
    let zero = leases.acquire(&new.scope, "ann", Duration::ZERO).await;
    let kind = zero.map_err(|error| error.kind().clone());
    ensure_eq!(kind, Err(ErrorKind::Invalid), "a lease for no time");
    Ok(())
}

/// An owner that asks twice is refused like anybody else.
pub async fn reentrant_never(leases: Store) -> Verdict {
    granted(&leases, "room", "ann").await?;
    ensure_eq!(acquire(&leases, "room", "ann").await?, None, "the owner's second request");
    Ok(())
}
