//! Where keys are kept: apart from what is sealed under them, so that they can really be destroyed.

use std::fmt::Debug;

use async_trait::async_trait;
use bytes::Bytes;
use infra_core::Result;

/// Keeps small secrets under names.
///
/// What was destroyed is gone from the medium, as far as its engine can see to that.
#[async_trait]
pub(crate) trait Vault: Send + Sync + Debug {
    /// Keeps `body` durably, unless something is there under the name; returns what is there then.
    async fn keep(&self, name: &str, body: Bytes) -> Result<Bytes>;

    /// Returns what is there.
    async fn get(&self, name: &str) -> Result<Option<Bytes>>;

    /// Destroys what is there, durably, and returns whether there was anything; may be repeated.
    async fn destroy(&self, name: &str) -> Result<bool>;

    /// Returns the names that begin so, in no order.
    async fn names(&self, prefix: &str) -> Result<Vec<String>>;
}
