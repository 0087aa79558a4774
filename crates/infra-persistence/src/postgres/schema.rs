//! The tables of documents and leases, and how they come to be.

use std::{borrow::Cow, time::Duration};

use infra_core::{Error, ErrorKind, Result};
use sqlx::{
    AssertSqlSafe, Connection as _, Executor as _, FromRow as _, PgConnection, PgPool, SqlStr,
    migrate::{MigrateError, Migration, MigrationType, Migrator},
    postgres::PgConnectOptions,
};

use super::error::wrap;

pub(super) const OPEN: &str = "open PostgreSQL";

/// How long each part of an opening may take at least: the migrator asks some twenty times, one after the other.
const OPENING: Duration = Duration::from_secs(30);

/// The steps from nothing to today's tables. A step that was ever released is never changed.
static STEPS: [(&str, &str); 1] =
    [("documents", include_str!("../../migrations/0001_documents.sql"))];

/// The table in which sqlx notes the steps that were taken.
const TAKEN: &str = "SELECT version, checksum, success FROM _sqlx_migrations ORDER BY version";

/// A step that was taken: its number, the checksum of what was done, and whether it was done.
type Taken = (i64, Vec<u8>, bool);

/// sqlx's `migrate!` would do the same, and compile sqlx a second time for its macro.
fn migrations() -> Migrator {
    let step = |(version, (what, sql)): (i64, &(&'static str, &'static str))| {
        let sql = SqlStr::from_static(sql);
        Migration::new(version, Cow::Borrowed(*what), MigrationType::Simple, sql, false)
    };
    Migrator::with_migrations((1..).zip(&STEPS).map(step).collect())
}

/// Returns whether the tables are as they are today: one question, over a connection of its own. Over a slow line
/// each question counts, and nearly every start finds them so.
pub(super) async fn is_up_to_date(options: &PgConnectOptions, patience: Duration) -> Result<bool> {
    let looking = async {
        let mut connection = PgConnection::connect_with(options).await?;
        let taken = taken(&mut connection).await?;
        connection.close().await?;
        Ok(is_today(&taken))
    };
    in_time(patience, looking).await?.map_err(|cause| wrap(OPEN, cause))
}

/// Brings the tables up to date; of several processes one does it.
pub(super) async fn bring_up_to_date(
    pool: &PgPool,
    schema: &str,
    patience: Duration,
) -> Result<()> {
    // Two that create the same schema at once would fail. Both happens in one transaction.
    let create = format!(
        "SELECT pg_advisory_xact_lock(hashtextextended('infra_persistence', 0));
         CREATE SCHEMA IF NOT EXISTS {schema}"
    );
    let created = in_time(patience, pool.execute(sqlx::raw_sql(AssertSqlSafe(create)))).await?;
    created.map_err(|cause| wrap(OPEN, cause))?;
    in_time(patience, migrations().run(pool)).await?.map_err(not_migrated)
}

/// Waits for a part of an opening.
async fn in_time<T>(patience: Duration, part: impl Future<Output = T>) -> Result<T> {
    let part = tokio::time::timeout(patience.max(OPENING), part).await;
    part.map_err(|_| Error::new(ErrorKind::Timeout, OPEN))
}

/// Reads which steps were taken; none if there is no table that says so.
async fn taken(connection: &mut PgConnection) -> sqlx::Result<Vec<Taken>> {
    const UNDEFINED_TABLE: &str = "42P01";
    match connection.fetch_all(sqlx::raw_sql(TAKEN)).await {
        Ok(rows) => rows.iter().map(Taken::from_row).collect(),
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(UNDEFINED_TABLE) => {
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

/// Returns whether exactly the known steps were taken, as they are known. Whatever else was found is for the
/// migrator to judge, which has a lock.
fn is_today(taken: &[Taken]) -> bool {
    let migrations = migrations();
    let known = migrations.iter().map(|step| (step.version, &*step.checksum, true));
    known.eq(taken.iter().map(|(version, checksum, is_done)| (*version, &**checksum, *is_done)))
}

/// Tells a schema that a later version of this crate has made from an outage.
fn not_migrated(cause: MigrateError) -> Error {
    if let MigrateError::VersionMissing(found) = cause {
        let known = STEPS.len();
        let detail = format!("the schema has version {found}, known is {known}");
        return Error::new(ErrorKind::Unsupported, OPEN).detail(detail);
    }
    Error::new(ErrorKind::Unavailable, OPEN).detail("migrate the schema").because(cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_known_steps_as_they_are_known_are_today() {
        let known = || -> Vec<Taken> {
            let migrations = migrations();
            migrations.iter().map(|step| (step.version, step.checksum.to_vec(), true)).collect()
        };
        let check = |change: fn(&mut Vec<Taken>), expected| {
            let mut taken = known();
            change(&mut taken);
            assert_eq!(is_today(&taken), expected, "{taken:?}");
        };
        check(|_| {}, true);
        check(Vec::clear, false);
        check(|taken| taken.push((99, vec![1], true)), false);
        check(|taken| taken[0].0 = 99, false);
        check(|taken| taken[0].1 = vec![1], false);
        check(|taken| taken[0].2 = false, false);
    }
}
