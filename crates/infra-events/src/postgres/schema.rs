//! The tables and functions in the database, brought up to date when the store is opened.

use infra_core::{Error, ErrorKind, Result, version::Position};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, FromRow as _, PgConnection, Row as _};

use super::{failed, lane::unsigned, watcher};

const MIGRATE: &str = "migrate event store";

/// The migrations, in order; one that was released is never changed.
const MIGRATIONS: [&str; 1] = [include_str!("schema.sql")];

/// Puts the schema's name into a statement; it was checked to be a plain one.
pub(super) fn named(sql: &str, schema: &str) -> AssertSqlSafe<String> {
    AssertSqlSafe(sql.replace("{schema}", schema))
}

/// What a store is found with: the version of its schema, whether its positions are ahead of the server's
/// transactions, and the stable head.
type Found = (i32, bool, i64);

const LOOK: &str = "select (select coalesce(max(version), 0) from {schema}.migrations),
    (select pg_snapshot_xmax(pg_current_snapshot())::text::bigint + xid_offset
        < greatest((select coalesce(max(position), 0) from {schema}.events), removed_to) >> 14
        from {schema}.meta),
    {schema}.stable_head()";

/// Brings the schema up to date, and returns the stable head; of several processes one does it.
///
/// Whoever finds it up to date has asked one question: over a slow line each counts, and nearly every start
/// finds it so.
pub(super) async fn bring_up_to_date(
    connection: &mut PgConnection,
    schema: &str,
) -> Result<Position> {
    let fail = |cause| failed(MIGRATE, cause);
    if let Some(head) = look(connection, schema).await.map_err(fail)? {
        return Ok(head);
    }
    apply(connection, schema).await.map_err(fail)?.map_or(Ok(()), Err)?;
    watcher::stable_head(connection, schema).await
}

/// Returns the stable head if there is nothing to do. What cannot be read is for whom has the lock to judge.
async fn look(connection: &mut PgConnection, schema: &str) -> sqlx::Result<Option<Position>> {
    let row = match connection.fetch_one(sqlx::raw_sql(named(LOOK, schema))).await {
        Ok(row) => row,
        Err(sqlx::Error::Database(cause)) if is_about_names(cause.code().as_deref()) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let (version, is_behind, head) = Found::from_row(&row)?;
    let is_today = usize::try_from(version) == Ok(MIGRATIONS.len()) && !is_behind;
    Ok(is_today.then(|| Position::new(unsigned(Some(head)))))
}

/// Returns whether a statement failed because of something that is not there, or not for everybody.
fn is_about_names(code: Option<&str>) -> bool {
    code.is_some_and(|code| code.starts_with("42") || code.starts_with("3F"))
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
