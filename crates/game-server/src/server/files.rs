//! The embedded files as they are served: compressed once, when somebody first takes it, and each form under
//! a strong validator of its own.

use std::sync::{Arc, OnceLock};

use axum::{
    Router,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use flate2::Compression;
use sha2::{Digest as _, Sha256};

use super::gzip::{LEAST, pack, takes_gzip};
use crate::assets::{Asset, CONTENT_SECURITY_POLICY};

/// Adds routes for embedded files.
pub(super) fn with_files(router: Router, assets: &'static [Asset]) -> Router {
    assets.iter().fold(router, |router, asset| {
        let file = Arc::new(File::new(asset));
        let answer = move |asked: HeaderMap| std::future::ready(file.answer(&asked));
        router.route(asset.path, get(answer))
    })
}

/// A file, and the forms of it that were asked for.
#[derive(Debug)]
struct File {
    asset: &'static Asset,
    plain: OnceLock<Form>,
    packed: OnceLock<Option<Form>>,
}

/// What is sent, and the validator that stands for these bytes and no others.
#[derive(Debug)]
struct Form {
    bytes: Bytes,
    tag: String,
}

impl Form {
    fn of(bytes: Bytes) -> Self {
        let tag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(Sha256::digest(&bytes)));
        Self { bytes, tag }
    }
}

impl File {
    const fn new(asset: &'static Asset) -> Self {
        Self { asset, plain: OnceLock::new(), packed: OnceLock::new() }
    }

    fn answer(&self, asked: &HeaderMap) -> Response {
        let packed = if self.has_forms() && takes_gzip(asked) { self.packed() } else { None };
        let form = packed.unwrap_or_else(|| self.plain());
        // Also where nothing is sent: a cache takes these for the ones of the file it has.
        let kept = [
            (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
            (header::CACHE_CONTROL, "no-cache"),
            (header::ETAG, &form.tag),
        ];
        let mut response = if is_known(asked, &form.tag) {
            (StatusCode::NOT_MODIFIED, kept).into_response()
        } else {
            let kind = [(header::CONTENT_TYPE, self.asset.content_type)];
            let coding = packed.map(|_| [(header::CONTENT_ENCODING, "gzip")]);
            (kept, kind, coding, form.bytes.clone()).into_response()
        };
        if self.has_forms() {
            let by = HeaderValue::from_static("accept-encoding");
            response.headers_mut().insert(header::VARY, by);
        }
        response
    }

    fn has_forms(&self) -> bool {
        LEAST <= self.asset.bytes.len() as u64
    }

    fn plain(&self) -> &Form {
        self.plain.get_or_init(|| Form::of(Bytes::from_static(self.asset.bytes)))
    }

    /// Returns the compressed form: nobody waits for the processor a second time, so it is as small as can be.
    fn packed(&self) -> Option<&Form> {
        let make = || pack(self.asset.bytes, Compression::best()).ok().map(Bytes::from);
        self.packed.get_or_init(|| make().map(Form::of)).as_ref()
    }
}

/// Returns whether the client has this form already (RFC 9110, section 13.1.2).
fn is_known(asked: &HeaderMap, tag: &str) -> bool {
    let lines = asked.get_all(header::IF_NONE_MATCH).iter().filter_map(|line| line.to_str().ok());
    let mut known = lines.flat_map(|line| line.split(',')).map(str::trim);
    known.any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use axum::{
        body::{Body, to_bytes},
        extract::Request,
    };
    use flate2::read::GzDecoder;
    use tower::ServiceExt as _;

    use super::*;
    use crate::assets::{DASHBOARD, GAME};

    type Answer = (StatusCode, HeaderMap, Bytes);

    async fn ask(router: &Router, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::get(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).unwrap();
        let (parts, body) = router.clone().oneshot(request).await.unwrap().into_parts();
        (parts.status, parts.headers, to_bytes(body, usize::MAX).await.unwrap())
    }

    #[tokio::test]
    async fn a_file_is_compressed_once_for_all_who_take_it_and_is_the_same_when_it_is_unpacked() {
        for listener in [GAME, DASHBOARD] {
            let router = with_files(Router::new(), listener);
            for asset in listener {
                let (_, headers, bytes) = ask(&router, asset.path, &[]).await;
                assert_eq!(bytes, asset.bytes, "{}", asset.path);
                assert!(!headers.contains_key(header::CONTENT_ENCODING), "{}", asset.path);
                let is_long = LEAST <= asset.bytes.len() as u64;
                assert_eq!(headers.contains_key(header::VARY), is_long, "{}", asset.path);
                let gzip = [("accept-encoding", "gzip")];
                let (_, headers_of_packed, packed) = ask(&router, asset.path, &gzip).await;
                let (_, _, again) = ask(&router, asset.path, &gzip).await;
                assert_eq!(packed.as_ptr(), again.as_ptr(), "{}: it is kept", asset.path);
                let tags = [&headers, &headers_of_packed].map(|headers| &headers[header::ETAG]);
                assert_eq!(tags[0] != tags[1], is_long, "{}: {tags:?}", asset.path);
                if is_long {
                    assert_eq!(headers_of_packed[header::CONTENT_ENCODING], "gzip");
                    let mut unpacked = Vec::new();
                    GzDecoder::new(packed.as_ref()).read_to_end(&mut unpacked).unwrap();
                    assert_eq!(unpacked, asset.bytes, "{}", asset.path);
                    assert!(packed.len() < unpacked.len(), "{}", asset.path);
                }
            }
        }
    }

    #[tokio::test]
    async fn what_a_client_has_is_not_sent_again_and_another_form_is() {
        let router = with_files(Router::new(), GAME);
        let (_, plain, _) = ask(&router, "/", &[]).await;
        let (_, packed, _) = ask(&router, "/", &[("accept-encoding", "gzip")]).await;
        let tag = |headers: &HeaderMap| headers[header::ETAG].to_str().unwrap().to_owned();
        let (plain, packed) = (tag(&plain), tag(&packed));
        for (known, coding, status) in [
            (plain.clone(), "identity", 304),
            (packed.clone(), "gzip", 304),
            (format!("\"else\", W/{packed}"), "gzip", 304),
            ("*".to_owned(), "gzip", 304),
            (plain, "gzip", 200),
            (packed, "identity", 200),
            ("\"else\"".to_owned(), "gzip", 200),
        ] {
            let asked = [("if-none-match", known.as_str()), ("accept-encoding", coding)];
            let (found, headers, body) = ask(&router, "/", &asked).await;
            assert_eq!(found.as_u16(), status, "{known} {coding}");
            assert_eq!(body.is_empty(), status == 304, "{known} {coding}");
            assert_eq!(headers[header::CONTENT_SECURITY_POLICY], CONTENT_SECURITY_POLICY);
            assert_eq!(headers[header::VARY], "accept-encoding");
        }
    }
}
