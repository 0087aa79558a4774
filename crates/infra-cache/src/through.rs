//! Reading through a cache and writing through it: the source first, then the cache.

use std::{
    collections::HashMap,
    fmt::{self, Debug},
    sync::Arc,
};

use infra_core::{
    Error, ErrorKind, Result,
    codec::{Codec, Json},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    read::Loaded,
    source::{Edit, Source},
    task,
    tiered::Tiered,
    turns::Turns,
};

const SAVE: &str = "write through cache";

/// A source behind a cache, as one repository: reads are answered from the cache, writes go to the source first.
///
/// After a write returned, no read sees what was there before it. A write that fails leaves nothing of its
/// key in the cache, since nobody knows what became of it. In a cache of one process the new value is kept; with a
/// second tier or a backplane the older one is removed instead: the writes of two processes have no order that a
/// cache could see, so the next read takes the value from the source, with its fence.
///
/// ```
/// use std::sync::Arc;
/// use infra_cache::{DocumentSource, Options, Tiered, TieredBuilder, WriteThrough};
/// use infra_core::{SystemClock, id::Collection};
/// use infra_testkit::model::ModelDocuments;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let store = Arc::new(ModelDocuments::new(SystemClock::shared()));
/// let source = Arc::new(DocumentSource::new(store, Collection::new("players")?));
/// let cache: Tiered<String> = TieredBuilder::new(Options::new(1_000), SystemClock::shared()).build();
/// let players = WriteThrough::new(cache, source);
/// players.save("7", "Ann".to_owned()).await?;
/// assert_eq!(players.get("7").await?.as_deref(), Some("Ann"));
/// # Ok::<(), infra_core::Error>(()) }).unwrap();
/// ```
pub struct WriteThrough<V, C = Json> {
    cache: Tiered<V, C>,
    source: Arc<dyn Source<V>>,
    turns: Arc<Turns>,
}

impl<V, C> Clone for WriteThrough<V, C> {
    fn clone(&self) -> Self {
        let (source, turns) = (Arc::clone(&self.source), Arc::clone(&self.turns));
        Self { cache: self.cache.clone(), source, turns }
    }
}

impl<V, C> Debug for WriteThrough<V, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteThrough").field("cache", &self.cache).finish_non_exhaustive()
    }
}

impl<V, C> WriteThrough<V, C>
where
    V: Clone + Send + Sync + Serialize + DeserializeOwned + 'static,
    C: Codec + 'static,
{
    /// Creates the repository of a source behind a cache.
    pub fn new(cache: Tiered<V, C>, source: Arc<dyn Source<V>>) -> Self {
        Self { cache, source, turns: Arc::new(Turns::new()) }
    }

    /// Returns the cache.
    pub const fn cache(&self) -> &Tiered<V, C> {
        &self.cache
    }

    /// Returns the value under a key, from the source if the cache has none.
    ///
    /// # Errors
    ///
    /// As for [`Tiered::get_or_load`]; that there is no value is `None`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the waiting only.
    pub async fn get(&self, key: &str) -> Result<Option<V>> {
        let (source, name) = (Arc::clone(&self.source), key.to_owned());
        let load = || async move {
            let mut found = source.load(vec![name.clone()]).await?;
            Ok(found.remove(&name).unwrap_or_else(Loaded::absent))
        };
        Ok(self.cache.read_or_load(key, load).await?.value)
    }

    /// Returns the values under several keys; the source is asked once, for what the cache does not have.
    ///
    /// # Errors
    ///
    /// As for [`Self::get`].
    ///
    /// # Cancel safety
    ///
    /// As for [`Self::get`].
    pub async fn get_many(&self, keys: &[String]) -> Result<HashMap<String, V>> {
        let source = Arc::clone(&self.source);
        let load = move |keys| {
            let source = Arc::clone(&source);
            async move { source.load(keys).await }
        };
        self.cache.get_many_or_load(keys, load).await
    }

    /// Saves a value, which may have a time and tags of its own in the cache.
    ///
    /// # Errors
    ///
    /// The source's own; then nothing of the key is in the cache. If the source has saved it and the second tier or
    /// the backplane fails, their error, which says so: elsewhere the older value may be served until its time is over.
    ///
    /// # Cancel safety
    ///
    /// The write goes on if the future is dropped.
    pub async fn save(&self, key: &str, value: impl Into<Loaded<V>>) -> Result<()> {
        self.write(key.to_owned(), Some(value.into())).await
    }

    /// Deletes the value under a key.
    ///
    /// # Errors
    ///
    /// As for [`Self::save`].
    ///
    /// # Cancel safety
    ///
    /// As for [`Self::save`].
    pub async fn delete(&self, key: &str) -> Result<()> {
        self.write(key.to_owned(), None).await
    }

    async fn write(&self, key: String, loaded: Option<Loaded<V>>) -> Result<()> {
        let Self { cache, source, turns } = self.clone();
        task::detached(SAVE, async move {
            let _turn = turns.take(&key).await;
            let value = loaded.as_ref().and_then(|loaded| loaded.value.clone());
            let edit = Edit { key: key.clone(), value };
            // In a task of its own, so that a source that panics is one that fails.
            let written = task::detached(SAVE, async move { source.write(vec![edit]).await }).await;
            if let Err(error) = written {
                // Whether the second tier can be told too does not change what is returned.
                let _removed = cache.invalidate(&key).await.is_ok();
                return Err(error);
            }
            cache.settle(key, loaded).await.map_err(|error| saved(&error))
        })
        .await
    }
}

/// Says that a value was saved and only the cache failed.
fn saved(error: &Error) -> Error {
    Error::new(ErrorKind::Indeterminate, SAVE)
        .detail("it is saved; a second tier or other processes may have the older value")
        .because(error.clone())
        .idempotent()
}
