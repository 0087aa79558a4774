//! A tower layer that answers requests of one key from a cache.

use std::{
    fmt::{self, Debug},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use infra_core::{Error, ErrorKind, Result, error::BoxError};
use tower::{Layer, Service};

use crate::{local::LocalCache, read::Loaded};

const CALL: &str = "call cached service";

type KeyOf<Q> = dyn Fn(&Q) -> Option<String> + Send + Sync;
type Keep<R> = dyn Fn(R) -> Loaded<R> + Send + Sync;

/// Keeps the responses of a service under keys of its requests.
///
/// Requests of one key share a call of the service, one that fails as well, and a request without a key passes by the
/// cache. So whatever makes a response private (who asks, in which language) belongs into the key, or the request has
/// none. The cache is a handle like any other: invalidate through it.
///
/// ```
/// use infra_cache::{CacheLayer, Loaded, LocalCache, Options};
/// use infra_core::SystemClock;
/// use tower::{Layer as _, Service as _, ServiceExt as _, service_fn};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let responses = LocalCache::new(Options::new(1_000), SystemClock::shared());
/// let layer = CacheLayer::new(responses.clone(), |path: &&str| path.strip_prefix("/public").map(str::to_owned));
/// let mut service = layer.layer(service_fn(|path: &str| {
///     let body = format!("page {path}");
///     async move { Ok::<_, infra_core::Error>(body) }
/// }));
/// assert_eq!(service.ready().await?.call("/public/rules").await?, "page /public/rules");
/// assert!(responses.contains(&"/rules".to_owned()));
/// # Ok::<(), infra_core::Error>(()) }).unwrap();
/// ```
pub struct CacheLayer<Q, R> {
    cache: LocalCache<String, R>,
    key: Arc<KeyOf<Q>>,
    keep: Arc<Keep<R>>,
}

impl<Q, R> Clone for CacheLayer<Q, R> {
    fn clone(&self) -> Self {
        let (key, keep) = (Arc::clone(&self.key), Arc::clone(&self.keep));
        Self { cache: self.cache.clone(), key, keep }
    }
}

impl<Q, R> Debug for CacheLayer<Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheLayer").field("cache", &self.cache).finish_non_exhaustive()
    }
}

impl<Q, R: 'static> CacheLayer<Q, R> {
    /// Creates a layer that keeps all responses for the time of the cache's options.
    pub fn new(
        cache: LocalCache<String, R>,
        key: impl Fn(&Q) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        Self { cache, key: Arc::new(key), keep: Arc::new(Loaded::new) }
    }

    /// Sets for how long and with which tags a response is kept; a time of zero keeps it not at all.
    #[must_use]
    pub fn keep(mut self, keep: impl Fn(R) -> Loaded<R> + Send + Sync + 'static) -> Self {
        self.keep = Arc::new(keep);
        self
    }
}

impl<S, Q, R> Layer<S> for CacheLayer<Q, R> {
    type Service = Cached<S, Q, R>;

    fn layer(&self, inner: S) -> Self::Service {
        Cached { inner, layer: self.clone() }
    }
}

/// A service behind a cache; made by [`CacheLayer`].
#[derive(Debug)]
pub struct Cached<S, Q, R> {
    inner: S,
    layer: CacheLayer<Q, R>,
}

impl<S: Clone, Q, R> Clone for Cached<S, Q, R> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), layer: self.layer.clone() }
    }
}

impl<S, Q, R> Service<Q> for Cached<S, Q, R>
where
    S: Service<Q, Response = R> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    Q: Send + 'static,
    R: Clone + Send + Sync + 'static,
{
    type Response = R;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<R>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        self.inner.poll_ready(cx).map_err(failed)
    }

    fn call(&mut self, req: Q) -> Self::Future {
        // The service that is ready serves; a clone of it need not be.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let CacheLayer { cache, key, keep } = self.layer.clone();
        let Some(key) = key(&req) else {
            let call = inner.call(req);
            return Box::pin(async move { call.await.map_err(failed) });
        };
        Box::pin(async move {
            let load = || async move { inner.call(req).await.map_err(failed).map(|it| keep(it)) };
            let read = cache.read_or_load(&key, load).await?;
            read.value.ok_or_else(|| Error::new(ErrorKind::NotFound, CALL))
        })
    }
}

/// Passes an error of ours on as it is, and wraps any other.
fn failed(error: impl Into<BoxError>) -> Error {
    match error.into().downcast::<Error>() {
        Ok(error) => *error,
        Err(cause) => Error::new(ErrorKind::Unavailable, CALL).because(cause),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU64, Ordering},
        time::Duration,
    };

    use infra_core::SystemClock;
    use tower::{ServiceExt as _, service_fn};

    use super::*;
    use crate::options::Options;

    fn cache() -> LocalCache<String, u64> {
        LocalCache::new(Options::new(100), SystemClock::shared())
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "what the layer hands over")]
    fn key(request: &u64) -> Option<String> {
        (*request < 100).then(|| (request % 10).to_string())
    }

    #[tokio::test]
    async fn requests_of_one_key_share_a_call_and_those_without_a_key_pass_by() {
        let calls = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&calls);
        let responses = cache();
        let layer = CacheLayer::new(responses.clone(), key).keep(|response| {
            let kept = Loaded::new(response).tagged("page");
            if response == 5 { kept.ttl(Duration::ZERO) } else { kept }
        });
        let service = layer.layer(service_fn(move |request: u64| {
            counted.fetch_add(1, Ordering::SeqCst);
            async move {
                tokio::task::yield_now().await;
                Ok::<_, Error>(request)
            }
        }));
        let call = |request| service.clone().oneshot(request);
        let (one, two) = tokio::join!(call(1), call(11));
        assert_eq!((one.unwrap(), two.unwrap(), call(21).await.unwrap()), (1, 1, 1));
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        for request in [100, 100, 5, 5] {
            assert_eq!(call(request).await.unwrap(), request);
        }
        assert_eq!(calls.load(Ordering::SeqCst), 5, "without a key, and not kept");
        assert_eq!(responses.remove_tag("page"), 1);
        assert_eq!(call(11).await.unwrap(), 11);
        assert!(format!("{service:?}{layer:?}").contains("CacheLayer"));
    }

    #[tokio::test]
    async fn an_error_of_ours_is_passed_on_and_another_one_is_wrapped() {
        let ours =
            service_fn(|_: u64| async { Err::<u64, _>(Error::new(ErrorKind::Denied, "ask")) });
        let foreign =
            service_fn(|_: u64| async { Err::<u64, _>(std::io::Error::other("broken pipe")) });
        let error = CacheLayer::new(cache(), key).layer(ours).oneshot(1).await.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Denied);
        for request in [1, 100] {
            let layer = CacheLayer::new(cache(), key);
            let error = layer.layer(foreign).oneshot(request).await.unwrap_err();
            assert_eq!(*error.kind(), ErrorKind::Unavailable);
        }
    }
}
