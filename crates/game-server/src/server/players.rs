//! What players read over HTTP: leaderboards, their own history, finished games.

use axum::{
    body::Body,
    extract::{Path, Query, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};

use super::{csv::Csv, http::json, pipeline::problem, public::Public, replays::GameId};
use crate::{
    domain::PlayerId,
    protocol::{
        TokenText,
        admin::{Asked, Leader, Leading, Over},
    },
};

/// How long a leaderboard may be kept by whoever asked.
const BOARD_CACHE: HeaderValue = HeaderValue::from_static("public, max-age=5");

/// A finished game never changes; but what is forgotten shall be gone within the hour.
const GAME_CACHE: HeaderValue = HeaderValue::from_static("public, max-age=3600");

const CSV: HeaderValue = HeaderValue::from_static("text/csv; charset=utf-8");

/// As what an answer is written.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Form {
    #[default]
    Json,
    Csv,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Formed {
    #[serde(rename = "as", default)]
    form: Form,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Board {
    #[serde(default)]
    by: Leading,
    #[serde(default)]
    over: Over,
    #[serde(rename = "as", default)]
    form: Form,
}

/// Tells names and figures; nobody's identity, and nothing of games that go on.
pub(super) async fn leaderboard(
    State(public): State<Public>,
    Query(Board { by, over, form }): Query<Board>,
) -> Response {
    let board = match public.standings.leaderboard(Asked { by, over }).await {
        Ok(board) => board,
        Err(error) => return unavailable("leaderboard not read", &error),
    };
    let answer = match form {
        Form::Json => json(StatusCode::OK, &board),
        Form::Csv => csv(leaders(&board.rows)),
    };
    cached(answer, BOARD_CACHE)
}

fn leaders(rows: &[Leader]) -> Csv {
    let mut table = Csv::of(&[
        "name",
        "played",
        "won",
        "win_rate_millionths",
        "total_score",
        "highest_score",
        "best_streak",
    ]);
    for row in rows {
        table.row(&[
            row.name.clone(),
            row.played.to_string(),
            row.won.to_string(),
            row.win_rate.to_string(),
            row.total_score.to_string(),
            row.highest_score.to_string(),
            row.best_streak.to_string(),
        ]);
    }
    table
}

#[derive(Debug, Serialize)]
struct History<T> {
    games: T,
}

/// Tells a player of its own games, and nobody of another one's: a name proves nothing, a token does.
pub(super) async fn history(
    State(public): State<Public>,
    headers: HeaderMap,
    Query(asked): Query<Formed>,
) -> Response {
    let player = match bearer(&public, &headers).await {
        Ok(player) => player,
        Err(refused) => return *refused,
    };
    let games = match public.standings.history(player).await {
        Ok(games) => games,
        Err(error) => return unavailable("history not read", &error),
    };
    match asked.form {
        Form::Json => json(StatusCode::OK, &History { games }),
        Form::Csv => {
            let mut table = Csv::of(&["game", "ended_ms", "score", "has_won"]);
            for game in games {
                let (ended, score) = (game.ended_ms.to_string(), game.score.to_string());
                table.row(&[game.game, ended, score, game.has_won.to_string()]);
            }
            csv(table)
        }
    }
}

/// Returns the player whose resume token the request carries.
async fn bearer(public: &Public, headers: &HeaderMap) -> Result<PlayerId, Box<Response>> {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = given.and_then(|given| TokenText::new(given.strip_prefix("Bearer ")?));
    let Some(token) = token else { return Err(Box::new(unauthorized("a resume token is needed"))) };
    match public.game.player_of(&token).await {
        Ok(Some(player)) => Ok(player),
        Ok(None) => Err(Box::new(unauthorized("the token is not good, or not any more"))),
        Err(error) => Err(Box::new(unavailable("token not checked", &error))),
    }
}

fn unauthorized(why: &str) -> Response {
    let mut response = problem(StatusCode::UNAUTHORIZED, Some("unauthorized"), why);
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}

/// Tells of a game that is over; of one that goes on not even that it is there.
pub(super) async fn game(
    State(public): State<Public>,
    Path(id): Path<String>,
    Query(asked): Query<Formed>,
) -> Response {
    let missing =
        || problem(StatusCode::NOT_FOUND, Some("no_such_game"), "no game of this id is over");
    let Some(id) = GameId::new(&id) else { return missing() };
    let replay = match public.replays.of(&id).await {
        Ok(Some(replay)) => replay,
        Ok(None) => return missing(),
        Err(error) => return unavailable("game not read", &error),
    };
    let answer = match asked.form {
        Form::Json => json(StatusCode::OK, &replay),
        Form::Csv => {
            let mut table = Csv::of(&["offset", "at_ms", "event", "hands"]);
            let text = |value| serde_json::to_string(value).unwrap_or_default();
            for step in &replay.steps {
                let hands = step.hands.map(|hands| serde_json::to_string(&hands));
                let hands = hands.and_then(Result::ok).unwrap_or_default();
                let (offset, at) = (step.offset.to_string(), step.at_ms.to_string());
                table.row(&[offset, at, text(&step.event), hands]);
            }
            csv(table)
        }
    };
    cached(answer, GAME_CACHE)
}

/// Answers with a table, which is not cached unless that is said besides.
fn csv(table: Csv) -> Response {
    let fields = [
        (header::CONTENT_TYPE, CSV),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment")),
    ];
    (fields, Body::from(table.into_text())).into_response()
}

fn cached(mut response: Response, how: HeaderValue) -> Response {
    if response.status() == StatusCode::OK {
        response.headers_mut().insert(header::CACHE_CONTROL, how);
    }
    response
}

fn unavailable(what: &str, error: &infra_core::Error) -> Response {
    tracing::warn!(error = error as &dyn std::error::Error, "{what}");
    problem(StatusCode::SERVICE_UNAVAILABLE, None, "")
}
