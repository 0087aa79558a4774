//! What is in the archive: found by id, time and tag, purged, reconciled, and reported.

use std::{collections::HashSet, ops::Bound, time::Duration};

use bytes::Bytes;
use infra_core::{
    Clock as _, ErrorKind, Result,
    clock::Timestamp,
    store::{Batch, Document, Query},
    version::Expected,
};

use super::store::{Hybrid, PAGE, by_time};
use crate::{
    archive::{Archived, Vault},
    repository::Entity,
};

/// Which archived entities are asked for; oldest archived first.
#[derive(Debug, Clone, Default)]
pub struct ArchiveQuery {
    /// Only those with this tag.
    pub tag: Option<String>,
    /// Not archived before this.
    pub from: Option<Timestamp>,
    /// Archived before this.
    pub before: Option<Timestamp>,
    /// Only what comes after this: time of archiving and key of the last one of the page before.
    pub after: Option<(Timestamp, Bytes)>,
    /// At most this many; zero means none.
    pub limit: usize,
}

/// What a purge did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Purged {
    /// Entities that are gone.
    pub entities: u64,
    /// Bytes that their objects took.
    pub bytes: u64,
}

/// What a reconciliation found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reconciled {
    /// Objects that an archived entity names.
    pub named: u64,
    /// Objects that nobody names and that were removed.
    pub removed: u64,
    /// Archived entities whose object is missing.
    pub missing: u64,
}

/// Where the entities of a collection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lifecycle {
    /// In memory and in the document store.
    pub live: u64,
    /// Of these, waiting for the archive.
    pub waiting: u64,
    /// Of these, given up.
    pub dead: u64,
    /// In the archive.
    pub archived: u64,
    /// Bytes of archived bodies.
    pub length: u64,
    /// Bytes of their objects.
    pub stored: u64,
    /// When the oldest of them was archived.
    pub oldest: Option<Timestamp>,
    /// When the newest of them was archived.
    pub newest: Option<Timestamp>,
}

