//! How a refusal is answered.

use http::{
    HeaderValue, Response, StatusCode,
    header::{CONTENT_TYPE, HeaderName},
};
use infra_core::limit::Decision;

use super::fields::name;

/// Why a request was not served.
#[derive(Debug, Clone)]
pub enum Refusal {
    /// By a limit.
    Limited(Decision),
    /// The limiter failed.
    Unavailable,
}

/// Makes the answer to a refusal; the fields of the limit are added to it.
pub trait Refuse<R> {
    /// Returns the answer.
    fn refuse(&self, refusal: &Refusal) -> Response<R>;
}

/// Answers with 429 or 503 and `application/problem+json` (RFC 9457), with the problem types of the
/// rate-limit draft.
#[derive(Debug, Clone, Copy, Default)]
pub struct Problem;

impl<R: From<String>> Refuse<R> for Problem {
    fn refuse(&self, refusal: &Refusal) -> Response<R> {
        let (status, body) = match refusal {
            Refusal::Limited(decision) => (StatusCode::TOO_MANY_REQUESTS, limited(decision)),
            Refusal::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, unavailable()),
        };
        let mut response = Response::new(R::from(body));
        *response.status_mut() = status;
        let problem = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(CONTENT_TYPE, problem);
        response
    }
}

fn limited(decision: &Decision) -> String {
    let detail = match decision.retry_after() {
        Some(_) => "too many requests for now",
        None => "the request costs more than the limit can ever give",
    };
    format!(
        "{{\"type\":\"https://iana.org/assignments/http-problem-types#quota-exceeded\",\
         \"title\":\"Request cannot be satisfied as assigned quota has been exceeded\",\
         \"status\":429,\"detail\":\"{detail}\",\"violated-policies\":[\"{}\"]}}",
        name(decision.limit)
    )
}

fn unavailable() -> String {
    "{\"type\":\"https://iana.org/assignments/http-problem-types#temporary-reduced-capacity\",\
     \"title\":\"Request cannot be satisfied due to temporary server capacity constraints\",\
     \"status\":503}"
        .to_owned()
}

/// Answers as gRPC does: `RESOURCE_EXHAUSTED` with the pause as `grpc-retry-pushback-ms`, or
/// `UNAVAILABLE`, in trailers that stand in the head.
#[derive(Debug, Clone, Copy, Default)]
pub struct Grpc;

impl<R: Default> Refuse<R> for Grpc {
    fn refuse(&self, refusal: &Refusal) -> Response<R> {
        let mut response = Response::new(R::default());
        let headers = response.headers_mut();
        let (status, message) = match refusal {
            Refusal::Limited(_) => (8, "rate limit exceeded"),
            Refusal::Unavailable => (14, "rate limit unavailable"),
        };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(HeaderName::from_static("grpc-status"), HeaderValue::from(status));
        let message = HeaderValue::from_static(message);
        headers.insert(HeaderName::from_static("grpc-message"), message);
        if let Refusal::Limited(decision) = refusal
            && let Some(pause) = decision.retry_after()
        {
            let millis = u64::try_from(pause.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
            let pushback = HeaderName::from_static("grpc-retry-pushback-ms");
            headers.insert(pushback, HeaderValue::from(millis));
        }
        response
    }
}
