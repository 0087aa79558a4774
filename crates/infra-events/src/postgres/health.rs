//! Health: whether the database answers, and who holds the head back.

use async_trait::async_trait;
use infra_core::health::{Finding, HealthCheck};
use sqlx::{Row as _, postgres::PgRow};

use super::{failed, lane::unsigned, schema::named, store::PostgresEventStore};

/// The head, the last event, and the oldest transaction that writes, prepared ones included.
const LOOK: &str = "select {schema}.stable_head() as head,
        (select coalesce(max(position), 0) from {schema}.events) as last, t.*
    from (select 1) as one left join lateral (
        select 'process ' || pid || ' (' || coalesce(nullif(application_name, ''), 'no name')
                || ', ' || coalesce(state, 'no state') || ')' as holder,
            extract(epoch from clock_timestamp() - xact_start)::float8 as age,
            age(backend_xid) as xid_age
        from pg_stat_activity where backend_xid is not null and pid <> pg_backend_pid()
        union all
        select 'prepared transaction ' || gid,
            extract(epoch from clock_timestamp() - prepared)::float8, age(transaction)
        from pg_prepared_xacts
        order by xid_age desc limit 1) as t on true";

#[async_trait]
impl HealthCheck for PostgresEventStore {
    fn name(&self) -> &'static str {
        "events"
    }

    async fn check(&self) -> Finding {
        let looking = sqlx::query(named(LOOK, self.schema())).fetch_one(self.pool());
        let row = match tokio::time::timeout(self.patience(), looking).await {
            Ok(Ok(row)) => row,
            Ok(Err(cause)) => {
                let error = failed("look at the database", cause);
                let source = std::error::Error::source(&error).map(ToString::to_string);
                return Finding::down(format!("{error}: {}", source.unwrap_or_default()));
            }
            Err(_) => return Finding::down("the database does not answer"),
        };
        judge(&row, self.stall().as_secs_f64())
            .unwrap_or_else(|cause| Finding::down(format!("unreadable: {cause}")))
    }
}

fn judge(row: &PgRow, longest: f64) -> sqlx::Result<Finding> {
    let (head, last) = (unsigned(row.try_get("head")?), unsigned(row.try_get("last")?));
    let holder: Option<String> = row.try_get("holder")?;
    let age: Option<f64> = row.try_get("age")?;
    let (Some(holder), Some(age)) = (holder, age) else { return Ok(Finding::up()) };
    if last <= head || age < longest {
        return Ok(Finding::up());
    }
    Ok(Finding::degraded(format!(
        "events after {head} are held back by {holder}, whose transaction is {age:.0} s old"
    )))
}
