//! The read path: memory, the second tier, the source; and the writes that go with it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use infra_core::{
    Error, ErrorKind, Result,
    cache::{Cache, Found, Put, Ticket},
    codec::Codec,
    id::Scope,
    lease::Lease,
};
use serde::{Serialize, de::DeserializeOwned};

use super::{CHANGE, Exclusive, Outage, Shared, Tiered, backplane::Removal, frame};
use crate::{
    read::{Loaded, Read, Ttl},
    tags::Tag,
    task,
};

impl<V, C> Tiered<V, C>
where
    V: Clone + Send + Sync + Serialize + DeserializeOwned + 'static,
    C: Codec + 'static,
{
    /// Returns the value under a key from memory or the second tier; a miss is `None`.
    ///
    /// # Errors
    ///
    /// As for [`Cache::look`]; [`Corrupt`](ErrorKind::Corrupt) if what is there is no value.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn get(&self, key: &str) -> Result<Option<V>> {
        let nothing = || async { Ok(Loaded::absent().ttl(Duration::ZERO)) };
        Ok(self.read(key, Source::Nowhere, nothing).await?.value)
    }

    /// Returns the value under a key, or loads it and keeps it in both tiers.
    ///
    /// # Errors
    ///
    /// As for [`LocalCache::get_or_load`](crate::LocalCache::get_or_load), and for [`Self::get`] if
    /// [`Outage::Fail`] is set; [`NotFound`](ErrorKind::NotFound) if it is known that there is none.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the waiting only.
    pub async fn get_or_load<F, L>(&self, key: &str, load: F) -> Result<V>
    where
        F: FnOnce() -> L + Send + 'static,
        L: Future<Output = Result<V>> + Send + 'static,
    {
        let load = || async { load().await.map(Loaded::new) };
        let found = self.read_or_load(key, load).await?.value;
        found.ok_or_else(|| Error::new(ErrorKind::NotFound, "load value").detail(key.to_owned()))
    }

    /// Returns what is known of a key, or loads it, with a time and tags that the load names; says how
    /// old it is and where it came from.
    ///
    /// # Errors
    ///
    /// As for [`Self::get_or_load`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the waiting only.
    pub async fn read_or_load<F, L>(&self, key: &str, load: F) -> Result<Read<V>>
    where
        F: FnOnce() -> L + Send + 'static,
        L: Future<Output = Result<Loaded<V>>> + Send + 'static,
    {
        self.read(key, Source::Load, load).await
    }

    async fn read<F, L>(&self, key: &str, source: Source, load: F) -> Result<Read<V>>
    where
        F: FnOnce() -> L + Send + 'static,
        L: Future<Output = Result<Loaded<V>>> + Send + 'static,
    {
        let (shared, name) = (Arc::clone(&self.shared), key.to_owned());
        let path = || async move { shared.walk::<C, _, _>(&name, source, load).await };
        if self.shared.is_trusted() {
            return self.shared.local.read_or_load(&key.to_owned(), path).await;
        }
        // Nobody would tell that it was removed, so it is neither read nor kept here.
        let began = self.shared.clock.now();
        let loaded = path().await?;
        let age = self.shared.clock.now().since(began);
        Ok(Read { value: loaded.value, age, origin: loaded.origin })
    }

    /// Returns the values under several keys, and loads those that neither tier has, together; a key without
    /// a value is left out. The second tier is asked once.
    ///
    /// # Errors
    ///
    /// As for [`Self::get_or_load`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the waiting only.
    pub async fn get_many_or_load<F, L>(
        &self,
        keys: &[String],
        load: F,
    ) -> Result<HashMap<String, V>>
    where
        F: Fn(Vec<String>) -> L + Send + Sync + 'static,
        L: Future<Output = Result<HashMap<String, Loaded<V>>>> + Send + 'static,
    {
        let load = Arc::new(load);
        let path = |keys: Vec<String>| {
            let (shared, load) = (Arc::clone(&self.shared), Arc::clone(&load));
            async move { shared.walk_many::<C, _, _>(keys, &*load).await }
        };
        if self.shared.is_trusted() {
            return self.shared.local.get_many_or_load(keys, path).await;
        }
        let loaded = path(keys.to_vec()).await?.into_iter();
        Ok(loaded.filter_map(|(key, loaded)| Some((key, loaded.value?))).collect())
    }

    /// Keeps a value in both tiers, and tells other processes that the older one is over.
    ///
    /// # Errors
    ///
    /// As for [`Cache::put_many`]; then it is in neither tier of this process, and in the second perhaps.
    ///
    /// # Cancel safety
    ///
    /// The change goes on if the future is dropped.
    pub async fn put(&self, key: &str, loaded: Loaded<V>) -> Result<()> {
        let (shared, key) = (Arc::clone(&self.shared), key.to_owned());
        task::detached(CHANGE, async move {
            // What is there is over from now on, whatever becomes of the rest.
            shared.local.invalidate(&key);
            if let Some(remote) = &shared.remote {
                let put = shared.put::<C>(&key, &loaded)?;
                remote.put_many(vec![put]).await?;
            }
            if shared.is_trusted() && shared.remote.is_none() {
                shared.local.put_loaded(key.clone(), loaded);
            } else {
                // With others about, the next read takes it from the second tier, with its fence.
                shared.local.invalidate(&key);
            }
            shared.tell(&Removal::Keys(vec![key])).await
        })
        .await
    }

    /// Takes note of what the source has under a key now: keeps it if nobody else could have written it meanwhile,
    /// and removes what is older otherwise.
    pub(crate) async fn settle(&self, key: String, loaded: Option<Loaded<V>>) -> Result<()> {
        match loaded {
            Some(loaded) if self.is_alone() => {
                self.shared.local.put_loaded(key, loaded);
                Ok(())
            }
            Some(_) | None => self.invalidate_many(vec![key]).await.map(|_| ()),
        }
    }
}

