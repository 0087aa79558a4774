//! The document store in PostgreSQL: what is read.

use std::{ops::Bound, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use infra_core::{
    Clock, Error, ErrorKind, Result,
    durability::Durability,
    health::{Finding, HealthCheck},
    id::Collection,
    store::{Batch, Document, DocumentStore, Features, Query, Receipt, Scan},
    version::Position,
};
use sqlx::{PgPool, Postgres, QueryBuilder, postgres::PgRow};

use super::{error::wrap, options::PostgresOptions};
use crate::{judge, layout, value};

/// Keeps documents in tables of PostgreSQL.
///
/// A value is stored with a checksum of our own and read with it. Reads see what is committed.
/// `Applied` and `Buffered` are the same here: committed, but lost if the server dies within the
/// fraction of a second until its log is written.
#[derive(Debug, Clone)]
pub struct PostgresDocuments {
    pub(super) pool: PgPool,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) patience: Duration,
    pub(super) history: u64,
}

type Row = (Vec<u8>, Vec<u8>);

pub(super) const GET: &str = "SELECT key, value FROM documents WHERE collection = $1 AND key = $2";

pub(super) const GET_MANY: &str = "SELECT k.key, d.value FROM unnest($2::bytea[]) WITH ORDINALITY AS k(key, place) \
     LEFT JOIN documents d ON d.collection = $1 AND d.key = k.key ORDER BY k.place";

pub(super) const HISTORY: &str = "SELECT value FROM history \
    WHERE collection = $1 AND key = $2 ORDER BY version DESC LIMIT $3";

impl PostgresDocuments {
    /// Connects to the server, and brings the tables up to date.
    ///
    /// # Errors
    ///
    /// [`Invalid`](ErrorKind::Invalid) for options that cannot be,
    /// [`Unavailable`](ErrorKind::Unavailable) if the server cannot be reached.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes what was opened.
    pub async fn connect(options: &PostgresOptions) -> Result<Self> {
        let pool = options.connect().await?;
        let (clock, patience) = (Arc::clone(&options.clock), options.patience);
        Ok(Self { pool, clock, patience, history: options.history })
    }

    /// Closes all connections, after what is on its way has ended; it waits no longer than an operation may
    /// take for connections that do not come back.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future lets the rest close by itself.
    pub async fn close(&self) {
        // The others are closed when they come back, or with the runtime.
        let _all_back = tokio::time::timeout(self.patience, self.pool.close()).await.is_ok();
    }

    /// Waits for an answer within the patience.
    pub(super) async fn within<T>(
        &self,
        operation: &'static str,
        asking: impl Future<Output = sqlx::Result<T>>,
    ) -> Result<T> {
        let said = tokio::time::timeout(self.patience, asking).await;
        let late = |_| Error::new(ErrorKind::Timeout, operation);
        said.map_err(late)?.map_err(|cause| wrap(operation, cause))
    }

    async fn rows(
        &self,
        operation: &'static str,
        mut query: QueryBuilder<Postgres>,
    ) -> Result<Vec<Row>> {
        self.within(operation, query.build_query_as::<Row>().fetch_all(&self.pool)).await
    }
}

/// Decodes a row as the document that stands there.
pub(super) fn decode(collection: &Collection, (key, value): &Row) -> Result<Document> {
    value::decode(key, &layout::document(collection, key), value)
}

fn limit(query: &mut QueryBuilder<Postgres>, limit: usize) {
    query.push(" LIMIT ").push_bind(i64::try_from(limit).unwrap_or(i64::MAX));
}

fn bound(query: &mut QueryBuilder<Postgres>, column: &str, signs: [&str; 2], at: &Bound<Bytes>) {
    let (sign, value) = match at {
        Bound::Unbounded => return,
        Bound::Included(value) => (signs[0], value),
        Bound::Excluded(value) => (signs[1], value),
    };
    query.push(" AND ").push(column).push(sign).push_bind(value.to_vec());
}

/// Adds that keys start with a prefix, as a range, so that the index is used.
fn starts_with(query: &mut QueryBuilder<Postgres>, prefix: &[u8]) {
    if prefix.is_empty() {
        return;
    }
    query.push(" AND key >= ").push_bind(prefix.to_vec());
    if let Bound::Excluded(end) = layout::after_prefix(prefix.to_vec()) {
        query.push(" AND key < ").push_bind(end);
    }
}

/// Builds the statement of a scan.
pub(super) fn range(collection: &Collection, scan: &Scan) -> QueryBuilder<Postgres> {
    let mut query = QueryBuilder::new("SELECT key, value FROM documents WHERE collection = ");
    query.push_bind(collection.as_str().to_owned());
    starts_with(&mut query, &scan.prefix);
    if let Some(after) = &scan.after {
        query.push(if scan.is_reverse { " AND key < " } else { " AND key > " });
        query.push_bind(after.to_vec());
    }
    query.push(if scan.is_reverse { " ORDER BY key DESC" } else { " ORDER BY key" });
    limit(&mut query, scan.limit);
    query
}

