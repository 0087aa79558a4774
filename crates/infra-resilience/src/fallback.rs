//! Something else when a call fails.

use std::{fmt, sync::Arc};

use infra_core::{Error, Result};

use crate::{
    call::{Call, Safety},
    pipeline::Policy,
    telemetry::FALLBACKS,
};

/// Answers with something else when a call fails: a value, an older one, another source.
///
/// Put it outermost: what is inside has done what it could by then.
///
/// ```
/// use infra_core::{Error, ErrorKind};
/// use infra_resilience::{Fallback, Policy as _, idempotent};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let fallback = Fallback::new(|_error| async { Ok(0) });
/// let down = idempotent(|| async { Err::<u32, _>(Error::new(ErrorKind::Unavailable, "ask")) });
/// assert_eq!(fallback.run("ask", down).await.unwrap(), 0);
/// # });
/// ```
#[derive(Clone)]
pub struct Fallback<F> {
    otherwise: F,
    applies: Arc<dyn Fn(&Error) -> bool + Send + Sync>,
}

impl<F> Fallback<F> {
    /// Creates a fallback for transient errors.
    ///
    /// `otherwise` is given the error, and may return it.
    pub fn new<R, T>(otherwise: F) -> Self
    where
        F: Fn(Error) -> R + Send + Sync,
        R: Future<Output = Result<T>> + Send,
    {
        Self { otherwise, applies: Arc::new(Error::is_transient) }
    }

    /// Sets for which errors it answers; transient ones by default.
    #[must_use]
    pub fn when(mut self, applies: impl Fn(&Error) -> bool + Send + Sync + 'static) -> Self {
        self.applies = Arc::new(applies);
        self
    }
}

impl<S, T, F, R> Policy<S, T> for Fallback<F>
where
    S: Safety,
    T: Send,
    F: Fn(Error) -> R + Send + Sync,
    R: Future<Output = Result<T>> + Send,
{
    /// Runs a call, and something else if it fails.
    ///
    /// # Errors
    ///
    /// The call's own, if the fallback does not apply; that of the fallback.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops what runs: the call or the fallback.
    async fn run<C: Call<Safety = S, Output = T>>(&self, _: &'static str, call: C) -> Result<T> {
        match call.attempt().await {
            Err(error) if (self.applies)(&error) => {
                FALLBACKS.add(1);
                (self.otherwise)(error).await
            }
            result => result,
        }
    }
}

impl<F> fmt::Debug for Fallback<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fallback")
    }
}
