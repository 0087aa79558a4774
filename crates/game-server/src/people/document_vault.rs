//! Keys as documents, for servers whose documents are in memory or in PostgreSQL.
//!
//! The embedded engine keeps what was deleted until its files are merged, so it is none for keys.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use infra_core::{
    ErrorKind, Result,
    codec::Payload,
    id::Collection,
    store::{Batch, DocumentStore, Scan},
    version::Expected,
};

use super::vault::Vault;

/// How many names are read at a time.
const PAGE: usize = 1_000;

/// A collection of keys.
#[derive(Debug, Clone)]
pub(crate) struct DocumentVault {
    documents: Arc<dyn DocumentStore>,
    collection: Collection,
}

impl DocumentVault {
    pub(crate) fn new(documents: Arc<dyn DocumentStore>) -> Result<Self> {
        Ok(Self { documents, collection: Collection::new("people")? })
    }
}

#[async_trait]
impl Vault for DocumentVault {
    async fn keep(&self, name: &str, body: Bytes) -> Result<Bytes> {
        loop {
            if let Some(there) = self.get(name).await? {
                return Ok(there);
            }
            let (collection, payload) = (self.collection.clone(), Payload::raw(body.clone()));
            let put = Batch::new().put(collection, name.to_owned(), Expected::Absent, payload);
            match self.documents.commit(put).await {
                Ok(_) => return Ok(body),
                // Somebody else's is there now, unless it was destroyed again.
                Err(error) if matches!(error.kind(), ErrorKind::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn get(&self, name: &str) -> Result<Option<Bytes>> {
        let found = self.documents.get(&self.collection, name.as_bytes()).await?;
        Ok(found.map(|document| document.payload.body))
    }

    async fn destroy(&self, name: &str) -> Result<bool> {
        let was_there = self.get(name).await?.is_some();
        if was_there {
            let (collection, name) = (self.collection.clone(), name.to_owned());
            self.documents.commit(Batch::new().delete(collection, name, Expected::Any)).await?;
        }
        Ok(was_there)
    }

    async fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let mut names = Vec::new();
        let mut scan = Scan::prefix(prefix.to_owned(), PAGE);
        loop {
            let page = self.documents.scan(&self.collection, scan.clone()).await?;
            let Some(last) = page.last() else { return Ok(names) };
            scan.after = Some(last.key.clone());
            let keys = page.iter().filter_map(|found| std::str::from_utf8(&found.key).ok());
            names.extend(keys.map(str::to_owned));
        }
    }
}
