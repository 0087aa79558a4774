//! The right to serve a shared database: one process at a time has it.
//!
//! It is a lease that is renewed while the process runs and given back at its end, so the next process
//! takes over at once; after a crash it waits until the lease is over. A process that finds that another
//! one has had it meanwhile holds rooms that may be out of date: it ends itself.

use std::{sync::Arc, time::Duration};

use infra_core::{
    Error, ErrorKind, Result,
    id::Scope,
    lease::{Lease, Leases},
};
use tokio::{
    sync::{Mutex, watch},
    task::AbortHandle,
};

/// How long after its last word a process has the right no more.
const TTL: Duration = Duration::from_secs(5);

/// How often it is asked for again.
const EVERY: Duration = Duration::from_millis(1_500);

/// How long a start waits for the process before it.
const WAIT: Duration = Duration::from_secs(20);

/// How often it looks whether that one has ended.
const LOOK: Duration = Duration::from_millis(100);

/// The right of this process, until it is closed.
#[derive(Debug)]
pub(super) struct Tenure {
    held: Arc<Held>,
    keeper: AbortHandle,
}

#[derive(Debug)]
struct Held {
    leases: Arc<dyn Leases>,
    lease: Mutex<Lease>,
    is_lost: watch::Sender<bool>,
}

impl Tenure {
    /// Takes the right to serve what `leases` are kept with; waits for the process before this one.
    pub(super) async fn begin(leases: Arc<dyn Leases>) -> Result<Self> {
        let scope = Scope::new("game-server")?;
        let owner = format!("process {}", std::process::id());
        let waiting = tokio::time::timeout(WAIT, acquire(&*leases, &scope, &owner));
        let Ok(lease) = waiting.await else {
            let other = leases.holder(&scope).await?.map_or_else(String::new, |it| it.owner);
            let detail = format!("{other} serves this database and does not end");
            return Err(Error::new(ErrorKind::Unavailable, "begin to serve").detail(detail));
        };
        let (lease, is_lost) = (Mutex::new(lease?), watch::Sender::new(false));
        let held = Arc::new(Held { leases, lease, is_lost });
        let keeper = Arc::clone(&held);
        let keeper = tokio::spawn(async move { keeper.keep().await }).abort_handle();
        Ok(Self { held, keeper })
    }

    /// Returns what tells when another process has had the right.
    pub(super) fn is_lost(&self) -> watch::Receiver<bool> {
        self.held.is_lost.subscribe()
    }

    /// Gives the right back, so that the next process need not wait.
    pub(super) async fn close(&self) {
        self.keeper.abort();
        let lease = self.held.lease.lock().await.clone();
        // One that is lost is nobody's to give back.
        if let Err(error) = self.held.leases.release(lease).await {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "right to serve not given back"
            );
        }
    }
}

impl Drop for Tenure {
    /// Lets the right end by itself: who gives a start up keeps nobody waiting for longer.
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

async fn acquire(leases: &dyn Leases, scope: &Scope, owner: &str) -> Result<Lease> {
    loop {
        if let Some(lease) = leases.acquire(scope, owner, TTL).await? {
            return Ok(lease);
        }
        tokio::time::sleep(LOOK).await;
    }
}

impl Held {
    async fn keep(&self) {
        loop {
            tokio::time::sleep(EVERY).await;
            match self.renew().await {
                Ok(true) => {}
                Ok(false) => {
                    tracing::error!("another process serves this database now");
                    self.is_lost.send_replace(true);
                    return;
                }
                // Without the database nothing is served, here or there.
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "right to serve not renewed");
                }
            }
        }
    }

    /// Renews the lease, or takes it again if nobody has had it since; returns whether this process has it.
    async fn renew(&self) -> Result<bool> {
        let mut lease = self.lease.lock().await;
        match self.leases.renew(&lease, TTL).await {
            Ok(renewed) => *lease = renewed,
            Err(error) if *error.kind() == ErrorKind::LeaseLost => {
                let taken = self.leases.acquire(&lease.scope, &lease.owner, TTL).await?;
                let Some(taken) = taken else { return Ok(false) };
                let is_next = taken.token == lease.token.next();
                *lease = taken;
                return Ok(is_next);
            }
            Err(error) => return Err(error),
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use infra_core::{SystemClock, version::FencingToken};
    use infra_testkit::model::ModelLeases;

    use super::*;

    fn leases() -> Arc<dyn Leases> {
        Arc::new(ModelLeases::new(SystemClock::shared()))
    }

    async fn lost(tenure: &Tenure) {
        let mut told = tenure.is_lost();
        let lost = told.wait_for(|is_lost| *is_lost);
        assert!(tokio::time::timeout(EVERY * 2, lost).await.unwrap().is_ok());
    }

    async fn token(tenure: &Tenure) -> FencingToken {
        tenure.held.lease.lock().await.token
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_process_waits_until_the_one_before_has_ended_and_is_refused_if_it_never_does()
    {
        let leases = leases();
        let first = Tenure::begin(Arc::clone(&leases)).await.unwrap();
        let refused = Tenure::begin(Arc::clone(&leases)).await.unwrap_err();
        assert_eq!(*refused.kind(), ErrorKind::Unavailable);
        assert!(refused.to_string().contains("serves this database"), "{refused}");
        let next = tokio::spawn(Tenure::begin(leases));
        tokio::time::sleep(TTL * 2).await;
        assert!(!next.is_finished() && !*first.is_lost().borrow(), "a right that is renewed stays");
        first.close().await;
        let next = next.await.unwrap().unwrap();
        assert!(token(&first).await < token(&next).await);
        next.close().await;
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_crash_the_next_process_has_the_right_once_the_lease_is_over() {
        let leases = leases();
        let crashed = Tenure::begin(Arc::clone(&leases)).await.unwrap();
        crashed.keeper.abort();
        let next = Tenure::begin(leases).await.unwrap();
        next.close().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_right_that_is_dropped_ends_by_itself() {
        let leases = leases();
        drop(Tenure::begin(Arc::clone(&leases)).await.unwrap());
        Tenure::begin(leases).await.unwrap().close().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_slept_goes_on_if_nobody_came_and_ends_if_somebody_did() {
        let leases = leases();
        let slept = Tenure::begin(Arc::clone(&leases)).await.unwrap();
        let expire = async || {
            let lease = slept.held.lease.lock().await.clone();
            leases.release(lease).await.unwrap();
        };
        expire().await;
        assert!(slept.held.renew().await.unwrap(), "nobody else has had it");
        expire().await;
        let other = Tenure::begin(Arc::clone(&leases)).await.unwrap();
        lost(&slept).await;
        other.close().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_slept_ends_also_if_the_other_one_is_gone_again() {
        let leases = leases();
        let slept = Tenure::begin(Arc::clone(&leases)).await.unwrap();
        let lease = slept.held.lease.lock().await.clone();
        leases.release(lease).await.unwrap();
        Tenure::begin(Arc::clone(&leases)).await.unwrap().close().await;
        lost(&slept).await;
    }
}
