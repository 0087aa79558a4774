//! Leases as the contract reads.

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use infra_core::{
    Clock, Error, ErrorKind, Result,
    id::Scope,
    lease::{Lease, Leases},
    version::FencingToken,
};
use parking_lot::Mutex;

/// Keeps leases in a map.
#[derive(Debug)]
pub struct ModelLeases {
    clock: Arc<dyn Clock>,
    scopes: Mutex<HashMap<Scope, Granted>>,
}

/// What is known of a scope.
#[derive(Debug, Default)]
struct Granted {
    highest: FencingToken,
    lease: Option<Lease>,
}

impl ModelLeases {
    /// Creates leases whose ends are judged by the wall time of `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, scopes: Mutex::default() }
    }

    /// Does something with the lease of a scope, or with none if that has ended.
    fn with<T>(&self, scope: &Scope, act: impl FnOnce(&mut Granted) -> T) -> T {
        let mut scopes = self.scopes.lock();
        let granted = scopes.entry(scope.clone()).or_default();
        let now = self.clock.wall();
        granted.lease = granted.lease.take().filter(|lease| now < lease.expires);
        act(granted)
    }
}

fn lost(operation: &'static str) -> Error {
    Error::new(ErrorKind::LeaseLost, operation)
}

#[async_trait]
impl Leases for ModelLeases {
    async fn acquire(&self, scope: &Scope, owner: &str, ttl: Duration) -> Result<Option<Lease>> {
        if ttl.is_zero() {
            return Err(Error::invalid("acquire lease", "a time to live of zero"));
        }
        let expires = self.clock.wall().plus(ttl);
        Ok(self.with(scope, |granted| {
            if granted.lease.is_some() {
                return None;
            }
            granted.highest = granted.highest.next();
            let (scope, owner, token) = (scope.clone(), owner.to_owned(), granted.highest);
            granted.lease = Some(Lease { scope, owner, token, expires });
            granted.lease.clone()
        }))
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<Lease> {
        let expires = self.clock.wall().plus(ttl);
        self.with(&lease.scope, |granted| match granted.lease.as_mut() {
            Some(held) if held.token == lease.token => {
                held.expires = expires;
                Ok(held.clone())
            }
            _ => Err(lost("renew lease")),
        })
    }

    async fn release(&self, lease: Lease) -> Result<()> {
        self.with(&lease.scope, |granted| {
            let is_held = granted.lease.as_ref().is_some_and(|held| held.token == lease.token);
            granted.lease = granted.lease.take().filter(|_| !is_held);
            if is_held { Ok(()) } else { Err(lost("release lease")) }
        })
    }

    async fn holder(&self, scope: &Scope) -> Result<Option<Lease>> {
        Ok(self.with(scope, |granted| granted.lease.clone()))
    }
}
