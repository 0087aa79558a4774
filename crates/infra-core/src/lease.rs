//! Time-bound ownership with a fencing token that only grows.

use std::{fmt::Debug, time::Duration};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{clock::Timestamp, error::Result, id::Scope, version::FencingToken};

/// The proof of ownership that a write carries.
///
/// A store keeps the highest token it has seen for each scope, in the same atomic commit as the
/// write, and refuses a lower one with [`Fenced`](crate::error::ErrorKind::Fenced). So an owner
/// that slept through the end of its lease can do no harm. See Kleppmann, "How to do distributed
/// locking", 2016.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fence {
    /// What is owned.
    pub scope: Scope,
    /// The owner's token.
    pub token: FencingToken,
}

/// A lease that was granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// What is owned.
    pub scope: Scope,
    /// Who owns it, as the owner named itself.
    pub owner: String,
    /// The token for [`Fence`].
    pub token: FencingToken,
    /// When it ends unless it is renewed, by the engine's clock.
    pub expires: Timestamp,
}

impl Lease {
    /// Returns the fence that the owner's writes carry.
    pub fn fence(&self) -> Fence {
        Fence { scope: self.scope.clone(), token: self.token }
    }
}

/// Grants ownership of scopes for a time.
///
/// # Contract
///
/// 1. **Exclusive:** at any time at most one unexpired lease exists for a scope.
/// 2. **Growing:** each granted lease of a scope has a higher token than every one before, also
///    over release, expiry and restart.
/// 3. **Late is lost:** renewing or releasing a lease that has ended, or that another owner holds,
///    is [`LeaseLost`](crate::error::ErrorKind::LeaseLost) and changes nothing.
/// 4. **Refusal is a value:** a scope that somebody else holds is `None`, not an error.
/// 5. **Reentrant never:** the same owner asking twice is refused like anybody else; it renews.
#[async_trait]
pub trait Leases: Send + Sync + Debug {
    /// Takes the lease of `scope` for `ttl`, or returns `None` while another one holds.
    ///
    /// # Errors
    ///
    /// [`Invalid`](crate::error::ErrorKind::Invalid) if `ttl` is zero, and what the engine fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave a lease that nobody renews; it ends by itself.
    async fn acquire(&self, scope: &Scope, owner: &str, ttl: Duration) -> Result<Option<Lease>>;

    /// Extends a lease to `ttl` from now and returns it with its new end.
    ///
    /// # Errors
    ///
    /// [`LeaseLost`](crate::error::ErrorKind::LeaseLost) if it has ended.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the lease renewed or not; its old end still holds.
    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<Lease>;

    /// Ends a lease before its time.
    ///
    /// # Errors
    ///
    /// [`LeaseLost`](crate::error::ErrorKind::LeaseLost) if it has ended already.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave the lease to end by itself.
    async fn release(&self, lease: Lease) -> Result<()>;

    /// Returns the lease that holds a scope now.
    ///
    /// # Errors
    ///
    /// What the engine fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    async fn holder(&self, scope: &Scope) -> Result<Option<Lease>>;
}