impl<E: Entity> Hybrid<E> {
    /// Returns what is known of archived entities, with their keys, oldest archived first.
    ///
    /// # Errors
    ///
    /// What the store fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn archived(&self, asked: ArchiveQuery) -> Result<Vec<(Bytes, Archived)>> {
        let indexes = &self.0.indexes;
        let (index, tag) = match &asked.tag {
            Some(tag) => (&indexes.tag, [tag.as_bytes(), &[0]].concat()),
            None => (&indexes.archived, Vec::new()),
        };
        let value = |time: Timestamp| Bytes::from([tag.as_slice(), &by_time(time)].concat());
        let first = value(asked.from.unwrap_or(Timestamp::EPOCH));
        let query = Query {
            from: Bound::Included(first),
            to: match asked.before {
                Some(before) => Bound::Excluded(value(before)),
                None => Bound::Included(value(Timestamp::from_millis(u64::MAX))),
            },
            after: asked.after.map(|(time, key)| (value(time), key)),
            ..Query::equal(index.clone(), "", asked.limit)
        };
        let found = self.0.documents().query(self.0.collection(), query).await?;
        let known = |found: Document| Ok((found.key, Vault::read_stub(&found.payload)?));
        found.into_iter().map(known).collect()
    }

    /// Returns what is known of an archived entity; `None` if it is not in the archive.
    ///
    /// # Errors
    ///
    /// What the store fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn archived_as(&self, key: &[u8]) -> Result<Option<Archived>> {
        let found = self.0.document(&Bytes::copy_from_slice(key)).await?;
        let stub = found.filter(|found| Vault::is_stub(&found.payload));
        stub.map(|found| Vault::read_stub(&found.payload)).transpose()
    }

    /// Removes every entity that was archived longer ago than `retention`, with its object.
    ///
    /// # Errors
    ///
    /// What the store or the archive fails with; what was removed stays removed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the purge; it may be repeated.
    pub async fn purge(&self, retention: Duration) -> Result<Purged> {
        let now = self.0.options.clock.wall().as_millis();
        let retention = u64::try_from(retention.as_millis()).unwrap_or(u64::MAX);
        let Some(cut) = now.checked_sub(retention) else { return Ok(Purged::default()) };
        let before = Some(Timestamp::from_millis(cut));
        let mut purged = Purged::default();
        let mut query = ArchiveQuery { before, limit: PAGE, ..ArchiveQuery::default() };
        loop {
            let page = self.archived(query.clone()).await?;
            let Some((key, last)) = page.last() else { return Ok(purged) };
            query.after = Some((last.archived, key.clone()));
            for (key, archived) in page {
                // The stub's version is one above the one that was archived.
                let expected = Expected::Exactly(archived.version.next());
                let batch = Batch::new().delete(self.0.collection().clone(), key.clone(), expected);
                match self.0.commit(batch, self.0.ticketing(key, None)).await {
                    Ok(_) => {
                        self.0.vault.delete(&archived.object).await?;
                        purged.entities += 1;
                        purged.bytes += archived.stored;
                    }
                    // Somebody brought it back or removed it.
                    Err(error) if matches!(error.kind(), ErrorKind::Conflict { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }

    /// Compares archive and store: removes objects older than `grace` that no archived entity names,
    /// left by a crash, and counts archived entities whose object is missing. What a hand-over of this
    /// repository is at is left alone; where others hand over to the same archive, `grace` has to be
    /// longer than a hand-over takes.
    ///
    /// # Errors
    ///
    /// What the store or the archive fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops it; it may be repeated.
    pub async fn reconcile(&self, grace: Duration) -> Result<Reconciled> {
        let mut names = HashSet::new();
        let mut query = ArchiveQuery { limit: PAGE, ..ArchiveQuery::default() };
        loop {
            let page = self.archived(query.clone()).await?;
            let Some((key, last)) = page.last() else { break };
            query.after = Some((last.archived, key.clone()));
            names.extend(page.into_iter().map(|(_, archived)| archived.object));
        }
        let (mut reconciled, mut after) = (Reconciled::default(), String::new());
        let (prefix, now) = (Vault::prefix(self.0.collection()), self.0.options.clock.wall());
        loop {
            let page = self.0.vault.objects().list(&prefix, &after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after.clone_from(&last.name);
            for object in page {
                if names.remove(&object.name) {
                    reconciled.named += 1;
                } else if grace <= now.since(object.stored) {
                    reconciled.removed += u64::from(self.0.remove_orphan(&object.name).await?);
                }
            }
        }
        reconciled.missing = names.len() as u64;
        Ok(reconciled)
    }

    /// Reports where the entities are; it reads what is known of every archived one.
    ///
    /// # Errors
    ///
    /// What the store fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn lifecycle(&self) -> Result<Lifecycle> {
        let documents = self.0.documents();
        let mut report = Lifecycle {
            waiting: documents.count(&self.0.outbox, b"").await?,
            dead: documents.count(&self.0.dead, b"").await?,
            ..Lifecycle::default()
        };
        let mut query = ArchiveQuery { limit: PAGE, ..ArchiveQuery::default() };
        loop {
            let page = self.archived(query.clone()).await?;
            let Some((key, last)) = page.last() else { break };
            query.after = Some((last.archived, key.clone()));
            report.newest = Some(last.archived);
            report.oldest = report.oldest.or(page.first().map(|(_, first)| first.archived));
            for (_, archived) in &page {
                report.archived += 1;
                report.length += archived.length;
                report.stored += archived.stored;
            }
        }
        let all = documents.count(self.0.collection(), b"").await?;
        report.live = all.saturating_sub(report.archived);
        Ok(report)
    }

    /// Compresses archived entities again that were archived longer ago than `age` at another level
    /// than the vault's, and returns how many; an entity stays readable at every instant.
    ///
    /// # Errors
    ///
    /// What the store or the archive fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops it; it may be repeated.
    pub async fn recompress(&self, age: Duration, level: i32) -> Result<u64> {
        let now = self.0.options.clock.wall();
        let cut = now.as_millis().checked_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        let Some(cut) = cut else { return Ok(0) };
        let before = Some(Timestamp::from_millis(cut.saturating_add(1)));
        let mut query = ArchiveQuery { before, limit: PAGE, ..ArchiveQuery::default() };
        let mut count = 0;
        loop {
            let page = self.archived(query.clone()).await?;
            let Some((key, last)) = page.last() else { return Ok(count) };
            query.after = Some((last.archived, key.clone()));
            for (key, archived) in page.into_iter().filter(|(_, own)| own.level != level) {
                count += u64::from(self.0.recompress(&key, &archived, level).await?);
            }
        }
    }
}

impl<E: Entity> super::store::Inner<E> {
    /// Removes an object, unless an entity came to name it since it was listed, or is about to.
    async fn remove_orphan(&self, name: &str) -> Result<bool> {
        let Some(key) = Vault::key_of(name) else {
            return self.vault.delete(name).await.map(|()| true);
        };
        // A hand-over that begins now waits for this turn, and then makes its object anew.
        let _turn = self.gates.enter(&key).await;
        if self.schedule.lock().is_flying(&key) {
            return Ok(false);
        }
        let named = self.document(&key).await?;
        let named = named.filter(|found| Vault::is_stub(&found.payload));
        let named = named.map(|found| Vault::read_stub(&found.payload)).transpose()?;
        if named.is_some_and(|named| named.object == name) {
            return Ok(false);
        }
        self.vault.delete(name).await?;
        Ok(true)
    }

    async fn recompress(&self, key: &Bytes, old: &Archived, level: i32) -> Result<bool> {
        let Some(document) = self.document(key).await? else { return Ok(false) };
        if !Vault::is_stub(&document.payload) || Vault::read_stub(&document.payload)? != *old {
            return Ok(false);
        }
        let payload = self.vault.fetch(&document.payload).await?;
        let body =
            Document { version: old.version, written: old.saved, payload, ..document.clone() };
        let (tags, at) = (old.tags.clone(), old.archived);
        let new = self.vault.archive_at(level, self.collection(), &body, (tags, at)).await?;
        // A stub's version is always one above the one that it names.
        let write = self.stub(&document, &Archived { version: document.version, ..new.clone() })?;
        match self.commit(Batch::new().write(write), self.ticketing(key.clone(), None)).await {
            Ok(_) => {
                self.vault.delete(&old.object).await?;
                Ok(true)
            }
            Err(error) if matches!(error.kind(), ErrorKind::Conflict { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
