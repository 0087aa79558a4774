//! The public listener: the game's page, its WebSocket, what players read, and whether the server lives.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{StatusCode, request::Parts},
    middleware::from_fn,
    response::{IntoResponse, Response},
    routing::get,
};
use infra_observability::health::{Monitor, Readiness};
use infra_ws::{Hub, upgrade};
use serde::Serialize;

use super::{
    files::with_files,
    gzip,
    http::{Peer, json},
    players,
    replays::Replays,
    standings::Standings,
};
use crate::{assets, limits::Limits, session::Game};

#[derive(Debug, Clone)]
pub(super) struct Public {
    pub(super) hub: Arc<Hub>,
    pub(super) game: Arc<Game>,
    pub(super) monitor: Arc<Monitor>,
    pub(super) standings: Standings,
    pub(super) replays: Replays,
}

#[derive(Debug, Serialize)]
struct Answer<'a> {
    status: &'a str,
}

/// Every answer but those about health names the limit of requests; what is everybody's is compressed.
pub(super) fn router(public: Public, limits: &Limits) -> Router {
    let dynamic = Router::new()
        .route("/ws", axum::routing::any(socket))
        .route("/api/leaderboard", get(players::leaderboard))
        .route("/api/history", get(players::history))
        .route("/api/games/{id}", get(players::game))
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .route("/health/startup", get(startup))
        .with_state(public);
    let peer = |parts: &Parts| parts.extensions.get::<Peer>().map(|Peer(peer)| peer.ip());
    let limited = with_files(dynamic, assets::GAME).layer(limits.layer(peer));
    limited.layer(from_fn(gzip::compressed))
}

async fn socket(State(public): State<Public>, mut request: Request) -> Response {
    let Some(Peer(peer)) = request.extensions().get::<Peer>().copied() else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    match upgrade(&public.hub, &public.game, &mut request, peer) {
        Ok(response) => response.map(|()| Body::empty()),
        Err(refused) => {
            let mut response = (refused.status, refused.why).into_response();
            if let Some((name, value)) = refused.header {
                response.headers_mut().insert(name, value);
            }
            response
        }
    }
}

/// Says whether the server can go on; if not it must be started anew.
async fn live(State(public): State<Public>) -> Response {
    match public.monitor.failure() {
        None => json(StatusCode::OK, &Answer { status: "live" }),
        Some(_) => json(StatusCode::SERVICE_UNAVAILABLE, &Answer { status: "failed" }),
    }
}

/// Says whether the server was ready once.
async fn startup(State(public): State<Public>) -> Response {
    if public.monitor.has_started() {
        json(StatusCode::OK, &Answer { status: "started" })
    } else {
        json(StatusCode::SERVICE_UNAVAILABLE, &Answer { status: "starting" })
    }
}

/// Says whether the server takes players; why it does not is for the admin listener.
async fn ready(State(public): State<Public>) -> Response {
    match public.monitor.readiness() {
        Readiness::Ready => json(StatusCode::OK, &Answer { status: "ready" }),
        Readiness::Unready(_) => {
            json(StatusCode::SERVICE_UNAVAILABLE, &Answer { status: "not ready" })
        }
    }
}
