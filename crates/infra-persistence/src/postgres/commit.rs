//! The document store in PostgreSQL: how a batch is committed.
//!
//! Everything that a batch looks at (keys, unique values, its scope) is locked by advisory locks in
//! one order, so that batches that meet wait for each other and never deadlock. Then the batch is
//! judged as in any other engine. If the connection is lost while the commit is on its way, its
//! [`Fate`] is asked for.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::Duration,
};

use bytes::Bytes;
use infra_core::{
    Error, ErrorKind, Result,
    durability::Durability,
    id::Collection,
    lease::Fence,
    store::{Batch, Document, Receipt, Term, Write},
    version::{Expected, Position, Version},
};
use sqlx::{PgConnection, Postgres, Transaction};

use super::{
    documents::{PostgresDocuments, decode},
    error::{may_run_again, wrap},
    fate::Fate,
};
use crate::{
    layout,
    telemetry::{COMMITS, Outcome},
    value,
};

pub(super) const COMMIT: &str = "commit batch";

/// How often a transaction runs that the server rolled back for reasons of its own.
const TRIES: u32 = 6;

/// How long a transaction waits before it runs again, for each time that it ran.
const PAUSE: Duration = Duration::from_millis(5);

/// Why a transaction did not come to its commit; nothing of it is left.
pub(super) enum Failure {
    Refused(Error),
    Database(sqlx::Error),
}

impl From<sqlx::Error> for Failure {
    fn from(cause: sqlx::Error) -> Self {
        Self::Database(cause)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

type At = (Collection, Bytes);

impl PostgresDocuments {
    #[tracing::instrument(
        name = "postgres commit",
        level = "debug",
        skip_all,
        fields(db.system.name = "postgresql", writes = batch.writes.len(), tries)
    )]
    pub(super) async fn commit_checked(&self, batch: &Batch) -> Result<Receipt> {
        let mut tries = 0;
        let said = loop {
            tries += 1;
            let late = || Error::new(ErrorKind::Timeout, COMMIT).detail("before it was committed");
            let running = tokio::time::timeout(self.patience, self.run(batch)).await;
            match running.unwrap_or_else(|_| Err(Failure::Refused(late()))) {
                Ok((transaction, number, receipt)) => {
                    let finished = self.finish(transaction, &number, batch, &receipt).await;
                    break finished.map(|()| receipt);
                }
                Err(Failure::Database(cause)) if tries < TRIES && may_run_again(&cause) => {
                    tokio::time::sleep(PAUSE * tries).await;
                }
                Err(Failure::Database(cause)) => break Err(wrap(COMMIT, cause)),
                Err(Failure::Refused(error)) => break Err(error),
            }
        };
        tracing::Span::current().record("tries", tries);
        COMMITS.add_for(Outcome::of(&said), 1);
        said
    }

    /// Does everything but the commit; returns the transaction and its number.
    async fn run(
        &self,
        batch: &Batch,
    ) -> Result<(Transaction<'static, Postgres>, String, Receipt), Failure> {
        let mut transaction = self.pool.begin().await?;
        let on = &mut *transaction;
        if batch.durability < Durability::Durable {
            sqlx::query("SET LOCAL synchronous_commit = off").execute(&mut *on).await?;
        }
        let locks: Vec<i64> = locks(batch).into_iter().collect();
        let first = "SELECT pg_current_xact_id()::text, nextval('commits'), \
                     (SELECT count(pg_advisory_xact_lock(k)) FROM unnest($1::bigint[]) k)";
        let first = sqlx::query_as::<_, (String, i64, i64)>(first).bind(locks);
        let (number, commit, _) = first.fetch_one(&mut *on).await?;
        if let Some(fence) = &batch.fence {
            raise(on, fence).await?;
        }
        let olds = read(on, batch).await?;
        let old_version = |at: &At| olds.get(at).map_or(Version::ZERO, |old| old.version);
        for write in &batch.writes {
            let (collection, key, expected) = write.target();
            let actual = old_version(&(collection.clone(), key.clone()));
            if !expected.admits(actual) {
                let detail = format!("{collection}/{}", key.escape_ascii());
                return Err(Error::conflict(COMMIT, expected, actual).detail(detail).into());
            }
        }
        check_unique(on, batch).await?;
        let versions = self.write(on, batch, &old_version).await?;
        let commit = Position::new(commit.cast_unsigned());
        let receipt = Receipt { commit, versions, durability: batch.durability };
        Ok((transaction, number, receipt))
    }