/// Whether there is a source behind the second tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Nowhere,
    Load,
}

impl<V> Shared<V>
where
    V: Clone + Send + Sync + Serialize + DeserializeOwned + 'static,
{
    /// Looks in the second tier, and asks the source for what is not there.
    async fn walk<C, F, L>(&self, key: &str, source: Source, load: F) -> Result<Loaded<V>>
    where
        C: Codec,
        F: FnOnce() -> L,
        L: Future<Output = Result<Loaded<V>>>,
    {
        let Some(remote) = &self.remote else { return load().await };
        let looked = self.look::<C>(&**remote, key).await;
        let ticket = match looked {
            Ok((Some(found), _)) => return Ok(found),
            Ok((None, ticket)) => Some(ticket),
            Err(error) if source == Source::Nowhere || self.settings.outage == Outage::Fail => {
                return Err(error);
            }
            Err(_) => None,
        };
        let (Some(ticket), Source::Load) = (ticket, source) else { return load().await };
        let lease = match self.turn::<C>(&**remote, key).await {
            Turn::Found(found) => return Ok(found),
            Turn::Mine(lease) => lease,
        };
        let loaded = load().await;
        if let Ok(loaded) = &loaded {
            self.fill::<C>(&**remote, ticket, [(key, loaded)]).await;
        }
        if let (Some(lease), Some(exclusive)) = (lease, &self.settings.exclusive) {
            // If it cannot be released it ends by itself.
            let _released = exclusive.leases.release(lease).await.is_ok();
        }
        loaded
    }

    async fn walk_many<C, F, L>(
        &self,
        keys: Vec<String>,
        load: &F,
    ) -> Result<HashMap<String, Loaded<V>>>
    where
        C: Codec,
        F: Fn(Vec<String>) -> L,
        L: Future<Output = Result<HashMap<String, Loaded<V>>>>,
    {
        let Some(remote) = &self.remote else { return load(keys).await };
        let refs: Vec<&str> = keys.iter().map(String::as_str).collect();
        let looked = match remote.look(&refs).await {
            Ok(looked) => looked,
            Err(error) if self.settings.outage == Outage::Fail => return Err(error),
            Err(_) => return load(keys).await,
        };
        let mut all = HashMap::new();
        let mut missing = Vec::new();
        for (key, found) in keys.into_iter().zip(looked.found) {
            match found.map(|found| self.loaded::<C>(found)).transpose()?.flatten() {
                Some(loaded) => drop(all.insert(key, loaded)),
                None => missing.push(key),
            }
        }
        if !missing.is_empty() {
            let loaded = load(missing).await?;
            let fills = loaded.iter().map(|(key, loaded)| (key.as_str(), loaded));
            self.fill::<C>(&**remote, looked.ticket, fills).await;
            all.extend(loaded);
        }
        Ok(all)
    }

    async fn look<C: Codec>(
        &self,
        remote: &dyn Cache,
        key: &str,
    ) -> Result<(Option<Loaded<V>>, Ticket)> {
        let mut looked = remote.look(&[key]).await?;
        let found = looked.found.pop().flatten().map(|found| self.loaded::<C>(found));
        Ok((found.transpose()?.flatten(), looked.ticket))
    }

    /// Reads what was found; `None` if it is of another schema or codec.
    fn loaded<C: Codec>(&self, found: Found) -> Result<Option<Loaded<V>>> {
        let Some(value) = frame::decode::<C, V>(self.settings.schema, &found.value)? else {
            return Ok(None);
        };
        let loaded = match value {
            frame::Body::Value(value) => Loaded::new(value),
            frame::Body::Absent => Loaded::absent(),
        };
        let loaded = loaded.remote(found.left);
        Ok(Some(found.tags.into_iter().fold(loaded, Loaded::tagged)))
    }

    /// Fills the second tier; that it could not be done costs the next process a load, nothing else.
    async fn fill<'a, C: Codec>(
        &self,
        remote: &dyn Cache,
        ticket: Ticket,
        loaded: impl IntoIterator<Item = (&'a str, &'a Loaded<V>)>,
    ) where
        V: 'a,
    {
        let puts = loaded.into_iter().filter_map(|(key, loaded)| self.put::<C>(key, loaded).ok());
        let puts: Vec<Put> = puts.collect();
        let _filled = remote.fill(ticket, puts).await.is_ok();
    }

    /// Makes of a loaded value what is put into the second tier.
    pub(super) fn put<C: Codec>(&self, key: &str, loaded: &Loaded<V>) -> Result<Put> {
        let value = frame::encode::<C, V>(self.settings.schema, loaded.value.as_ref())?;
        let absent = || Some(self.local.0.books.options.absent.unwrap_or_default());
        let usual = loaded.value.as_ref().map_or_else(absent, |_| self.settings.remote_ttl);
        let ttl = match loaded.ttl {
            Ttl::Usual => usual,
            Ttl::Endless => None,
            Ttl::For(ttl) => Some(ttl),
            Ttl::AtMost(most) => Some(usual.map_or(most, |usual| usual.min(most))),
        };
        let name = |tag: &Tag| match tag {
            Tag::Named(name) => Some(name.to_string()),
            Tag::Group(_) => None,
        };
        let tags = loaded.tags.iter().filter_map(name).collect();
        Ok(Put { key: key.to_owned(), value, ttl, tags })
    }

    /// Waits for this process's turn to load, if that is asked for.
    async fn turn<C: Codec>(&self, remote: &dyn Cache, key: &str) -> Turn<V> {
        const PAUSE: Duration = Duration::from_millis(10);
        let Some(Exclusive { leases, name, wait }) = &self.settings.exclusive else {
            return Turn::Mine(None);
        };
        // A key too long for a scope is loaded by whoever comes.
        let Ok(scope) = Scope::new(format!("{name}:{key}")) else { return Turn::Mine(None) };
        let ask = async {
            loop {
                match leases.acquire(&scope, "load", self.local.0.books.options.load).await {
                    Ok(None) => {}
                    Ok(lease) => return Turn::Mine(lease),
                    Err(_) => return Turn::Mine(None),
                }
                tokio::time::sleep(PAUSE).await;
                match self.look::<C>(remote, key).await {
                    Ok((Some(found), _)) => return Turn::Found(found),
                    Ok((None, _)) => {}
                    Err(_) => return Turn::Mine(None),
                }
            }
        };
        tokio::time::timeout(*wait, ask).await.unwrap_or(Turn::Mine(None))
    }
}

/// Who loads.
enum Turn<V> {
    /// Another process did.
    Found(Loaded<V>),
    /// This one, with the lease if it has one.
    Mine(Option<Lease>),
}
