//! Leases in any document store.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use infra_core::{
    Clock, Error, ErrorKind, Result,
    clock::Timestamp,
    codec::Payload,
    id::{Collection, Scope},
    lease::{Lease, Leases},
    store::{Batch, DocumentStore},
    version::{Expected, FencingToken, Version},
};
use serde::{Deserialize, Serialize};

/// How often a lease is asked for again that another request changed meanwhile.
const TRIES: usize = 32;

/// Grants leases as documents: in memory or on disk, the token grows over restarts too.
///
/// The clock of this process judges when a lease ends; where several processes share the store,
/// take the leases of a server.
///
/// ```
/// use std::{sync::Arc, time::Duration};
/// use infra_core::{SystemClock, id::Scope, lease::Leases};
/// use infra_persistence::DocumentLeases;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let clock = SystemClock::shared();
/// let leases = DocumentLeases::new(Arc::new(infra_persistence::memory(Arc::clone(&clock))?), clock)?;
/// let (room, ttl) = (Scope::new("room-1")?, Duration::from_secs(10));
/// let lease = leases.acquire(&room, "node-1", ttl).await?.expect("nobody holds it");
/// assert!(leases.acquire(&room, "node-2", ttl).await?.is_none());
/// leases.release(lease).await?;
/// # Ok::<(), infra_core::Error>(()) }).unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct DocumentLeases {
    documents: Arc<dyn DocumentStore>,
    clock: Arc<dyn Clock>,
    collection: Collection,
}

/// What is kept of a scope; it is never removed, so that the token only grows.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Row {
    owner: String,
    token: FencingToken,
    /// When the lease ends; the epoch once it was released.
    expires: Timestamp,
}

impl DocumentLeases {
    /// Creates the leases of a document store, in its collection `leases`.
    ///
    /// # Errors
    ///
    /// Never: the collection's name is a good one.
    pub fn new(documents: Arc<dyn DocumentStore>, clock: Arc<dyn Clock>) -> Result<Self> {
        Ok(Self { documents, clock, collection: Collection::new("leases")? })
    }

    async fn read(&self, scope: &Scope) -> Result<(Row, Version)> {
        let found = self.documents.get(&self.collection, scope.as_str().as_bytes()).await?;
        let Some(found) = found else { return Ok((Row::default(), Version::ZERO)) };
        Ok((found.decode()?, found.version))
    }

    /// Changes the row of a scope by `decide`, which returns `None` to leave it and sees it again
    /// if another one changed it meanwhile.
    async fn change(
        &self,
        operation: &'static str,
        scope: &Scope,
        decide: impl Fn(Row, Timestamp) -> Option<Row> + Send,
    ) -> Result<Option<Row>> {
        for _ in 0..TRIES {
            let (row, version) = self.read(scope).await?;
            let Some(row) = decide(row, self.clock.wall()) else { return Ok(None) };
            let expected = match version {
                Version::ZERO => Expected::Absent,
                version => Expected::Exactly(version),
            };
            let key = Bytes::copy_from_slice(scope.as_str().as_bytes());
            let payload = Payload::json(1, &row)?;
            let batch = Batch::new().put(self.collection.clone(), key, expected, payload);
            match self.documents.commit(batch).await {
                Err(error) if matches!(error.kind(), ErrorKind::Conflict { .. }) => {}
                said => return said.map(|_| Some(row)),
            }
        }
        Err(Error::new(ErrorKind::Overloaded, operation).detail(format!("scope {scope}")))
    }

    /// Changes the end of a lease that still holds.
    async fn end(&self, operation: &'static str, held: &Lease, expires: Timestamp) -> Result<Row> {
        let changed = self.change(operation, &held.scope, |row, now| {
            let holds = row.token == held.token && now < row.expires;
            holds.then_some(Row { expires, ..row })
        });
        changed.await?.ok_or_else(|| Error::new(ErrorKind::LeaseLost, operation))
    }
}

fn granted(scope: &Scope, row: Row) -> Lease {
    Lease { scope: scope.clone(), owner: row.owner, token: row.token, expires: row.expires }
}

#[async_trait]
impl Leases for DocumentLeases {
    async fn acquire(&self, scope: &Scope, owner: &str, ttl: Duration) -> Result<Option<Lease>> {
        const ACQUIRE: &str = "acquire lease";
        if ttl.is_zero() {
            return Err(Error::invalid(ACQUIRE, "a time to live of zero"));
        }
        let changed = self.change(ACQUIRE, scope, |row, now| {
            let is_free = row.expires <= now;
            let (owner, token, expires) = (owner.to_owned(), row.token.next(), now.plus(ttl));
            is_free.then_some(Row { owner, token, expires })
        });
        Ok(changed.await?.map(|row| granted(scope, row)))
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<Lease> {
        let expires = self.clock.wall().plus(ttl);
        self.end("renew lease", lease, expires).await.map(|row| granted(&lease.scope, row))
    }

    async fn release(&self, lease: Lease) -> Result<()> {
        self.end("release lease", &lease, Timestamp::EPOCH).await.map(|_| ())
    }

    async fn holder(&self, scope: &Scope) -> Result<Option<Lease>> {
        let (row, _) = self.read(scope).await?;
        Ok((self.clock.wall() < row.expires).then(|| granted(scope, row)))
    }
}