/// Builds the statement of a query.
pub(super) fn find(collection: &Collection, query: &Query) -> QueryBuilder<Postgres> {
    let mut sql = QueryBuilder::new(
        "SELECT d.key, d.value FROM terms t JOIN documents d USING (collection, key) \
         WHERE t.collection = ",
    );
    sql.push_bind(collection.as_str().to_owned());
    sql.push(" AND t.index_name = ").push_bind(query.index.as_str().to_owned());
    bound(&mut sql, "t.value", [" >= ", " > "], &query.from);
    bound(&mut sql, "t.value", [" <= ", " < "], &query.to);
    if let Some((value, key)) = &query.after {
        let sign = if query.is_reverse { " < (" } else { " > (" };
        sql.push(" AND (t.value, t.key)").push(sign);
        sql.push_bind(value.to_vec()).push(", ").push_bind(key.to_vec()).push(")");
    }
    sql.push(if query.is_reverse {
        " ORDER BY t.value DESC, t.key DESC"
    } else {
        " ORDER BY t.value, t.key"
    });
    limit(&mut sql, query.limit);
    sql
}

#[async_trait]
impl DocumentStore for PostgresDocuments {
    fn features(&self) -> Features {
        let features = Features::new(Durability::Durable);
        if self.history == 0 { features } else { features.with_history() }
    }

    async fn get(&self, collection: &Collection, key: &[u8]) -> Result<Option<Document>> {
        let query = sqlx::query_as::<_, Row>(GET);
        let query = query.bind(collection.as_str()).bind(key).fetch_optional(&self.pool);
        let found = self.within("read document", query).await?;
        found.map(|row| decode(collection, &row)).transpose()
    }

    async fn get_many(
        &self,
        collection: &Collection,
        keys: &[Bytes],
    ) -> Result<Vec<Option<Document>>> {
        let query = sqlx::query_as::<_, (Vec<u8>, Option<Vec<u8>>)>(GET_MANY);
        let all: Vec<&[u8]> = keys.iter().map(AsRef::as_ref).collect();
        let query = query.bind(collection.as_str()).bind(all).fetch_all(&self.pool);
        let found = self.within("read documents", query).await?;
        let decode = |(key, value): (Vec<u8>, Option<Vec<u8>>)| {
            value.map(|value| decode(collection, &(key, value))).transpose()
        };
        found.into_iter().map(decode).collect()
    }

    async fn commit(&self, batch: Batch) -> Result<Receipt> {
        judge::check_shape(&batch)?;
        self.commit_checked(&batch).await
    }

    async fn reach(&self, commit: Position, durability: Durability) -> Result<()> {
        // A sequence tells its last number without drawing one; a durable commit takes the log of
        // all before it along.
        let last = sqlx::query_as::<_, (i64, bool)>("SELECT last_value, is_called FROM commits");
        let (last, is_called) = self.within("reach durability", last.fetch_one(&self.pool)).await?;
        let given = if is_called { last.cast_unsigned() } else { 0 };
        if Position::new(given) < commit {
            let detail = format!("commit {commit} was never given");
            return Err(Error::invalid("reach durability", detail));
        }
        if durability == Durability::Durable {
            self.commit_checked(&Batch::new()).await?;
        }
        Ok(())
    }

    async fn scan(&self, collection: &Collection, scan: Scan) -> Result<Vec<Document>> {
        let rows = self.rows("scan documents", range(collection, &scan)).await?;
        rows.iter().map(|row| decode(collection, row)).collect()
    }

    async fn query(&self, collection: &Collection, query: Query) -> Result<Vec<Document>> {
        let rows = self.rows("query documents", find(collection, &query)).await?;
        rows.iter().map(|row| decode(collection, row)).collect()
    }

    async fn count(&self, collection: &Collection, prefix: &[u8]) -> Result<u64> {
        let mut query = QueryBuilder::new("SELECT count(*) FROM documents WHERE collection = ");
        query.push_bind(collection.as_str().to_owned());
        starts_with(&mut query, prefix);
        let count = query.build_query_scalar::<i64>().fetch_one(&self.pool);
        Ok(self.within("count documents", count).await?.cast_unsigned())
    }

    async fn history(
        &self,
        collection: &Collection,
        key: &[u8],
        limit: usize,
    ) -> Result<Vec<Document>> {
        const READ: &str = "read history";
        if self.history == 0 {
            return Err(Error::new(ErrorKind::Unsupported, READ));
        }
        let query = sqlx::query_as::<_, (Vec<u8>,)>(HISTORY);
        let query = query.bind(collection.as_str()).bind(key);
        let query = query.bind(i64::try_from(limit).unwrap_or(i64::MAX));
        let rows = self.within(READ, query.fetch_all(&self.pool)).await?;
        let at = layout::document(collection, key);
        rows.iter().map(|(value,)| value::decode(key, &at, value)).collect()
    }
}

#[async_trait]
impl HealthCheck for PostgresDocuments {
    fn name(&self) -> &'static str {
        "postgres documents"
    }

    async fn check(&self) -> Finding {
        let asked = sqlx::query("SELECT 1").fetch_one(&self.pool);
        match self.within::<PgRow>("ask PostgreSQL", asked).await {
            Ok(_) => Finding::up(),
            Err(error) => Finding::down(error.to_string()),
        }
    }
}
