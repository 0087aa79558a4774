//! Correlation: one id, a UUID, that follows a request through everything it causes.

use std::sync::Arc;

use infra_core::{Clock, context::Context, id::CorrelationId, random::Random};

use crate::trace::{Carrier, inject};

/// The header that carries the id.
pub const HEADER: &str = "x-correlation-id";

/// Returns the id that a header holds, if it is one: 36 characters, a UUID with hyphens.
///
/// What a client sends is validated, never echoed: anything else is as if it were not there.
///
/// ```
/// use infra_observability::correlation::accept;
///
/// assert!(accept("0197f2a0-7c1e-7000-8000-000000000001").is_some());
/// assert!(accept("corr_4bf92f3577b34da6").is_none());
/// assert!(accept("0197f2a0\r\nset-cookie: x").is_none());
/// ```
pub fn accept(header: &str) -> Option<CorrelationId> {
    let is_char = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-';
    let is_whole = header.len() == 36 && header.bytes().all(is_char);
    is_whole.then(|| header.parse().ok()).flatten()
}

/// Makes correlation ids and scopes them around work. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Correlator {
    clock: Arc<dyn Clock>,
    random: Arc<Random>,
}

impl Correlator {
    /// Creates a source of ids.
    pub const fn new(clock: Arc<dyn Clock>, random: Arc<Random>) -> Self {
        Self { clock, random }
    }

    /// Returns a new id.
    pub fn generate(&self) -> CorrelationId {
        CorrelationId::generate(self.clock.wall(), &self.random)
    }

    /// Returns the context of what came in with these headers; the correlation id is that of the
    /// headers, if it is valid, else a new one.
    pub fn begin(&self, headers: &impl Carrier) -> Context {
        crate::trace::extract_or_begin(headers, || self.generate())
    }

    /// Runs `future` with a correlation id: the current one, else a new one.
    ///
    /// Whatever happens to the future, the id that was current before is current again.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops `future`, nothing else.
    pub async fn scope<F: Future>(&self, future: F) -> F::Output {
        let current = Context::current();
        let id = current.correlation_id().unwrap_or_else(|| self.generate());
        current.correlation(id).scope(future).await
    }
}

/// Writes the current context into the headers of something that goes out.
pub fn send_along(headers: &mut impl Carrier) {
    inject(&Context::current(), headers);
}
