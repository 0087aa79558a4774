//! The opening handshake of RFC 6455 section 4.2, on a request that hyper has read.

use std::{fmt, net::SocketAddr, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::{
    admission::Seat,
    app::App,
    close::Close,
    driver::Driver,
    facts::Facts,
    hub::Hub,
    metered::Pulse,
    options::Options,
    telemetry::{REFUSED, Refusal},
};

/// A handshake that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The HTTP status.
    pub status: StatusCode,
    /// Why, in words for the client.
    pub why: String,
    /// The name and value of a header that the answer must carry.
    pub header: Option<(header::HeaderName, HeaderValue)>,
}

impl Refused {
    fn new(status: StatusCode, why: impl Into<String>) -> Self {
        Self { status, why: why.into(), header: None }
    }

    /// Returns the answer for the client, with the reason as its body.
    pub fn into_response(self) -> Response<String> {
        let mut response = Response::new(self.why);
        *response.status_mut() = self.status;
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.status, self.why)
    }
}

impl std::error::Error for Refused {}

/// Accepts a request as a connection of `hub` and returns the 101 response for it.
///
/// The connection begins once the response was written; then `app` hears of it. `peer` is the
/// client's address.
///
/// # Errors
///
/// Why the handshake is refused, with the status to answer: 400 malformed, 403 origin, 405 method,
/// 426 WebSocket version, 429 too many from one address or in all, 503 draining.
pub fn upgrade<B, A: App>(
    hub: &Arc<Hub>,
    app: &Arc<A>,
    request: &mut Request<B>,
    peer: SocketAddr,
) -> Result<Response<()>, Refused> {
    let facts = Facts::of_request(&hub.options, request, peer);
    let (accept, facts) = check(hub, request, facts)?;
    let Some(seat) = hub.admission.admit(facts.address()) else {
        REFUSED.add_for(Refusal::Limit, 1);
        let mut refused = Refused::new(StatusCode::TOO_MANY_REQUESTS, "too many connections");
        refused.header = Some((header::RETRY_AFTER, HeaderValue::from_static("5")));
        return Err(refused);
    };
    Ok(begin(hub, app, request, (accept, facts), seat))
}

/// As [`upgrade`], for a client that holds its seat already.
pub(crate) fn upgrade_seated<B, A: App>(
    hub: &Arc<Hub>,
    app: &Arc<A>,
    request: &mut Request<B>,
    peer: SocketAddr,
    seat: Seat,
) -> Result<Response<()>, Refused> {
    let facts = Facts::of_request(&hub.options, request, peer);
    let accepted = check(hub, request, facts)?;
    Ok(begin(hub, app, request, accepted, seat))
}

/// Spawns the connection, which begins once the response is written.
fn begin<B, A: App>(
    hub: &Arc<Hub>,
    app: &Arc<A>,
    request: &mut Request<B>,
    (accept, facts): Accepted,
    seat: Seat,
) -> Response<()> {
    let protocol = facts.protocol();
    let upgraded = hyper::upgrade::on(request);
    let (hub_of_task, app) = (Arc::clone(hub), Arc::clone(app));
    hub.shutdown.spawn(async move {
        let hub = hub_of_task;
        let Ok(Ok(socket)) = tokio::time::timeout(hub.options.handshake, upgraded).await else {
            return;
        };
        // Declared first, so dropped last: the seat is free once the connection is not listed.
        let seat = seat;
        let (connection, _listed) = hub.begin(facts, &seat);
        if hub.is_draining() {
            connection.close(Close::RESTART);
        }
        let driver = Driver {
            connection,
            app,
            options: Arc::clone(&hub.options),
            pulse: Arc::new(Pulse::new(Arc::clone(&hub.clock))),
            stop: hub.shutdown.stop(),
        };
        // On the heap by itself: what wraps a task's future keeps room for it twice.
        Box::pin(driver.run(TokioIo::new(socket))).await;
    });
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    if let Some(protocol) = protocol {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    }
    response
}

/// What came of an accepted handshake: the accept key, and what is known of the client.
type Accepted = (HeaderValue, Facts);