    async fn write(
        &self,
        on: &mut PgConnection,
        batch: &Batch,
        old_version: &impl Fn(&At) -> Version,
    ) -> Result<Vec<Version>, Failure> {
        let (mut changed, mut gone, mut puts) = (Keys::default(), Keys::default(), Puts::default());
        let mut terms = Terms::default();
        let mut versions = Vec::with_capacity(batch.writes.len());
        for write in &batch.writes {
            let (collection, key, _) = write.target();
            let old = old_version(&(collection.clone(), key.clone()));
            match write {
                Write::Check { .. } => versions.push(old),
                Write::Delete { .. } => {
                    changed.push(collection, key);
                    gone.push(collection, key);
                    versions.push(Version::ZERO);
                }
                Write::Put { payload, terms: own, .. } => {
                    changed.push(collection, key);
                    for term in own {
                        terms.push(collection, key, term);
                    }
                    let (version, written) = (old.next(), self.clock.wall());
                    let document = Document {
                        key: key.clone(),
                        version,
                        payload: payload.clone(),
                        terms: own.clone(),
                        written,
                    };
                    puts.push(collection, &document);
                    versions.push(version);
                }
            }
        }
        changed.delete(on, DELETE_TERMS).await?;
        if 0 < self.history {
            gone.delete(on, DELETE_HISTORY).await?;
            puts.keep(on, self.history).await?;
        }
        gone.delete(on, DELETE_DOCUMENTS).await?;
        puts.put(on).await?;
        terms.put(on).await?;
        Ok(versions)
    }

    /// Commits; if nobody answers, asks what became of it.
    async fn finish(
        &self,
        transaction: Transaction<'static, Postgres>,
        number: &str,
        batch: &Batch,
        receipt: &Receipt,
    ) -> Result<()> {
        let cause = match tokio::time::timeout(self.patience, transaction.commit()).await {
            Ok(Ok(())) => return Ok(()),
            // The server answered: it rolled back.
            Ok(Err(cause)) if cause.as_database_error().is_some_and(|e| !is_going(e)) => {
                return Err(wrap(COMMIT, cause));
            }
            Ok(Err(cause)) => Some(cause),
            Err(_) => None,
        };
        let asking = self.fate(number, batch, &receipt.versions);
        match tokio::time::timeout(self.patience, asking).await {
            Ok(Fate::Committed) => return Ok(()),
            Ok(Fate::RolledBack) => {
                let error = Error::new(ErrorKind::Unavailable, COMMIT);
                return Err(error.detail("the connection was lost before the commit"));
            }
            Ok(Fate::Unknown) | Err(_) => {}
        }
        let error = Error::new(ErrorKind::Indeterminate, COMMIT);
        let error = error.detail("the connection was lost during the commit");
        Err(match cause {
            Some(cause) => error.because(cause),
            None => error,
        })
    }
}

/// Whether the server said that it goes, which leaves open what it did before.
fn is_going(error: &dyn sqlx::error::DatabaseError) -> bool {
    error.code().is_some_and(|code| code.starts_with("57P") || code.starts_with("08"))
}

/// Returns the numbers of the locks of everything that a batch looks at, in their order.
fn locks(batch: &Batch) -> BTreeSet<i64> {
    let number = |bytes: &[u8]| {
        // Two that share a number wait for each other without need, and nothing else.
        let (low, high) = (crc32c::crc32c(bytes), crc32c::crc32c_append(!0x5bd1, bytes));
        (u64::from(high) << 32 | u64::from(low)).cast_signed()
    };
    let mut locks = BTreeSet::new();
    for write in &batch.writes {
        let (collection, key, _) = write.target();
        locks.insert(number(&layout::document(collection, key)));
        if let Write::Put { terms, .. } = write {
            for term in terms.iter().filter(|term| term.is_unique) {
                locks.insert(number(&layout::term(collection, term, b"")));
            }
        }
    }
    if let Some(fence) = &batch.fence {
        locks.insert(number(&layout::fence(&fence.scope)));
    }
    locks
}

