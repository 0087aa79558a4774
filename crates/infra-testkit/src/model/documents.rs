//! The document store as the contract reads: a map, copied for each batch.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ops::RangeBounds,
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use infra_core::{
    Clock, Error, ErrorKind, Result,
    durability::Durability,
    id::{Collection, Scope},
    store::{
        Batch, Document, DocumentStore, Features, MAX_BODY, MAX_KEY, Query, Receipt, Scan, Write,
    },
    version::{Expected, FencingToken, Position, Version},
};
use parking_lot::Mutex;

const COMMIT: &str = "commit batch";

/// Keeps documents in a map.
#[derive(Debug)]
pub struct ModelDocuments {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Default)]
struct State {
    documents: BTreeMap<(Collection, Bytes), Document>,
    /// Every version there was since the key was created, oldest first.
    histories: HashMap<(Collection, Bytes), Vec<Document>>,
    fences: HashMap<Scope, FencingToken>,
    commits: Position,
}

impl ModelDocuments {
    /// Creates an empty store whose times come from `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, state: Mutex::default() }
    }
}

impl State {
    fn version(&self, at: &(Collection, Bytes)) -> Version {
        self.documents.get(at).map_or(Version::ZERO, |document| document.version)
    }

    /// Applies a batch to a copy; the copy is thrown away if it fails.
    fn after(&self, batch: &Batch, clock: &dyn Clock) -> Result<(Self, Receipt)> {
        let mut next = self.clone();
        let mut versions = Vec::new();
        let mut seen = HashSet::new();
        if let Some(fence) = &batch.fence {
            let highest = next.fences.entry(fence.scope.clone()).or_default();
            if fence.token < *highest {
                return Err(Error::new(ErrorKind::Fenced, COMMIT));
            }
            *highest = fence.token;
        }
        for write in &batch.writes {
            let (collection, key, expected) = write.target();
            let at = (collection.clone(), key.clone());
            let actual = self.version(&at);
            if MAX_KEY < key.len() || !seen.insert(at.clone()) || is_too_large(write) {
                return Err(Error::invalid(
                    COMMIT,
                    "a key that stands twice, or something too long",
                ));
            }
            if !expected.admits(actual) {
                return Err(Error::conflict(COMMIT, expected, actual));
            }
            versions.push(next.write(&at, write, clock));
        }
        next.check_unique(&batch.writes)?;
        next.commits = next.commits.next();
        let receipt = Receipt { commit: next.commits, versions, durability: batch.durability };
        Ok((next, receipt))
    }

    fn write(&mut self, at: &(Collection, Bytes), write: &Write, clock: &dyn Clock) -> Version {
        match write {
            Write::Check { .. } => {}
            Write::Delete { .. } => {
                self.documents.remove(at);
                self.histories.remove(at);
            }
            Write::Put { payload, terms, .. } => {
                let document = Document {
                    key: at.1.clone(),
                    version: self.version(at).next(),
                    payload: payload.clone(),
                    terms: terms.clone(),
                    written: clock.wall(),
                };
                self.histories.entry(at.clone()).or_default().push(document.clone());
                self.documents.insert(at.clone(), document);
            }
        }
        self.version(at)
    }

    fn check_unique(&self, writes: &[Write]) -> Result<()> {
        for write in writes {
            let Write::Put { collection, key, terms, .. } = write else { continue };
            for term in terms.iter().filter(|term| term.is_unique) {
                let has = |document: &Document| {
                    document.terms.iter().any(|t| t.index == term.index && t.value == term.value)
                };
                let mut others =
                    self.documents.iter().filter(|(at, _)| at.0 == *collection && at.1 != *key);
                if others.any(|(_, document)| has(document)) {
                    return Err(Error::conflict(COMMIT, Expected::Absent, Version::new(1)));
                }
            }
        }
        Ok(())
    }

    fn of<'a>(
        &'a self,
        collection: &'a Collection,
    ) -> impl DoubleEndedIterator<Item = &'a Document> {
        self.documents.iter().filter(move |(at, _)| at.0 == *collection).map(|(_, found)| found)
    }
}

fn is_too_large(write: &Write) -> bool {
    let Write::Put { payload, terms, .. } = write else { return false };
    MAX_BODY < payload.body.len() || terms.iter().any(|term| MAX_KEY < term.value.len())
}

#[async_trait]
impl DocumentStore for ModelDocuments {
    fn features(&self) -> Features {
        Features::new(Durability::Durable).with_history()
    }

    async fn get(&self, collection: &Collection, key: &[u8]) -> Result<Option<Document>> {
        let at = (collection.clone(), Bytes::copy_from_slice(key));
        Ok(self.state.lock().documents.get(&at).cloned())
    }

    async fn get_many(
        &self,
        collection: &Collection,
        keys: &[Bytes],
    ) -> Result<Vec<Option<Document>>> {
        let state = self.state.lock();
        let find = |key: &Bytes| state.documents.get(&(collection.clone(), key.clone())).cloned();
        Ok(keys.iter().map(find).collect())
    }

    async fn commit(&self, batch: Batch) -> Result<Receipt> {
        let mut state = self.state.lock();
        let (next, receipt) = state.after(&batch, &self.clock)?;
        *state = next;
        Ok(receipt)
    }

    async fn reach(&self, commit: Position, _durability: Durability) -> Result<()> {
        if self.state.lock().commits < commit {
            return Err(Error::invalid("reach durability", "a commit that was never given"));
        }
        Ok(())
    }

    async fn scan(&self, collection: &Collection, scan: Scan) -> Result<Vec<Document>> {
        let state = self.state.lock();
        let fits = |document: &&Document| document.key.starts_with(&scan.prefix);
        let mut found: Vec<_> = state.of(collection).filter(fits).cloned().collect();
        if scan.is_reverse {
            found.reverse();
        }
        if let Some(after) = &scan.after {
            let is_beyond = |key: &Bytes| if scan.is_reverse { key < after } else { after < key };
            found.retain(|document| is_beyond(&document.key));
        }
        found.truncate(scan.limit);
        Ok(found)
    }

    async fn query(&self, collection: &Collection, query: Query) -> Result<Vec<Document>> {
        let state = self.state.lock();
        let range = (query.from.clone(), query.to.clone());
        let mut found: Vec<((Bytes, Bytes), Document)> = Vec::new();
        for document in state.of(collection) {
            for term in document.terms.iter().filter(|term| term.index == query.index) {
                if range.contains(&term.value) {
                    found.push(((term.value.clone(), document.key.clone()), document.clone()));
                }
            }
        }
        found.sort_by(|one, other| one.0.cmp(&other.0));
        if query.is_reverse {
            found.reverse();
        }
        if let Some(after) = &query.after {
            found.retain(|(at, _)| if query.is_reverse { at < after } else { after < at });
        }
        found.truncate(query.limit);
        Ok(found.into_iter().map(|(_, document)| document).collect())
    }

    async fn count(&self, collection: &Collection, prefix: &[u8]) -> Result<u64> {
        let state = self.state.lock();
        Ok(state.of(collection).filter(|document| document.key.starts_with(prefix)).count() as u64)
    }

    async fn history(
        &self,
        collection: &Collection,
        key: &[u8],
        limit: usize,
    ) -> Result<Vec<Document>> {
        let at = (collection.clone(), Bytes::copy_from_slice(key));
        let state = self.state.lock();
        let kept = state.histories.get(&at).map_or(&[][..], Vec::as_slice);
        Ok(kept.iter().rev().take(limit).cloned().collect())
    }
}
