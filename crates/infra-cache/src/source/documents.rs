//! A collection of a document store as a source.

use std::{
    collections::HashMap,
    fmt::{self, Debug},
    marker::PhantomData,
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use infra_core::{
    Result,
    codec::{Codec, Json, Payload},
    durability::Durability,
    id::Collection,
    store::{Batch, DocumentStore},
    version::Expected,
};
use serde::{Serialize, de::DeserializeOwned};

use super::{Edit, Source};
use crate::read::Loaded;

/// The documents of one collection, encoded with the codec `C`; several edits are one atomic batch.
///
/// It writes whatever is there already: who must not lose another's change takes the store's
/// compare-and-set, through [`CachedDocuments`](crate::CachedDocuments).
pub struct DocumentSource<C = Json> {
    store: Arc<dyn DocumentStore>,
    collection: Collection,
    schema: u32,
    durability: Durability,
    codec: PhantomData<fn() -> C>,
}

impl<C> Debug for DocumentSource<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DocumentSource")
            .field("collection", &self.collection)
            .finish_non_exhaustive()
    }
}

impl DocumentSource {
    /// Creates the source of a collection's documents as JSON, durable, with schema version one.
    pub fn new(store: Arc<dyn DocumentStore>, collection: Collection) -> Self {
        let durability = Durability::default();
        Self { store, collection, schema: 1, durability, codec: PhantomData }
    }
}

impl<C> DocumentSource<C> {
    /// Sets the codec.
    #[must_use]
    pub fn codec<D: Codec>(self) -> DocumentSource<D> {
        let Self { store, collection, schema, durability, codec: _ } = self;
        DocumentSource { store, collection, schema, durability, codec: PhantomData }
    }

    /// Sets the version of the schema that is written.
    #[must_use]
    pub const fn schema(mut self, version: u32) -> Self {
        self.schema = version;
        self
    }

    /// Sets what a write must have reached before it is done.
    #[must_use]
    pub const fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }
}

#[async_trait]
impl<V, C> Source<V> for DocumentSource<C>
where
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
    C: Codec + 'static,
{
    async fn load(&self, keys: Vec<String>) -> Result<HashMap<String, Loaded<V>>> {
        let wanted: Vec<Bytes> = keys.iter().map(|key| Bytes::from(key.clone())).collect();
        let documents = self.store.get_many(&self.collection, &wanted).await?;
        let found = keys.into_iter().zip(documents).filter_map(|(key, it)| Some((key, it?)));
        found.map(|(key, document)| Ok((key, Loaded::new(document.decode()?)))).collect()
    }

    async fn write(&self, edits: Vec<Edit<V>>) -> Result<()> {
        let mut batch = Batch::new().durability(self.durability);
        for Edit { key, value } in edits {
            let collection = self.collection.clone();
            batch = match value {
                Some(value) => {
                    let payload = Payload::encode::<C, V>(self.schema, &value)?;
                    batch.put(collection, key, Expected::Any, payload)
                }
                None => batch.delete(collection, key, Expected::Any),
            };
        }
        self.store.commit(batch).await.map(|_| ())
    }
}
