//! Document stores that are wrong on purpose: each has one bug that a clause must catch.

#![expect(clippy::wildcard_enum_match_arm, reason = "each bug is about a few cases")]

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use infra_core::{
    ErrorKind, Result,
    durability::Durability,
    id::Collection,
    store::{Batch, Document, DocumentStore, Features, Query, Receipt, Scan, Write},
    version::{Expected, Position},
};
use parking_lot::Mutex;

/// A planted bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// The changes of a batch are committed one by one.
    OneByOne,
    /// Expectations are not looked at.
    Unconditional,
    /// A conflict tells another version than was found.
    WrongConflict,
    /// Versions start at 0.
    VersionsFromZero,
    /// A commit is visible once the next one came.
    OneBehind,
    /// A page begins with the last key of the one before.
    RepeatsAtPages,
    /// Collections share their keys.
    Mingled,
    /// A query ignores its upper end.
    OpenRange,
    /// A unique value may stand twice.
    NotUnique,
    /// Fences are not looked at.
    Unfenced,
    /// A limit of zero gives one.
    ZeroIsOne,
    /// Kept versions come oldest first.
    OldestFirst,
    /// Any number of a commit counts as reached.
    AlwaysReached,
}

impl Bug {
    /// Every bug, and the clause that catches it.
    pub const ALL: [(Self, &'static str); 14] = [
        (Self::OneByOne, "all_or_nothing"),
        (Self::Unconditional, "compare_and_set"),
        (Self::Unconditional, "one_winner"),
        (Self::WrongConflict, "compare_and_set"),
        (Self::VersionsFromZero, "versioned"),
        (Self::OneBehind, "read_your_writes"),
        (Self::RepeatsAtPages, "scanned"),
        (Self::Mingled, "apart"),
        (Self::OpenRange, "indexed"),
        (Self::NotUnique, "unique"),
        (Self::Unfenced, "fenced"),
        (Self::ZeroIsOne, "zero_is_zero"),
        (Self::OldestFirst, "history"),
        (Self::AlwaysReached, "reached"),
    ];
}

/// A right store with a planted bug.
#[derive(Debug)]
pub struct Wrong {
    right: Arc<dyn DocumentStore>,
    bug: Bug,
    held: Mutex<Option<Batch>>,
}

impl Wrong {
    /// Plants a bug into a right store.
    pub fn plant(right: Arc<dyn DocumentStore>, bug: Bug) -> Arc<dyn DocumentStore> {
        Arc::new(Self { right, bug, held: Mutex::new(None) })
    }

    fn place(&self, collection: &Collection) -> Collection {
        let all = Collection::new("all").ok().filter(|_| self.bug == Bug::Mingled);
        all.unwrap_or_else(|| collection.clone())
    }

    fn limit(&self, limit: usize) -> usize {
        if self.bug == Bug::ZeroIsOne { limit.max(1) } else { limit }
    }

    async fn one_by_one(&self, batch: Batch) -> Result<Receipt> {
        let mut versions = Vec::new();
        let mut last = self.right.commit(Batch::new()).await?;
        for write in batch.writes {
            last = self.right.commit(Batch::new().write(write)).await?;
            versions.append(&mut last.versions);
        }
        Ok(Receipt { versions, ..last })
    }
}

#[async_trait]
impl DocumentStore for Wrong {
    fn features(&self) -> Features {
        self.right.features()
    }

    async fn get(&self, collection: &Collection, key: &[u8]) -> Result<Option<Document>> {
        let mut found = self.right.get(&self.place(collection), key).await?;
        if let Some(document) = found.as_mut().filter(|_| self.bug == Bug::VersionsFromZero) {
            document.version = document.version.previous();
        }
        Ok(found)
    }

    async fn get_many(
        &self,
        collection: &Collection,
        keys: &[Bytes],
    ) -> Result<Vec<Option<Document>>> {
        self.right.get_many(&self.place(collection), keys).await
    }

    async fn commit(&self, mut batch: Batch) -> Result<Receipt> {
        if self.bug == Bug::Unfenced {
            batch.fence = None;
        }
        for write in &mut batch.writes {
            let (Write::Put { collection, expected, .. }
            | Write::Delete { collection, expected, .. }
            | Write::Check { collection, expected, .. }) = write;
            *collection = self.place(collection);
            if self.bug == Bug::Unconditional {
                *expected = Expected::Any;
            }
            if let Write::Put { terms, .. } = write
                && self.bug == Bug::NotUnique
            {
                for term in terms {
                    term.is_unique = false;
                }
            }
        }
        match self.bug {
            Bug::OneByOne => return self.one_by_one(batch).await,
            Bug::OneBehind => {
                let Some(before) = self.held.lock().replace(batch) else {
                    return self.right.commit(Batch::new()).await;
                };
                return self.right.commit(before).await;
            }
            _ => {}
        }
        let said = self.right.commit(batch).await;
        match (self.bug, said) {
            (Bug::WrongConflict, Err(error)) => {
                let ErrorKind::Conflict { expected, actual } = *error.kind() else {
                    return Err(error);
                };
                Err(infra_core::Error::conflict("commit batch", expected, actual.next()))
            }
            (Bug::VersionsFromZero, Ok(mut receipt)) => {
                receipt.versions.iter_mut().for_each(|version| *version = version.previous());
                Ok(receipt)
            }
            (_, said) => said,
        }
    }

    async fn reach(&self, commit: Position, durability: Durability) -> Result<()> {
        if self.bug == Bug::AlwaysReached {
            return Ok(());
        }
        self.right.reach(commit, durability).await
    }

    async fn scan(&self, collection: &Collection, mut scan: Scan) -> Result<Vec<Document>> {
        scan.limit = self.limit(scan.limit);
        let before = scan.after.clone().filter(|_| self.bug == Bug::RepeatsAtPages);
        let mut found = Vec::new();
        if let Some(key) = before {
            found.extend(self.right.get(collection, &key).await?);
            scan.limit -= 1;
        }
        found.extend(self.right.scan(&self.place(collection), scan).await?);
        Ok(found)
    }

    async fn query(&self, collection: &Collection, mut query: Query) -> Result<Vec<Document>> {
        query.limit = self.limit(query.limit);
        if self.bug == Bug::OpenRange {
            query.to = std::ops::Bound::Unbounded;
        }
        self.right.query(&self.place(collection), query).await
    }

    async fn count(&self, collection: &Collection, prefix: &[u8]) -> Result<u64> {
        self.right.count(&self.place(collection), prefix).await
    }

    async fn history(
        &self,
        collection: &Collection,
        key: &[u8],
        limit: usize,
    ) -> Result<Vec<Document>> {
        let mut kept = self.right.history(collection, key, limit).await?;
        if self.bug == Bug::OldestFirst {
            kept.reverse();
        }
        Ok(kept)
    }
}
