//! The admin listener: the dashboard, metrics, health in detail.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, Query, Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use infra_core::lifecycle::Stop;
use infra_observability::{diagram::Picture, exporter::Format};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;

use super::{
    files::with_files, forgetting::Forgetting, http::json, live, overview::Observatory, pipeline,
    sightings::Sighting, standings::Standings,
};
use crate::{
    assets,
    domain::{Name, PlayerId},
    observe::{Change, Shown},
    protocol::{
        RoomCode,
        admin::{Asked, LISTED, Room, Rooms},
        diagram,
    },
    rooms::{Look, Mail, Registry},
};

#[derive(Debug, Clone)]
pub(super) struct Admin {
    pub(super) observatory: Arc<Observatory>,
    pub(super) registry: Arc<Registry>,
    pub(super) standings: Standings,
    pub(super) forgetting: Forgetting,
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
        .route("/api/rooms/{code}/at/{offset}", get(moment))
        .route("/api/leaderboard", get(leaderboard))
        .route("/api/events", get(live::events))
        .route("/api/observed", get(observed))
        .route("/api/diagram", get(drawn))
        .route("/api/flights/{code}", get(flight))
        .route("/api/log", get(log_levels).post(change_levels))
        .route("/api/forget", get(find).post(forget))
        .layer(guard)
        .with_state(admin);
    let pages = Router::new().route("/", get(async || Redirect::to("/dashboard")));
    with_files(pages, assets::DASHBOARD).merge(guarded)
}

fn problem(status: StatusCode, code: &str, message: &str) -> Response {
    pipeline::problem(status, Some(code), message)
}

fn bad_room_code() -> Response {
    problem(StatusCode::BAD_REQUEST, "bad_room_code", "a room code is six characters")
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
    let Some(room) = RoomCode::new(&code) else { return bad_room_code() };
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

/// Shows a room as it was after one of its events, to operators as a spectator saw it.
async fn moment(
    State(admin): State<Admin>,
    Path((code, offset)): Path<(String, String)>,
) -> Response {
    let Some(room) = RoomCode::new(&code) else {
        return problem(StatusCode::BAD_REQUEST, "bad_room_code", "a room code is six characters");
    };
    let Ok(offset) = offset.parse() else {
        return problem(StatusCode::BAD_REQUEST, "bad_offset", "an offset is a whole number");
    };
    match admin.registry.at(room, offset).await {
        Ok(Some(moment)) => json(StatusCode::OK, &moment),
        Ok(None) => problem(StatusCode::NOT_FOUND, "no_such_event", "there is no such event"),
        Err(error) => {
            tracing::warn!(%room, error = &error as &dyn std::error::Error, "moment not read");
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        }
    }
}

async fn leaderboard(State(admin): State<Admin>, Query(asked): Query<Asked>) -> Response {
    admin.standings.answer(asked).await
}

async fn observed(State(admin): State<Admin>) -> Response {
    json(StatusCode::OK, &admin.observatory.observed().await)
}

/// The picture of all rooms, for other programs to draw.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Drawn {
    #[serde(rename = "as", default)]
    format: DrawnAs,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum DrawnAs {
    #[default]
    Mermaid,
    Dot,
}

async fn drawn(State(admin): State<Admin>, Query(asked): Query<Drawn>) -> Response {
    let picture = match asked.format {
        DrawnAs::Mermaid => Picture::Mermaid,
        DrawnAs::Dot => Picture::Dot,
    };
    picture.draw(&admin.observatory.telemetry.diagram().view()).into_response()
}

async fn flight(State(admin): State<Admin>, Path(code): Path<String>) -> Response {
    match RoomCode::new(&code) {
        Some(room) => {
            json(StatusCode::OK, &admin.observatory.telemetry.flights().tape(&room.to_string()))
        }
        None => bad_room_code(),
    }
}

/// Who is to be forgotten.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Whom {
    player: PlayerId,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Called {
    name: Name,
}

/// Tells which players are or were called so, for whoever is to forget one.
async fn find(State(admin): State<Admin>, Query(called): Query<Called>) -> Response {
    match admin.forgetting.find(&called.name).await {
        Ok(players) => json(StatusCode::OK, &Found { players }),
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "players not found");
            problem(StatusCode::SERVICE_UNAVAILABLE, "storage_unavailable", "ask again")
        }
    }
}

#[derive(Debug, Serialize)]
struct Found {
    players: Vec<Sighting>,
}

/// Forgets a player. JSON alone is taken, as by [`change_levels`].
async fn forget(State(admin): State<Admin>, Json(whom): Json<Whom>) -> Response {
    let player = whom.player;
    match admin.forgetting.forget(player).await {
        Ok(forgotten) => json(StatusCode::OK, &forgotten),
        Err(error) => {
            tracing::warn!(%player, error = &error as &dyn std::error::Error, "not forgotten yet");
            problem(StatusCode::SERVICE_UNAVAILABLE, "storage_unavailable", "ask again")
        }
    }
}

fn no_log() -> Response {
    problem(StatusCode::NOT_FOUND, "no_log", "this process has no log of its own")
}

async fn log_levels(State(admin): State<Admin>) -> Response {
    match &admin.observatory.levels {
        Some(levels) => json(StatusCode::OK, &Shown::of(levels, &*admin.observatory.clock)),
        None => no_log(),
    }
}

/// Changes what is logged. JSON alone is taken, so no page of another origin can ask for it.
async fn change_levels(State(admin): State<Admin>, Json(change): Json<Change>) -> Response {
    let Some(levels) = &admin.observatory.levels else { return no_log() };
    match change.apply(levels) {
        Ok(()) => json(StatusCode::OK, &Shown::of(levels, &*admin.observatory.clock)),
        Err(error) => problem(StatusCode::BAD_REQUEST, "bad_level", &error.to_string()),
    }
}
