//! The document store: versioned documents in collections, atomic batches, scans and indexes.

use std::{fmt::Debug, ops::Bound};

use async_trait::async_trait;
use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::{
    clock::Timestamp,
    codec::Payload,
    durability::Durability,
    error::Result,
    id::{Collection, IndexName},
    lease::Fence,
    version::{Expected, Position, Version},
};

/// The longest key in bytes.
pub const MAX_KEY: usize = 1024;

/// The longest body in bytes.
pub const MAX_BODY: usize = 16 * 1024 * 1024;

/// A value under which a document is found in an index, in an encoding whose byte order is the
/// order of the values.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term {
    /// The index.
    pub index: IndexName,
    /// The ordered bytes.
    pub value: Bytes,
    /// Whether no other document of the collection may have the same value.
    pub is_unique: bool,
}

impl Term {
    /// Creates a term that several documents may share.
    pub fn new(index: IndexName, value: impl Into<Bytes>) -> Self {
        Self { index, value: value.into(), is_unique: false }
    }

    /// Creates a term that at most one document may have.
    pub fn unique(index: IndexName, value: impl Into<Bytes>) -> Self {
        Self { index, value: value.into(), is_unique: true }
    }
}

/// Encodes an integer so that byte order is numeric order.
///
/// ```
/// use infra_core::store::ordered;
///
/// assert!(ordered(-2) < ordered(-1) && ordered(-1) < ordered(300));
/// ```
pub fn ordered(number: i64) -> Bytes {
    // Flipping the sign bit puts the negative numbers first.
    Bytes::copy_from_slice(&(number.cast_unsigned() ^ (1 << 63)).to_be_bytes())
}

/// A document as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its key.
    pub key: Bytes,
    /// Its version: 1 when it is created, one more with each put.
    pub version: Version,
    /// Its body, with codec and schema version.
    pub payload: Payload,
    /// The terms under which it is found.
    pub terms: Vec<Term>,
    /// When it was written, by the store's clock.
    pub written: Timestamp,
}

impl Document {
    /// Decodes the body.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](crate::error::ErrorKind::Corrupt) if the body is not a `T`.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T> {
        self.payload.decode()
    }
}

/// One change of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Stores a document.
    Put {
        /// The collection.
        collection: Collection,
        /// The key.
        key: Bytes,
        /// What must be there.
        expected: Expected,
        /// The body.
        payload: Payload,
        /// All terms of the new document; those of the old one go.
        terms: Vec<Term>,
    },
    /// Removes a document; one that is not there is no error unless it is expected.
    Delete {
        /// The collection.
        collection: Collection,
        /// The key.
        key: Bytes,
        /// What must be there.
        expected: Expected,
    },
    /// Changes nothing, but must hold for the batch to be committed.
    Check {
        /// The collection.
        collection: Collection,
        /// The key.
        key: Bytes,
        /// What must be there.
        expected: Expected,
    },
}

impl Write {
    /// Returns the collection, the key and what is expected there.
    pub const fn target(&self) -> (&Collection, &Bytes, Expected) {
        match self {
            Self::Put { collection, key, expected, .. }
            | Self::Delete { collection, key, expected }
            | Self::Check { collection, key, expected } => (collection, key, *expected),
        }
    }
}

/// Changes that are committed together or not at all; each key may stand once.
///
/// ```
/// use infra_core::{codec::Payload, id::Collection, store::Batch, version::Expected};
///
/// let players = Collection::new("players")?;
/// let batch = Batch::new()
///     .put(players.clone(), "ann", Expected::Absent, Payload::json(1, "Ann")?)
///     .delete(players, "bob", Expected::Exists);
/// assert_eq!(batch.writes.len(), 2);
/// # Ok::<(), infra_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    /// The changes.
    pub writes: Vec<Write>,
    /// What must be reached before the batch is acknowledged.
    pub durability: Durability,
    /// The proof of ownership, if what is written is owned.
    pub fence: Option<Fence>,
}

impl Batch {
    /// Creates an empty, durable batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a put without terms.
    #[must_use]
    pub fn put(
        self,
        collection: Collection,
        key: impl Into<Bytes>,
        expected: Expected,
        payload: Payload,
    ) -> Self {
        let key = key.into();
        self.write(Write::Put { collection, key, expected, payload, terms: Vec::new() })
    }