fn check<B>(hub: &Hub, request: &Request<B>, facts: Facts) -> Result<Accepted, Refused> {
    let refuse = |reason, refused| {
        REFUSED.add_for(reason, 1);
        Err(refused)
    };
    if hub.is_draining() {
        let mut refused = Refused::new(StatusCode::SERVICE_UNAVAILABLE, "draining");
        refused.header = Some((header::RETRY_AFTER, HeaderValue::from_static("1")));
        return refuse(Refusal::Draining, refused);
    }
    let accept = match handshake(request) {
        Ok(accept) => accept,
        Err(refused) => return refuse(Refusal::Malformed, refused),
    };
    let headers = request.headers();
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let has_odd_origin = headers.get_all(header::ORIGIN).iter().count() > 1
        || (headers.contains_key(header::ORIGIN) && text(header::ORIGIN).is_none());
    let origin = if has_odd_origin { Some("") } else { text(header::ORIGIN) };
    let authority = request.uri().authority().map(http::uri::Authority::as_str);
    let host = text(header::HOST).or(authority);
    if let Err(refused) = hub.options.origin.judge(origin, host, facts.address()) {
        let refused = Refused::new(StatusCode::FORBIDDEN, refused.to_string());
        return refuse(Refusal::Origin, refused);
    }
    match subprotocol(headers, &hub.options) {
        Ok(protocol) => Ok((accept, Facts { protocol, ..facts })),
        Err(refused) => refuse(Refusal::Malformed, refused),
    }
}

fn handshake<B>(request: &Request<B>) -> Result<HeaderValue, Refused> {
    let bad = |why: &str| Refused::new(StatusCode::BAD_REQUEST, why);
    if request.method() != Method::GET {
        return Err(Refused::new(StatusCode::METHOD_NOT_ALLOWED, "a handshake is a GET"));
    }
    if request.version() < Version::HTTP_11 {
        return Err(bad("HTTP/1.1 is needed"));
    }
    let headers = request.headers();
    if !has_token(headers, &header::CONNECTION, "upgrade")
        || !has_token(headers, &header::UPGRADE, "websocket")
    {
        let why = "this address speaks WebSocket: `Connection: Upgrade`, `Upgrade: websocket`";
        return Err(Refused {
            header: Some((header::UPGRADE, HeaderValue::from_static("websocket"))),
            ..Refused::new(StatusCode::UPGRADE_REQUIRED, why)
        });
    }
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(Refused {
            header: Some((header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"))),
            ..Refused::new(StatusCode::UPGRADE_REQUIRED, "WebSocket version 13 is needed")
        });
    }
    let mut keys = headers.get_all(header::SEC_WEBSOCKET_KEY).into_iter();
    let is_key =
        |key: &&HeaderValue| STANDARD.decode(key.as_bytes()).is_ok_and(|key| key.len() == 16);
    let (Some(key), None) = (keys.next().filter(is_key), keys.next()) else {
        return Err(bad("Sec-WebSocket-Key is not 16 bytes in base64, given once"));
    };
    let key = key.as_bytes();
    HeaderValue::from_str(&derive_accept_key(key)).map_err(|_| bad("Sec-WebSocket-Key"))
}

fn has_token(headers: &HeaderMap, name: &header::HeaderName, wanted: &str) -> bool {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|token| token.trim().eq_ignore_ascii_case(wanted))
}

/// Picks the first offered subprotocol that is spoken here.
fn subprotocol(headers: &HeaderMap, options: &Options) -> Result<Option<&'static str>, Refused> {
    let spoken = &options.protocols;
    let is_token =
        |offer: &str| options.token_prefix.is_some_and(|prefix| offer.starts_with(prefix));
    let offers = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).into_iter();
    let offers: Vec<&str> = offers
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|offer| !is_token(offer))
        .collect();
    let chosen = offers.iter().find_map(|offer| spoken.iter().find(|name| *name == offer));
    if chosen.is_none() && !offers.is_empty() && !spoken.is_empty() {
        let why = format!("none of the subprotocols is spoken; `{}` is", spoken.join("`, `"));
        return Err(Refused::new(StatusCode::BAD_REQUEST, why));
    }
    Ok(chosen.copied())
}
