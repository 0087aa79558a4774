//! An extractor for axum (feature `axum`).

use std::{convert::Infallible, fmt, net::SocketAddr, sync::Arc};

use axum::{
    body::Body,
    extract::{ConnectInfo, FromRequestParts},
    response::{IntoResponse, Response},
};
use http::{Request, request::Parts};

use crate::{app::App, hub::Hub, upgrade::upgrade};

/// A request that may become a WebSocket.
///
/// The client's address is that of axum's `ConnectInfo<SocketAddr>`, so serve the router by
/// `into_make_service_with_connect_info::<SocketAddr>()`; a request without one is answered with 500,
/// for nothing could be limited by address then.
///
/// ```
/// use std::{net::SocketAddr, sync::Arc};
/// use axum::{Router, extract::State, response::Response, routing::any};
/// use infra_ws::{App, Hub, extract::Upgrade};
///
/// async fn socket<A: App>(
///     State((hub, app)): State<(Arc<Hub>, Arc<A>)>, upgrade: Upgrade,
/// ) -> Response {
///     upgrade.serve(&hub, &app)
/// }
///
/// fn router<A: App>(hub: Arc<Hub>, app: Arc<A>) -> Router {
///     Router::new().route("/ws", any(socket::<A>)).with_state((hub, app))
/// }
/// ```
pub struct Upgrade {
    request: Request<()>,
    peer: Option<SocketAddr>,
}

impl fmt::Debug for Upgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The headers hold the client's token.
        f.debug_struct("Upgrade").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl Upgrade {
    /// Accepts the request as a connection of `hub`, or answers why not; see
    /// [`upgrade`](crate::upgrade).
    pub fn serve<A: App>(mut self, hub: &Arc<Hub>, app: &Arc<A>) -> Response {
        let Some(peer) = self.peer else {
            tracing::error!("the router is served without ConnectInfo<SocketAddr>");
            return http::StatusCode::INTERNAL_SERVER_ERROR.into_response();
        };
        match upgrade(hub, app, &mut self.request, peer) {
            Ok(response) => response.map(|()| Body::empty()),
            Err(refused) => refused.into_response().map(Body::from),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Upgrade {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
        Ok(Self { request: Request::from_parts(parts.clone(), ()), peer })
    }
}