    /// Adds a delete.
    #[must_use]
    pub fn delete(self, collection: Collection, key: impl Into<Bytes>, expected: Expected) -> Self {
        self.write(Write::Delete { collection, key: key.into(), expected })
    }

    /// Adds a check.
    #[must_use]
    pub fn check(self, collection: Collection, key: impl Into<Bytes>, expected: Expected) -> Self {
        self.write(Write::Check { collection, key: key.into(), expected })
    }

    /// Adds any change.
    #[must_use]
    pub fn write(mut self, write: Write) -> Self {
        self.writes.push(write);
        self
    }

    /// Sets the durability.
    #[must_use]
    pub const fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Carries a fence.
    #[must_use]
    pub fn fenced(mut self, fence: Fence) -> Self {
        self.fence = Some(fence);
        self
    }
}

/// What a commit did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The number of the commit in this store; await a higher durability of it with
    /// [`DocumentStore::reach`].
    pub commit: Position,
    /// The version after each change, in the batch's order; zero after a delete.
    pub versions: Vec<Version>,
    /// What the commit has reached.
    pub durability: Durability,
}

/// A range of keys of a collection, in byte order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// The keys start with this; empty for all.
    pub prefix: Bytes,
    /// Only keys after this one (before it, in reverse): the last key of the page before.
    pub after: Option<Bytes>,
    /// At most this many; zero means none.
    pub limit: usize,
    /// From the last key to the first.
    pub is_reverse: bool,
}

impl Scan {
    /// Creates a forward scan of up to `limit` keys that start with `prefix`.
    pub fn prefix(prefix: impl Into<Bytes>, limit: usize) -> Self {
        Self { prefix: prefix.into(), after: None, limit, is_reverse: false }
    }
}

/// A range of an index, ordered by the term's value and then by key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The index.
    pub index: IndexName,
    /// The lowest value.
    pub from: Bound<Bytes>,
    /// The highest value.
    pub to: Bound<Bytes>,
    /// Only what comes after this value and key: those of the last document of the page before.
    pub after: Option<(Bytes, Bytes)>,
    /// At most this many; zero means none.
    pub limit: usize,
    /// From the highest value to the lowest.
    pub is_reverse: bool,
}

impl Query {
    /// Creates a query for all documents with one value.
    pub fn equal(index: IndexName, value: impl Into<Bytes>, limit: usize) -> Self {
        let value = value.into();
        Self {
            index,
            from: Bound::Included(value.clone()),
            to: Bound::Included(value),
            after: None,
            limit,
            is_reverse: false,
        }
    }
}

/// What an engine can do beyond the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Features {
    /// The highest durability that it can give.
    pub durability: Durability,
    /// Whether `history` keeps older versions.
    pub has_history: bool,
}

impl Features {
    /// Creates the features of an engine without history.
    pub const fn new(durability: Durability) -> Self {
        Self { durability, has_history: false }
    }

    /// Says that older versions are kept.
    #[must_use]
    pub const fn with_history(mut self) -> Self {
        self.has_history = true;
        self
    }
}

/// Keeps documents in collections.
///
/// # Contract
///
/// 1. **All or nothing:** a batch is applied whole or not at all, over all its collections.
/// 2. **Compare and set:** a change whose expectation does not hold makes the whole batch a
///    [`Conflict`](crate::error::ErrorKind::Conflict) that says what was expected and found.
/// 3. **Versions:** a created document has version 1, each put adds one; a deleted key starts
///    again at 1.
/// 4. **Read your writes:** after a commit returned, at any durability, every read sees it.
/// 5. **Durable:** a durable commit that was acknowledged survives the loss of power.
/// 6. **In order:** commits reach stable storage in their order, so nothing survives without what
///    came before it.
/// 7. **Scanned:** a scan gives each key once, in byte order, and pages without gap or repeat; a
///    collection never shows another one's keys.
/// 8. **Indexed:** a query finds exactly the documents whose present terms lie in its range.
/// 9. **Unique:** a unique value that another document has makes the batch a conflict, except if
///    the same batch takes it away from there.
/// 10. **Checked:** a stored value that fails its checksum is
///     [`Corrupt`](crate::error::ErrorKind::Corrupt), never a wrong value or a miss.
/// 11. **Fenced:** a batch whose fence is below the highest token seen for its scope is
///     [`Fenced`](crate::error::ErrorKind::Fenced) and writes nothing.
/// 12. **Zero is zero:** a limit of zero gives nothing.
/// 13. **History:** an engine that keeps versions gives them newest first, with the present one;
///     deleting a key ends them. Another one says [`Unsupported`](crate::error::ErrorKind::Unsupported).
/// 14. **Reached:** a weaker commit can be brought to a higher durability by its number.
#[async_trait]
pub trait DocumentStore: Send + Sync + Debug {
    /// Returns what the engine can do.
    fn features(&self) -> Features;

