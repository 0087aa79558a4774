//! The tables and functions in the database, brought up to date when the store is opened.

use infra_core::{Error, ErrorKind, Result};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _};

use super::failed;

const MIGRATE: &str = "migrate event store";

/// The migrations, in order; one that was released is never changed.
const MIGRATIONS: [&str; 1] = [include_str!("schema.sql")];

/// Puts the schema's name into a statement; it was checked to be a plain one.
pub(super) fn named(sql: &str, schema: &str) -> AssertSqlSafe<String> {
    AssertSqlSafe(sql.replace("{schema}", schema))
}

/// Brings the schema up to date; of several processes one does it.
pub(super) async fn migrate(connection: &mut PgConnection, schema: &str) -> Result<()> {
    apply(connection, schema).await.map_err(|cause| failed(MIGRATE, cause))?.map_or(Ok(()), Err)
}

/// Returns what forbids the migration, if something does.
async fn apply(connection: &mut PgConnection, schema: &str) -> sqlx::Result<Option<Error>> {
    let mut transaction = connection.begin().await?;
    let prepare = "select pg_advisory_xact_lock(hashtextextended('migrate {schema}', 0));
        create schema if not exists {schema};
        create table if not exists {schema}.migrations (
            version integer primary key, applied timestamptz not null default now());";
    transaction.execute(sqlx::raw_sql(named(prepare, schema))).await?;
    let version = named("select coalesce(max(version), 0) from {schema}.migrations", schema);
    let version: i32 = sqlx::query(version).fetch_one(&mut *transaction).await?.try_get(0)?;
    let done = usize::try_from(version).unwrap_or_default();
    if MIGRATIONS.len() < done {
        let detail = format!("the schema has version {done}, known is {}", MIGRATIONS.len());
        return Ok(Some(Error::new(ErrorKind::Unsupported, MIGRATE).detail(detail)));
    }
    for (migration, number) in MIGRATIONS.iter().zip(1_i32..).skip(done) {
        transaction.execute(sqlx::raw_sql(named(migration, schema))).await?;
        let note = named("insert into {schema}.migrations (version) values ($1)", schema);
        sqlx::query(note).bind(number).execute(&mut *transaction).await?;
    }
    // A dump that is restored into a younger cluster: new positions must follow the old ones.
    let catch_up = "update {schema}.meta set xid_offset = highest - current
        from (select greatest((select coalesce(max(position), 0) from {schema}.events),
                (select removed_to from {schema}.meta)) >> 14 as highest,
            pg_current_xact_id()::text::bigint as current) as ids
        where current + xid_offset < highest";
    sqlx::query(named(catch_up, schema)).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(None)
}
