//! The trail of a request: its correlation id and trace come in by its headers, and its answer names the id.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    http::HeaderValue,
    middleware::{self, Next},
    response::Response,
};
use infra_core::{Clock, random::Random};
use infra_observability::correlation::{self, Correlator};

/// Everything that a request of this router causes is found by the id that its answer carries: the one
/// that it came with, if that is one, or a new one.
pub(super) fn with_trail(router: Router, clock: Arc<dyn Clock>) -> Router {
    let correlator = Correlator::new(clock, Arc::new(Random::from_system()));
    router.layer(middleware::from_fn_with_state(correlator, follow))
}

async fn follow(State(correlator): State<Correlator>, request: Request, next: Next) -> Response {
    let context = correlator.begin(request.headers());
    let id = context.correlation_id();
    let mut response = context.scope(next.run(request)).await;
    let id = id.and_then(|id| HeaderValue::try_from(id.to_string()).ok());
    if let Some(id) = id {
        response.headers_mut().insert(correlation::HEADER, id);
    }
    response
}
