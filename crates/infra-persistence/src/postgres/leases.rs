//! Leases as rows, judged by the server's clock.

use std::time::Duration;

use async_trait::async_trait;
use infra_core::{
    Error, ErrorKind, Result,
    clock::Timestamp,
    id::Scope,
    lease::{Lease, Leases},
    version::FencingToken,
};
use sqlx::PgPool;

use super::{error::wrap, options::PostgresOptions};

/// Grants leases as rows of a table.
///
/// The server's clock alone judges when a lease ends, so clocks of owners may be wrong. A row is
/// never deleted, so that its token only grows.
#[derive(Debug, Clone)]
pub struct PostgresLeases {
    pool: PgPool,
    patience: Duration,
}

type Row = (String, i64, i64);

const ACQUIRE: &str = "
    INSERT INTO leases AS held (scope, owner, token, expires)
    VALUES ($1, $2, 1, clock_timestamp() + $3 * interval '1 microsecond')
    ON CONFLICT (scope) DO UPDATE
    SET owner = EXCLUDED.owner, token = held.token + 1, expires = EXCLUDED.expires
    WHERE held.expires <= clock_timestamp()
    RETURNING owner, token, (extract(epoch FROM expires) * 1000)::bigint";

const RENEW: &str = "
    UPDATE leases SET expires = clock_timestamp() + $3 * interval '1 microsecond'
    WHERE scope = $1 AND token = $2 AND clock_timestamp() < expires
    RETURNING owner, token, (extract(epoch FROM expires) * 1000)::bigint";

const RELEASE: &str = "
    UPDATE leases SET expires = '-infinity'
    WHERE scope = $1 AND token = $2 AND clock_timestamp() < expires
    RETURNING owner, token, 0::bigint";

const HOLDER: &str = "
    SELECT owner, token, (extract(epoch FROM expires) * 1000)::bigint FROM leases
    WHERE scope = $1 AND clock_timestamp() < expires";

impl PostgresLeases {
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
        Ok(Self { pool: options.connect().await?, patience: options.patience })
    }

    async fn ask(
        &self,
        operation: &'static str,
        asking: impl Future<Output = sqlx::Result<Option<Row>>>,
    ) -> Result<Option<Row>> {
        let said = tokio::time::timeout(self.patience, asking).await;
        let late = |_| Error::new(ErrorKind::Timeout, operation);
        said.map_err(late)?.map_err(|cause| wrap(operation, cause))
    }
}

fn granted(scope: &Scope, (owner, token, millis): Row) -> Lease {
    let token = FencingToken::new(token.cast_unsigned());
    let expires = Timestamp::from_millis(u64::try_from(millis).unwrap_or(0));
    Lease { scope: scope.clone(), owner, token, expires }
}

fn micros(operation: &'static str, ttl: Duration) -> Result<i64> {
    if ttl.is_zero() {
        return Err(Error::invalid(operation, "a time to live of zero"));
    }
    // Longer than a lease may be is as long as it may be.
    Ok(i64::try_from(ttl.as_micros()).unwrap_or(i64::MAX).min(1 << 52))
}

#[async_trait]
impl Leases for PostgresLeases {
    async fn acquire(&self, scope: &Scope, owner: &str, ttl: Duration) -> Result<Option<Lease>> {
        let micros = micros("acquire lease", ttl)?;
        let query = sqlx::query_as(ACQUIRE).bind(scope.as_str()).bind(owner).bind(micros);
        let said = self.ask("acquire lease", query.fetch_optional(&self.pool)).await?;
        Ok(said.map(|row| granted(scope, row)))
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<Lease> {
        let (token, micros) = (lease.token.get().cast_signed(), micros("renew lease", ttl)?);
        let query = sqlx::query_as(RENEW).bind(lease.scope.as_str()).bind(token).bind(micros);
        let said = self.ask("renew lease", query.fetch_optional(&self.pool)).await?;
        let lost = || Error::new(ErrorKind::LeaseLost, "renew lease");
        said.map(|row| granted(&lease.scope, row)).ok_or_else(lost)
    }

    async fn release(&self, lease: Lease) -> Result<()> {
        let token = lease.token.get().cast_signed();
        let query = sqlx::query_as(RELEASE).bind(lease.scope.as_str()).bind(token);
        let said = self.ask("release lease", query.fetch_optional(&self.pool)).await?;
        said.map(|_| ()).ok_or_else(|| Error::new(ErrorKind::LeaseLost, "release lease"))
    }

    async fn holder(&self, scope: &Scope) -> Result<Option<Lease>> {
        let query = sqlx::query_as(HOLDER).bind(scope.as_str());
        let said = self.ask("look at lease", query.fetch_optional(&self.pool)).await?;
        Ok(said.map(|row| granted(scope, row)))
    }
}
