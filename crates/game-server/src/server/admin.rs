//! The admin listener: the dashboard, metrics, health in detail.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Path, Query, Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{
        IntoResponse, Redirect, Response,
        sse::{self, KeepAlive, Sse},
    },
    routing::get,
};
use futures_util::{Stream, StreamExt};
use infra_core::{
    event::{EventStore, Filter, SubscriptionItem},
    lifecycle::Stop,
};
use infra_observability::exporter::Format;
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;

use super::{
    http::{json, with_assets},
    overview::Observatory,
    standings::Standings,
};
use crate::{
    assets,
    protocol::{
        RoomCode,
        admin::{Asked, LISTED, Live, Problem, Room, Rooms},
        diagram,
    },
    rooms::{Look, Mail, Registry, STREAM_PREFIX, live_event, room_of},
};

#[derive(Debug, Clone)]
pub(super) struct Admin {
    pub(super) observatory: Arc<Observatory>,
    pub(super) registry: Arc<Registry>,
    pub(super) standings: Standings,
    pub(super) events: Arc<dyn EventStore>,
    pub(super) token: Option<Arc<str>>,
    pub(super) stop: Stop,
}

pub(super) fn router(admin: Admin) -> Router {
    let guard = middleware::from_fn_with_state(admin.clone(), authorize);
    let guarded = Router::new()
        .route("/metrics", get(metrics))
        .route("/health", get(health))
        .route("/api/overview", get(overview))
        .route("/api/rooms", get(rooms))
        .route("/api/rooms/{code}", get(room))
        .route("/api/leaderboard", get(leaderboard))
        .route("/api/events", get(events))
        .layer(guard)
        .with_state(admin);
    let pages = Router::new().route("/", get(async || Redirect::to("/dashboard")));
    with_assets(pages, assets::DASHBOARD).merge(guarded)
}

fn problem(status: StatusCode, code: &str, message: &str) -> Response {
    json(status, &Problem { code: code.to_owned(), message: message.to_owned() })
}

/// Lets through who carries the token, if one is asked for.
async fn authorize(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    let Some(token) = &admin.token else { return next.run(request).await };
    let given = request.headers().get(header::AUTHORIZATION);
    let given = given.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    // Digests are compared, so that the time taken says nothing about the token.
    let is_right =
        given.is_some_and(|given| Sha256::digest(given) == Sha256::digest(token.as_ref()));
    if is_right {
        return next.run(request).await;
    }
    let text = "the admin token is needed: `Authorization: Bearer TOKEN`";
    problem(StatusCode::UNAUTHORIZED, "unauthorized", text)
}

async fn metrics(State(admin): State<Admin>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let format = Format::negotiate(accept.unwrap_or_default());
    let kind = [(header::CONTENT_TYPE, format.content_type())];
    (kind, admin.observatory.exporter.render_as(format)).into_response()
}

async fn health(State(admin): State<Admin>) -> Response {
    let is_ready = admin.observatory.monitor.readiness().is_ready();
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json(status, &admin.observatory.monitor.report())
}

async fn overview(State(admin): State<Admin>) -> Response {
    json(StatusCode::OK, &admin.observatory.overview())
}

async fn rooms(State(admin): State<Admin>) -> Response {
    let now = admin.observatory.clock.now();
    let mut rooms: Vec<_> =
        admin.registry.summaries().iter().map(|summary| summary.row(now)).collect();
    let total = u32::try_from(rooms.len()).unwrap_or(u32::MAX);
    rooms.sort_by_key(|room| room.idle_ms);
    rooms.truncate(LISTED);
    json(StatusCode::OK, &Rooms { rooms, total })
}

async fn room(State(admin): State<Admin>, Path(code): Path<String>) -> Response {
    let Some(room) = RoomCode::new(&code) else {
        return problem(StatusCode::BAD_REQUEST, "bad_room_code", "a room code is six characters");
    };
    let (reply, answer) = oneshot::channel();
    let missing = || problem(StatusCode::NOT_FOUND, "no_such_room", "there is no such room");
    match admin.registry.send(room, Mail::Look(reply)).await {
        Ok(()) => {}
        Err(error) if error.kind() == &infra_core::ErrorKind::NotFound => return missing(),
        Err(_) => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
    let Ok(Look { epoch, state, recent }) = answer.await else { return missing() };
    let diagram = diagram(&state);
    json(StatusCode::OK, &Room { room, epoch, state, diagram, recent })
}

async fn leaderboard(State(admin): State<Admin>, Query(asked): Query<Asked>) -> Response {
    match admin.standings.leaderboard(asked.by).await {
        Ok(leaderboard) => json(StatusCode::OK, &leaderboard),
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "leaderboard not read");
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        }
    }
}

/// Streams what happens from now on, as a spectator sees it, from the committed log.
async fn events(State(admin): State<Admin>) -> Response {
    let filter = Filter { stream_prefix: Some(STREAM_PREFIX.to_owned()), ..Filter::default() };
    let subscription = match admin.events.stable_head().await {
        Ok(head) => admin.events.subscribe(head, filter).await,
        Err(error) => Err(error),
    };
    let Ok(subscription) = subscription else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let stop = admin.stop.clone();
    let live = subscription
        .filter_map(|item| std::future::ready(item.ok().and_then(|item| event(&item))))
        .take_until(async move { stop.requested().await });
    sse_response(live)
}

fn event(item: &SubscriptionItem) -> Option<Result<sse::Event, Infallible>> {
    let SubscriptionItem::Event(recorded) = item else { return None };
    let live = Live::Room(live_event(room_of(&recorded.stream)?, recorded).ok()?);
    let data = serde_json::to_string(&live).ok()?;
    Some(Ok(sse::Event::default().event(live.name()).data(data)))
}

fn sse_response(
    live: impl Stream<Item = Result<sse::Event, Infallible>> + Send + 'static,
) -> Response {
    let alive = KeepAlive::new().interval(Duration::from_secs(15));
    Sse::new(live).keep_alive(alive).into_response()
}