/// Raises the highest token of a scope, unless it is higher already.
async fn raise(on: &mut PgConnection, fence: &Fence) -> Result<(), Failure> {
    let raise = sqlx::query(
        "INSERT INTO fences AS seen (scope, token) VALUES ($1, $2) \
         ON CONFLICT (scope) DO UPDATE SET token = EXCLUDED.token \
         WHERE seen.token <= EXCLUDED.token",
    );
    let raise = raise.bind(fence.scope.as_str()).bind(fence.token.get().cast_signed());
    if raise.execute(on).await?.rows_affected() == 0 {
        let detail = format!("scope {}: token {} is of the past", fence.scope, fence.token);
        return Err(Error::new(ErrorKind::Fenced, COMMIT).detail(detail).into());
    }
    Ok(())
}

/// Reads the documents that a batch names.
pub(super) async fn read(
    on: &mut PgConnection,
    batch: &Batch,
) -> Result<HashMap<At, Document>, Failure> {
    let mut keys = Keys::default();
    for write in &batch.writes {
        let (collection, key, _) = write.target();
        keys.push(collection, key);
    }
    if keys.0.is_empty() {
        return Ok(HashMap::new());
    }
    let query = sqlx::query_as::<_, (String, Vec<u8>, Vec<u8>)>(READ);
    let rows = query.bind(keys.0).bind(keys.1).fetch_all(on).await?;
    let mut olds = HashMap::new();
    for (collection, key, value) in rows {
        let collection = Collection::new(collection)?;
        let row = (key, value);
        let document = decode(&collection, &row)?;
        olds.insert((collection, Bytes::from(row.0)), document);
    }
    Ok(olds)
}

/// Refuses a unique value that another document has and keeps, or gets in the same batch.
async fn check_unique(on: &mut PgConnection, batch: &Batch) -> Result<(), Failure> {
    let refuse = |collection: &Collection, term: &Term, who: &[u8]| {
        let error = Error::conflict(COMMIT, Expected::Absent, Version::new(1));
        let who = who.escape_ascii();
        error.detail(format!("unique {} of {collection} belongs to {who}", term.index))
    };
    // All terms of a document that the batch changes are taken away, and some put back.
    let changed: HashSet<(&Collection, &[u8])> = batch
        .writes
        .iter()
        .filter(|write| !matches!(write, Write::Check { .. }))
        .map(|write| (write.target().0, write.target().1.as_ref()))
        .collect();
    let mut given: HashMap<(&Collection, &Term), &Bytes> = HashMap::new();
    let plain = |term: &Term| Term { is_unique: true, ..term.clone() };
    let puts = batch.writes.iter().filter_map(|write| match write {
        Write::Put { collection, key, terms, .. } => Some((collection, key, terms)),
        Write::Delete { .. } | Write::Check { .. } => None,
    });
    let puts: Vec<_> = puts
        .map(|(at, key, terms)| (at, key, terms.iter().map(plain).collect::<Vec<_>>(), terms))
        .collect();
    let mut asked = Terms::default();
    for (collection, key, plain, terms) in &puts {
        for (plain, term) in plain.iter().zip(*terms) {
            match given.insert((collection, plain), key) {
                Some(other) if other != *key && term.is_unique => {
                    return Err(refuse(collection, term, other).into());
                }
                _ => {}
            }
            if term.is_unique {
                asked.push(collection, key, term);
            }
        }
    }
    if asked.0.is_empty() {
        return Ok(());
    }
    let query = sqlx::query_as::<_, (String, String, Vec<u8>, Vec<u8>)>(OTHERS);
    let query = query.bind(asked.0).bind(asked.1).bind(asked.2).bind(asked.3);
    for (collection, index, value, key) in query.fetch_all(on).await? {
        let collection = Collection::new(collection)?;
        if !changed.contains(&(&collection, key.as_slice())) {
            let term = Term::unique(infra_core::id::IndexName::new(index)?, value);
            return Err(refuse(&collection, &term, &key).into());
        }
    }
    Ok(())
}

/// Reads documents by their keys.
pub(super) const READ: &str = "SELECT d.collection, d.key, d.value \
    FROM unnest($1::text[], $2::bytea[]) AS k(c, k) \
    JOIN documents d ON d.collection = k.c AND d.key = k.k";

/// Finds the terms of a value that other documents have.
pub(super) const OTHERS: &str = "SELECT t.collection, t.index_name, t.value, t.key \
    FROM unnest($1::text[], $2::text[], $3::bytea[], $4::bytea[]) AS u(c, i, v, k) \
    JOIN terms t ON t.collection = u.c AND t.index_name = u.i AND t.value = u.v \
    AND t.key <> u.k";

