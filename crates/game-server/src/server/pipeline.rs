//! What every request of a listener goes through, the outermost first:
//!
//! 1. its trail: correlation id and trace come in, and the answer names the id;
//! 2. one line in the log: method, path, status, bytes of the body and time; neither query nor headers, which may hold
//!    secrets;
//! 3. the security headers of every answer, whoever made it;
//! 4. one form of errors, `application/problem+json` (RFC 9457);
//! 5. a handler that panics is an answer of 500 that tells nothing, and is counted;
//! 6. the longest body that is taken.
//!
//! What a router does by itself stands inside of all of them: the public one compresses what is
//! everybody's and has the limit of requests, the admin one asks for the operator's token. So a refusal is logged, found by its id and answered as every other error.

use std::{panic::AssertUnwindSafe, sync::Arc};

use axum::{
    Router,
    body::{Body, HttpBody as _, to_bytes},
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::{Next, from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
};
use futures_util::FutureExt as _;
use infra_core::Clock;
use infra_ratelimit::tower::Proxies;

use super::{http::Peer, trail::with_trail};
use crate::{protocol::Problem, telemetry::PANICS};

/// The longest body of a request in bytes.
const MAX_BODY: usize = 4 * 1_024;

/// The longest text of an error in bytes that is kept as its detail.
const MAX_DETAIL: usize = 4 * 1_024;

/// How much of a path is logged, in characters.
const LOGGED: usize = 200;

/// What an answer may load and be embedded in, unless it says so itself: nothing, nowhere.
const NOTHING: &str = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'";

/// For how long browsers are to come by TLS alone, once they came by it.
const A_YEAR: &str = "max-age=31536000";

/// Puts the router of a listener behind the layers; these proxies are believed when they say that a client
/// came by TLS.
pub(super) fn with_pipeline(
    router: Router,
    proxies: Arc<Proxies>,
    clock: Arc<dyn Clock>,
) -> Router {
    let layered = router
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(from_fn(caught))
        .layer(from_fn(told))
        .layer(from_fn_with_state(proxies, secured))
        .layer(from_fn_with_state(Arc::clone(&clock), logged));
    with_trail(layered, clock)
}

async fn logged(State(clock): State<Arc<dyn Clock>>, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let path: String = request.uri().path().chars().take(LOGGED).collect();
    let begun = clock.now();
    let response = next.run(request).await;
    let micros = clock.now().since(begun).as_micros();
    let micros = u64::try_from(micros).unwrap_or(u64::MAX);
    let status = response.status().as_u16();
    // What is streamed has no length yet.
    let bytes = response.body().size_hint().exact();
    // Probes and scrapes come for ever and say nothing.
    if path.starts_with("/health") || path == "/metrics" {
        tracing::debug!(%method, path, status, bytes, micros, "answered");
    } else {
        tracing::info!(%method, path, status, bytes, micros, "answered");
    }
    response
}

async fn secured(State(proxies): State<Arc<Proxies>>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>();
    let is_tls = peer.is_some_and(|Peer(peer)| proxies.is_tls(peer.ip(), request.headers()));
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let own = [
        (header::CONTENT_SECURITY_POLICY, NOTHING),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    for (name, value) in own {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    if is_tls {
        let year = HeaderValue::from_static(A_YEAR);
        headers.insert(header::STRICT_TRANSPORT_SECURITY, year);
    }
    response
}

/// Gives an error that has no form yet the one of all; a short text of it becomes the detail.
async fn told(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    if !is_error || !is_plain(response.headers()) {
        return response;
    }
    let (parts, body) = response.into_parts();
    let text = to_bytes(body, MAX_DETAIL).await.unwrap_or_default();
    let detail = String::from_utf8(text.into()).unwrap_or_default();
    let mut answer = problem(status, None, &detail);
    for (name, value) in &parts.headers {
        if ![header::CONTENT_TYPE, header::CONTENT_LENGTH].contains(name) {
            answer.headers_mut().append(name, value.clone());
        }
    }
    answer
}

fn is_plain(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_none_or(|kind| kind.starts_with("text/plain"))
}

async fn caught(request: Request, next: Next) -> Response {
    let answered = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    answered.unwrap_or_else(|_| {
        PANICS.add(1);
        tracing::error!("a request was given up, since its handler panicked");
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    })
}

/// Answers with an error in the form of all.
pub(super) fn problem(status: StatusCode, code: Option<&str>, detail: &str) -> Response {
    let problem = Problem {
        title: status.canonical_reason().unwrap_or("Error").to_owned(),
        status: status.as_u16(),
        code: code.map(ToOwned::to_owned),
        detail: Some(detail).filter(|detail| !detail.is_empty()).map(ToOwned::to_owned),
    };
    let body = serde_json::to_vec(&problem).map_or_else(|_| Body::empty(), Body::from);
    let headers =
        [(header::CONTENT_TYPE, "application/problem+json"), (header::CACHE_CONTROL, "no-store")];
    (status, headers, body).into_response()
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use infra_core::SystemClock;
    use infra_observability::correlation;
    use tower::ServiceExt as _;

    use super::*;

    async fn answer(request: Request) -> (StatusCode, HeaderMap, String) {
        let router = Router::new()
            .route("/", get(async || "well"))
            .route("/own", get(async || ([(header::CONTENT_SECURITY_POLICY, "own")], "page")))
            .route("/panics", get(async || -> String { panic!("a secret") }))
            .route("/refuses", get(async || (StatusCode::CONFLICT, [("retry-after", "3")], "busy")))
            .route("/long", get(async || (StatusCode::BAD_REQUEST, "x".repeat(MAX_DETAIL + 1))))
            .route("/takes", axum::routing::post(async |body: String| body));
        let proxies = Arc::new(Proxies::new(["10.0.0.0/8"]).unwrap());
        let service = with_pipeline(router, proxies, SystemClock::shared());
        let response = service.oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, 1 << 20).await.unwrap().to_vec();
        (parts.status, parts.headers, String::from_utf8(body).unwrap())
    }

    fn asking(path: &str) -> Request {
        Request::get(path).body(Body::empty()).unwrap()
    }

    #[tokio::test]
    async fn every_answer_has_its_id_and_the_security_headers_and_errors_have_one_form() {
        let long = Request::post("/takes").body(Body::from("x".repeat(MAX_BODY + 1))).unwrap();
        for (request, status, detail) in [
            (asking("/"), 200, None),
            (asking("/nowhere"), 404, None),
            (Request::post("/").body(Body::empty()).unwrap(), 405, None),
            (long, 413, Some("length limit exceeded")),
            (asking("/refuses"), 409, Some("busy")),
            (asking("/long"), 400, None),
            (asking("/panics"), 500, None),
        ] {
            let what = request.uri().clone();
            let (found, headers, body) = answer(request).await;
            assert_eq!(found.as_u16(), status, "{what}");
            assert!(headers.contains_key(correlation::HEADER), "{what}: {headers:?}");
            assert_eq!(headers[header::CONTENT_SECURITY_POLICY], NOTHING, "{what}");
            assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff", "{what}");
            assert_eq!(headers[header::X_FRAME_OPTIONS], "DENY", "{what}");
            assert_eq!(headers[header::REFERRER_POLICY], "no-referrer", "{what}");
            assert!(!body.contains("secret"), "{what}: {body}");
            if found.is_success() {
                continue;
            }
            assert_eq!(headers[header::CONTENT_TYPE], "application/problem+json", "{what}");
            let problem: Problem = serde_json::from_str(&body).unwrap();
            assert_eq!(problem.status, status, "{what}");
            let said = problem.detail.unwrap_or_default();
            assert!(said.contains(detail.unwrap_or_default()), "{what}: {said}");
            assert!(detail.is_some() || said.is_empty(), "{what}: {said}");
        }
        let (_, headers, _) = answer(asking("/refuses")).await;
        assert_eq!(headers["retry-after"], "3", "what it said besides is kept");
    }

    #[tokio::test]
    async fn a_page_has_its_own_policy() {
        let (_, headers, _) = answer(asking("/own")).await;
        assert_eq!(headers[header::CONTENT_SECURITY_POLICY], "own");
    }

    #[tokio::test]
    async fn tls_is_kept_once_it_was_used_as_a_trusted_proxy_says_and_nobody_else() {
        for (peer, proto, expected) in [
            ("10.0.0.1:80", "https", Some(A_YEAR)),
            ("10.0.0.1:80", "http", None),
            ("11.0.0.1:80", "https", None),
        ] {
            let mut request = asking("/");
            request.extensions_mut().insert(Peer(peer.parse().unwrap()));
            let proto = HeaderValue::from_static(proto);
            request.headers_mut().insert("x-forwarded-proto", proto.clone());
            let (_, headers, _) = answer(request).await;
            let told = headers.get(header::STRICT_TRANSPORT_SECURITY);
            assert_eq!(told.map(HeaderValue::as_bytes), expected.map(str::as_bytes), "{proto:?}");
        }
    }
}
