//! What became of a commit that nobody answered.
//!
//! The server is asked by the transaction's number. That alone proves no commit: the number of a
//! transaction of which nothing had reached the disk when the server was killed is given to another
//! one, and that one's fate is told then. So a commit counts as done only if what it wrote is there
//! as well. That a number was rolled back, whoever has it, does prove that ours was not committed.

use std::time::Duration;

use infra_core::{
    store::{Batch, Write},
    version::Version,
};
use sqlx::PgConnection;

use super::{
    commit::{COMMIT, Failure, read},
    documents::PostgresDocuments,
};

/// How long between two questions.
const PAUSE: Duration = Duration::from_millis(50);

/// What is known of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is done.
    Committed,
    /// Nothing of it is there, now or ever.
    RolledBack,
    /// It may be done: its number was committed, and what it wrote is not there, or not any more.
    Unknown,
}

impl PostgresDocuments {
    /// Asks until it is told; `number` is the transaction's, `versions` what the batch made.
    pub(super) async fn fate(&self, number: &str, batch: &Batch, versions: &[Version]) -> Fate {
        loop {
            let question =
                sqlx::query_as::<_, (Option<String>,)>("SELECT pg_xact_status($1::text::xid8)");
            let asking = question.bind(number).fetch_one(&self.pool);
            match self.within(COMMIT, asking).await {
                Ok((Some(fate),)) if fate == "aborted" => return Fate::RolledBack,
                Ok((Some(fate),)) if fate == "committed" => {
                    match self.is_there(batch, versions).await {
                        Ok(true) => return Fate::Committed,
                        Ok(false) => return Fate::Unknown,
                        Err(_) => {}
                    }
                }
                Ok(_) | Err(_) => {}
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Returns whether all that a batch wrote is there, as it wrote it.
    async fn is_there(&self, batch: &Batch, versions: &[Version]) -> Result<bool, Failure> {
        let mut connection = self.pool.acquire().await?;
        let found = read(&mut connection, batch).await?;
        let are_written = batch.writes.iter().zip(versions).all(|(write, version)| {
            let (collection, key, _) = write.target();
            let document = found.get(&(collection.clone(), key.clone()));
            match write {
                Write::Put { payload, .. } => document
                    .is_some_and(|found| found.version == *version && found.payload == *payload),
                Write::Delete { .. } => document.is_none(),
                Write::Check { .. } => true,
            }
        });
        Ok(are_written && is_raised(&mut connection, batch).await?)
    }
}

/// Returns whether a batch's token is the highest of its scope, or was.
async fn is_raised(on: &mut PgConnection, batch: &Batch) -> Result<bool, Failure> {
    let Some(fence) = &batch.fence else { return Ok(true) };
    let question = sqlx::query_as::<_, (bool,)>("SELECT $2 <= token FROM fences WHERE scope = $1");
    let question = question.bind(fence.scope.as_str()).bind(fence.token.get().cast_signed());
    Ok(question.fetch_optional(on).await?.is_some_and(|(is_raised,)| is_raised))
}

#[cfg(test)]
mod tests {
    use infra_core::{
        codec::Payload, id::Collection, random::Random, store::DocumentStore as _,
        version::Expected,
    };
    use infra_testkit::server::{Kind, shared};

    use super::*;
    use crate::postgres::PostgresOptions;

    /// The number of a transaction that ends by this word.
    async fn number(store: &PostgresDocuments, end: &'static str) -> String {
        let mut connection = store.pool.acquire().await.unwrap();
        sqlx::query("BEGIN").execute(&mut *connection).await.unwrap();
        let number = "SELECT pg_current_xact_id()::text";
        let number = sqlx::query_scalar(number).fetch_one(&mut *connection).await.unwrap();
        sqlx::query(end).execute(&mut *connection).await.unwrap();
        number
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_commit_of_another_that_has_the_number_now_is_not_taken_for_ours() {
        let schema = format!("fate_{:016x}", Random::from_system().next_u64());
        let options = PostgresOptions::new(shared(Kind::Postgres).unwrap()).schema(schema);
        let store = PostgresDocuments::connect(&options).await.unwrap();
        let things = Collection::new("things").unwrap();
        let put = |body: u64| {
            let payload = Payload::json(1, &body).unwrap();
            Batch::new().put(things.clone(), "a", Expected::Any, payload)
        };
        let first = [Version::new(1)];
        let (committed, rolled_back) =
            (number(&store, "COMMIT").await, number(&store, "ROLLBACK").await);
        assert_eq!(store.fate(&rolled_back, &put(1), &first).await, Fate::RolledBack);
        assert_eq!(store.fate(&committed, &put(1), &first).await, Fate::Unknown);
        store.commit(put(1)).await.unwrap();
        assert_eq!(store.fate(&committed, &put(1), &first).await, Fate::Committed);
        assert_eq!(store.fate(&committed, &put(2), &first).await, Fate::Unknown);
        let gone = Batch::new().delete(things.clone(), "a", Expected::Any);
        assert_eq!(store.fate(&committed, &gone, &[Version::ZERO]).await, Fate::Unknown);
        store.commit(gone.clone()).await.unwrap();
        assert_eq!(store.fate(&committed, &gone, &[Version::ZERO]).await, Fate::Committed);
        assert_eq!(store.fate(&committed, &put(1), &first).await, Fate::Unknown);
    }
}
