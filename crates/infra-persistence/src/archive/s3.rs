//! An archive in a bucket of S3, or of a server that speaks as it does.

use std::{
    fmt::{self, Debug, Formatter},
    sync::Arc,
    time::Duration,
};

use infra_core::{Error, Result};
use object_store::{
    BackoffConfig, ObjectStore, RetryConfig,
    aws::{AmazonS3Builder, S3ConditionalPut},
    prefix::PrefixStore,
};

use super::{
    https::Https,
    store::{Archive, Place, parse},
};

const OPEN: &str = "open archive";

/// Where a bucket is, and how patient to be with it.
#[derive(Clone)]
#[non_exhaustive]
pub struct S3Options {
    bucket: String,
    prefix: String,
    endpoint: Option<String>,
    region: Option<String>,
    key: Option<(String, String)>,
    retries: usize,
    bounds: Https,
}

impl Debug for S3Options {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Options")
            .field("bucket", &self.bucket)
            .field("prefix", &self.prefix)
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .finish_non_exhaustive()
    }
}

impl S3Options {
    /// Names a bucket. What is not set is taken from the environment (`AWS_REGION`,
    /// `AWS_ENDPOINT_URL`, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`), or, on
    /// their machines, from the roles that AWS gives.
    pub fn new(bucket: impl Into<String>) -> Self {
        Self {
            bucket: bucket.into(),
            prefix: String::new(),
            endpoint: None,
            region: None,
            key: None,
            retries: 3,
            bounds: Https {
                connect: Duration::from_secs(5),
                patience: Duration::from_secs(30),
                longest: 256 * 1024 * 1024,
            },
        }
    }

    /// Reads what stands behind `s3://` in an address.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let (place, query) = text.split_once('?').unwrap_or((text, ""));
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        let mut options = Self::new(bucket).prefix(prefix.trim_end_matches('/'));
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            options = match pair.split_once('=') {
                Some(("endpoint", url)) => options.endpoint(url),
                Some(("region", name)) => options.region(name),
                _ => return Err(Error::invalid(OPEN, format!("{pair:?} behind the address"))),
            };
        }
        Ok(options)
    }

    /// Sets what all names in the bucket begin with, up to a `/`; nothing by default.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets the URL of the server; AWS's of the region by default. `http:` is for a network that is
    /// trusted: requests are signed, not hidden.
    #[must_use]
    pub fn endpoint(mut self, url: impl Into<String>) -> Self {
        self.endpoint = Some(url.into());
        self
    }

    /// Sets the region; `us-east-1` if nothing says it.
    #[must_use]
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// Sets the key that signs requests, by its id and its secret.
    #[must_use]
    pub fn credentials(mut self, id: impl Into<String>, secret: impl Into<String>) -> Self {
        self.key = Some((id.into(), secret.into()));
        self
    }

    /// Sets how often what may be repeated is repeated, with growing pauses; 3 times by default.
    /// A create is never repeated: it could meet itself.
    #[must_use]
    pub const fn retries(mut self, retries: usize) -> Self {
        self.retries = retries;
        self
    }

    /// Sets how long a request and its whole answer may take; 30 seconds by default.
    #[must_use]
    pub const fn patience(mut self, patience: Duration) -> Self {
        self.bounds.patience = patience;
        self
    }

    /// Sets the longest object in bytes that is read; 256 MiB by default. A longer one is an error.
    #[must_use]
    pub const fn longest(mut self, bytes: usize) -> Self {
        self.bounds.longest = bytes;
        self
    }

    fn store(&self, retries: usize) -> Result<Arc<dyn ObjectStore>> {
        let retry = RetryConfig {
            backoff: BackoffConfig { max_backoff: Duration::from_secs(2), ..Default::default() },
            max_retries: retries,
            retry_timeout: self.bounds.patience.saturating_mul(2),
        };
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(&self.bucket)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            // The plain delete is the one that every server knows.
            .with_disable_bulk_delete(true)
            .with_retry(retry)
            .with_http_connector(self.bounds);
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_endpoint(endpoint).with_allow_http(true);
        }
        if let Some(region) = &self.region {
            builder = builder.with_region(region);
        }
        if let Some((id, secret)) = &self.key {
            builder = builder.with_access_key_id(id).with_secret_access_key(secret);
        }
        let store = builder.build();
        let refuse = |error| Error::invalid(OPEN, "the bucket's configuration").because(error);
        let store = store.map_err(refuse)?;
        if self.prefix.is_empty() {
            return Ok(Arc::new(store));
        }
        Ok(Arc::new(PrefixStore::new(store, parse(OPEN, &self.prefix)?)))
    }
}

impl Archive {
    /// Names the archive in a bucket; nothing is asked of the server yet. Feature `s3`.
    ///
    /// A name is created by a conditional put (`If-None-Match: *`). A server that takes that header
    /// and ignores it breaks the contract; [`Archive::probe`] tells.
    ///
    /// # Errors
    ///
    /// [`Invalid`](infra_core::ErrorKind::Invalid) for a configuration that cannot be.
    pub fn in_bucket(options: &S3Options) -> Result<Self> {
        if options.bucket.is_empty() {
            return Err(Error::invalid(OPEN, "a bucket without a name"));
        }
        Ok(Self {
            objects: options.store(options.retries)?,
            creates: options.store(0)?,
            place: Place::Bucket,
        })
    }
}