    /// Reads a document.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](crate::error::ErrorKind::Corrupt); an outage is never `None`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    async fn get(&self, collection: &Collection, key: &[u8]) -> Result<Option<Document>>;

    /// Reads several documents, in the order of `keys`.
    ///
    /// # Errors
    ///
    /// As for [`DocumentStore::get`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    async fn get_many(
        &self,
        collection: &Collection,
        keys: &[Bytes],
    ) -> Result<Vec<Option<Document>>>;

    /// Commits a batch.
    ///
    /// # Errors
    ///
    /// [`Conflict`](crate::error::ErrorKind::Conflict), [`Fenced`](crate::error::ErrorKind::Fenced),
    /// [`Invalid`](crate::error::ErrorKind::Invalid) (a key named twice, too long),
    /// [`Unsupported`](crate::error::ErrorKind::Unsupported) for a durability it cannot give,
    /// [`Indeterminate`](crate::error::ErrorKind::Indeterminate),
    /// [`Poisoned`](crate::error::ErrorKind::Poisoned) after a failed sync.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the batch committed or not, never in part.
    async fn commit(&self, batch: Batch) -> Result<Receipt>;

    /// Waits until a commit, and all before it, has reached a durability.
    ///
    /// # Errors
    ///
    /// [`Invalid`](crate::error::ErrorKind::Invalid) for a commit number never given,
    /// [`Poisoned`](crate::error::ErrorKind::Poisoned) if it can no longer be reached.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    async fn reach(&self, commit: Position, durability: Durability) -> Result<()>;

    /// Reads a page of a collection in key order.
    ///
    /// # Errors
    ///
    /// As for [`DocumentStore::get`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    async fn scan(&self, collection: &Collection, scan: Scan) -> Result<Vec<Document>>;

    /// Reads a page of a collection in the order of an index.
    ///
    /// # Errors
    ///
    /// As for [`DocumentStore::get`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    async fn query(&self, collection: &Collection, query: Query) -> Result<Vec<Document>>;

    /// Counts the documents of a collection whose keys start with `prefix`.
    ///
    /// # Errors
    ///
    /// What the engine fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    async fn count(&self, collection: &Collection, prefix: &[u8]) -> Result<u64>;

    /// Returns up to `limit` kept versions of a document, newest first, the present one included.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](crate::error::ErrorKind::Unsupported) if the engine keeps none.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    async fn history(
        &self,
        collection: &Collection,
        key: &[u8],
        limit: usize,
    ) -> Result<Vec<Document>>;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ordered_bytes_keep_numeric_order(one: i64, other: i64) {
            prop_assert_eq!(one.cmp(&other), ordered(one).cmp(&ordered(other)));
        }
    }

    #[test]
    fn every_write_names_its_target() {
        let rooms = Collection::new("rooms").unwrap();
        let batch = Batch::new()
            .put(rooms.clone(), "a", Expected::Absent, Payload::raw("x"))
            .delete(rooms.clone(), "b", Expected::Exists)
            .check(rooms, "c", Expected::Any)
            .durability(Durability::Buffered);
        let targets: Vec<_> =
            batch.writes.iter().map(|write| (write.target().1.clone(), write.target().2)).collect();
        let wanted = [("a", Expected::Absent), ("b", Expected::Exists), ("c", Expected::Any)];
        assert_eq!(targets, wanted.map(|(key, expected)| (Bytes::from(key), expected)));
    }

    #[test]
    fn an_equality_query_is_a_range_of_one_value() {
        let query = Query::equal(IndexName::new("code").unwrap(), "ABCD", 1);
        assert_eq!(query.from, query.to);
        assert!(Features::new(Durability::Durable).with_history().has_history);
        assert!(Term::unique(IndexName::new("code").unwrap(), "x").is_unique);
    }
}