pub(super) const DELETE_TERMS: &str = "DELETE FROM terms t USING unnest($1::text[], $2::bytea[]) \
    AS k(c, k) WHERE t.collection = k.c AND t.key = k.k";

pub(super) const DELETE_DOCUMENTS: &str = "DELETE FROM documents t USING unnest($1::text[], $2::bytea[]) \
    AS k(c, k) WHERE t.collection = k.c AND t.key = k.k";

pub(super) const DELETE_HISTORY: &str = "DELETE FROM history t USING unnest($1::text[], $2::bytea[]) \
    AS k(c, k) WHERE t.collection = k.c AND t.key = k.k";

/// Columns of keys.
#[derive(Debug, Default)]
struct Keys(Vec<String>, Vec<Vec<u8>>);

impl Keys {
    fn push(&mut self, collection: &Collection, key: &Bytes) {
        self.0.push(collection.as_str().to_owned());
        self.1.push(key.to_vec());
    }

    async fn delete(&self, on: &mut PgConnection, statement: &'static str) -> sqlx::Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        sqlx::query(statement).bind(&self.0).bind(&self.1).execute(on).await.map(|_| ())
    }
}

/// Columns of documents.
#[derive(Debug, Default)]
struct Puts(Keys, Vec<i64>, Vec<Vec<u8>>);

impl Puts {
    fn push(&mut self, collection: &Collection, document: &Document) {
        self.0.push(collection, &document.key);
        self.1.push(document.version.get().cast_signed());
        self.2.push(value::encode(document, &layout::document(collection, &document.key)));
    }

    /// Adds the documents to their histories, and takes the oldest away.
    async fn keep(&self, on: &mut PgConnection, history: u64) -> sqlx::Result<()> {
        if self.1.is_empty() {
            return Ok(());
        }
        let add = sqlx::query(
            "INSERT INTO history (collection, key, version, value) \
             SELECT * FROM unnest($1::text[], $2::bytea[], $3::bigint[], $4::bytea[])",
        );
        let add = add.bind(&self.0.0).bind(&self.0.1).bind(&self.1).bind(&self.2);
        add.execute(&mut *on).await?;
        let prune = sqlx::query(
            "DELETE FROM history h USING unnest($1::text[], $2::bytea[], $3::bigint[]) \
             AS k(c, k, v) WHERE h.collection = k.c AND h.key = k.k AND h.version <= k.v - $4",
        );
        let prune = prune.bind(&self.0.0).bind(&self.0.1).bind(&self.1);
        prune.bind(i64::try_from(history).unwrap_or(i64::MAX)).execute(on).await.map(|_| ())
    }

    async fn put(self, on: &mut PgConnection) -> sqlx::Result<()> {
        if self.1.is_empty() {
            return Ok(());
        }
        let put = sqlx::query(
            "INSERT INTO documents (collection, key, version, value) \
             SELECT * FROM unnest($1::text[], $2::bytea[], $3::bigint[], $4::bytea[]) \
             ON CONFLICT (collection, key) \
             DO UPDATE SET version = EXCLUDED.version, value = EXCLUDED.value",
        );
        let put = put.bind(self.0.0).bind(self.0.1).bind(self.1).bind(self.2);
        put.execute(on).await.map(|_| ())
    }
}

/// Columns of terms.
#[derive(Debug, Default)]
struct Terms(Vec<String>, Vec<String>, Vec<Vec<u8>>, Vec<Vec<u8>>, Vec<bool>);

impl Terms {
    fn push(&mut self, collection: &Collection, key: &Bytes, term: &Term) {
        self.0.push(collection.as_str().to_owned());
        self.1.push(term.index.as_str().to_owned());
        self.2.push(term.value.to_vec());
        self.3.push(key.to_vec());
        self.4.push(term.is_unique);
    }

    async fn put(self, on: &mut PgConnection) -> sqlx::Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let put = sqlx::query(
            "INSERT INTO terms (collection, index_name, value, key, is_unique) \
             SELECT c, i, v, k, bool_or(u) \
             FROM unnest($1::text[], $2::text[], $3::bytea[], $4::bytea[], $5::bool[]) \
             AS t(c, i, v, k, u) GROUP BY c, i, v, k",
        );
        let put = put.bind(self.0).bind(self.1).bind(self.2).bind(self.3).bind(self.4);
        put.execute(on).await.map(|_| ())
    }
}
