//! A layer by client address before a service that answers at once.

use std::{
    convert::Infallible,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use axum::body::Body;
use http::{Request, Response, request::Parts};
use infra_core::{SystemClock, limit::Charge};
use infra_ratelimit::{Limiter, address_key, tower::RateLimitLayer};
use measure::run;
use tower::{Layer, Service, ServiceExt as _, service_fn};
use tower_governor::{
    GovernorError, GovernorLayer, governor::GovernorConfigBuilder, key_extractor::KeyExtractor,
};

use crate::{CAPACITY, DECISIONS, KEYS, REFILL, quota};

fn echo() -> impl Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
+ Clone
+ Send {
    service_fn(|_| async { Ok::<_, Infallible>(Response::new(Body::empty())) })
}

/// A request as a server hands it on: it knows who asks.
fn request(number: u64) -> Request<Body> {
    let address = IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + (number * 7_919 % KEYS) as u32));
    let mut request = Request::new(Body::empty());
    request.extensions_mut().insert(address);
    request
}

fn served(
    mut service: impl Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
) -> f64 {
    run(async {
        let start = std::time::Instant::now();
        for number in 0..DECISIONS {
            let response = service.ready().await.unwrap().call(request(number)).await.unwrap();
            assert!(response.status().is_success());
        }
        start.elapsed().as_nanos() as f64 / DECISIONS as f64
    })
}

pub(crate) fn ours() -> f64 {
    let limiter = Arc::new(Limiter::new(SystemClock::shared()).limit("address", quota()));
    let by_address = |parts: &Parts| {
        let address = parts.extensions.get::<IpAddr>().copied().unwrap();
        vec![Charge::one("address", address_key(address))]
    };
    served(RateLimitLayer::new(limiter, by_address).layer(echo()))
}

#[derive(Debug, Clone)]
struct ByAddress;

impl KeyExtractor for ByAddress {
    type Key = IpAddr;

    fn extract<T>(&self, request: &Request<T>) -> Result<IpAddr, GovernorError> {
        request.extensions().get::<IpAddr>().copied().ok_or(GovernorError::UnableToExtractKey)
    }
}

pub(crate) fn governor() -> f64 {
    let mut builder = GovernorConfigBuilder::default();
    builder.period(REFILL).burst_size(CAPACITY);
    let config = builder.key_extractor(ByAddress).use_headers().finish().unwrap();
    served(GovernorLayer::new(config).layer(echo()))
}
