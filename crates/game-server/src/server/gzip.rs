//! Compression of what is everybody's and made anew for each request.

use std::io::Write as _;

use axum::{
    body::{Body, HttpBody as _, to_bytes},
    extract::Request,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use flate2::{Compression, write::GzEncoder};

/// Below this many bytes nothing is gained.
pub(super) const LEAST: u64 = 1_024;

/// Nothing longer is compressed: it would keep the processor from games.
const MOST: u64 = 4 * 1_024 * 1_024;

/// Compresses an answer that may be cached, if the client takes gzip. One with a `Vary` has chosen its form
/// already.
///
/// What is marked `no-store` is one client's alone and may hold a secret beside a text of somebody
/// else: its length would tell of it (BREACH, 2013), so it is never compressed.
pub(super) async fn compressed(request: Request, next: Next) -> Response {
    let is_taken = takes_gzip(request.headers());
    let response = next.run(request).await;
    if !is_for_all(&response) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    parts.headers.append(header::VARY, HeaderValue::from_static("accept-encoding"));
    if !is_taken {
        return Response::from_parts(parts, body);
    }
    let packed = to_bytes(body, usize::MAX)
        .await
        .ok()
        .and_then(|whole| pack(&whole, Compression::fast()).ok());
    let Some(packed) = packed else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    Response::from_parts(parts, Body::from(packed))
}

fn is_for_all(response: &Response) -> bool {
    let headers = response.headers();
    let cache = headers.get(header::CACHE_CONTROL).and_then(|value| value.to_str().ok());
    let is_shared = cache.is_some_and(|cache| !cache.contains("no-store"));
    let length = response.body().size_hint().exact();
    let fits = length.is_some_and(|length| (LEAST..=MOST).contains(&length));
    response.status() == StatusCode::OK && is_shared && fits && !headers.contains_key(header::VARY)
}

/// Returns whether `Accept-Encoding` names gzip, or everything, with a weight above zero (RFC 9110).
pub(super) fn takes_gzip(headers: &HeaderMap) -> bool {
    let all = headers.get_all(header::ACCEPT_ENCODING).iter();
    let codings: Vec<&str> =
        all.filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(',')).collect();
    let weight = |wanted: &str| {
        codings.iter().find_map(|coding| {
            let (name, rest) = coding.split_once(';').unwrap_or((coding, "q=1"));
            let is_wanted = name.trim().eq_ignore_ascii_case(wanted);
            is_wanted.then(|| rest.trim().strip_prefix("q=")?.trim().parse::<f32>().ok())?
        })
    };
    weight("gzip").or_else(|| weight("*")).is_some_and(|weight| 0.0 < weight)
}

pub(super) fn pack(whole: &[u8], level: Compression) -> std::io::Result<Vec<u8>> {
    let mut packed = GzEncoder::new(Vec::new(), level);
    packed.write_all(whole)?;
    packed.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_taken_as_the_client_says() {
        for (said, expected) in [
            ("gzip", true),
            ("br, GZIP;q=0.2", true),
            ("*", true),
            ("gzip;q=0, *", false),
            ("br", false),
            ("gzip;q=x", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(said));
            assert_eq!(takes_gzip(&headers), expected, "{said}");
        }
    }
}
