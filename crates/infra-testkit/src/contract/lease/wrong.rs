//! Leases that are wrong on purpose: each has one bug that a clause must catch.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use infra_core::{
    ErrorKind, Result,
    id::Scope,
    lease::{Lease, Leases},
    version::FencingToken,
};

/// A planted bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// It is looked first, and granted later.
    LooksFirst,
    /// All scopes are one.
    Mingled,
    /// A lease ends only by its release.
    Endless,
    /// Every lease has the same token.
    SameToken,
    /// A verdict on a lost lease is taken.
    AcceptsLate,
    /// The owner is granted its own lease again.
    Reentrant,
}

impl Bug {
    /// Every bug, and the clause that catches it.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::LooksFirst, "one_owner"),
        (Self::Mingled, "apart"),
        (Self::Endless, "exclusive"),
        (Self::SameToken, "growing"),
        (Self::AcceptsLate, "late_is_lost"),
        (Self::Reentrant, "reentrant_never"),
    ];
}

/// Right leases with a planted bug.
#[derive(Debug)]
pub struct Wrong {
    right: Arc<dyn Leases>,
    bug: Bug,
}

impl Wrong {
    /// Plants a bug into right leases.
    pub fn plant(right: Arc<dyn Leases>, bug: Bug) -> Arc<dyn Leases> {
        Arc::new(Self { right, bug })
    }

    fn scope(&self, scope: &Scope) -> Result<Scope> {
        if self.bug == Bug::Mingled { Scope::new("all") } else { Ok(scope.clone()) }
    }
}

#[async_trait]
impl Leases for Wrong {
    async fn acquire(&self, scope: &Scope, owner: &str, ttl: Duration) -> Result<Option<Lease>> {
        let scope = self.scope(scope)?;
        let ttl = if self.bug == Bug::Endless { ttl * 1_000 } else { ttl };
        let held = self.right.holder(&scope).await?;
        if self.bug == Bug::LooksFirst && held.is_none() {
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            if let Some(other) = self.right.holder(&scope).await? {
                self.right.release(other).await?;
            }
        }
        if let Some(own) = held.filter(|held| self.bug == Bug::Reentrant && held.owner == owner) {
            return Ok(Some(own));
        }
        let mut granted = self.right.acquire(&scope, owner, ttl).await?;
        if let Some(lease) = granted.as_mut().filter(|_| self.bug == Bug::SameToken) {
            lease.token = FencingToken::new(1);
        }
        Ok(granted)
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<Lease> {
        match self.right.renew(lease, ttl).await {
            Err(error) if self.bug == Bug::AcceptsLate && *error.kind() == ErrorKind::LeaseLost => {
                Ok(lease.clone())
            }
            said => said,
        }
    }

    async fn release(&self, lease: Lease) -> Result<()> {
        self.right.release(lease).await
    }

    async fn holder(&self, scope: &Scope) -> Result<Option<Lease>> {
        self.right.holder(&self.scope(scope)?).await
    }
}
