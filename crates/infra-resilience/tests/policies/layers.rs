use std::{
    convert::Infallible,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
};

use axum::{Router, body::Body, error_handling::HandleErrorLayer, http::Request, routing::get};
use infra_core::{Error, ErrorKind, backoff::Backoff};
use infra_resilience::{
    Breaker, Mode, Pipeline, Reason, Refused, Retry, State, breaker, layer::Guard,
};
use tower::{Layer as _, Service as _, ServiceBuilder, ServiceExt as _, service_fn};

use crate::{MILLI, clock, reason};

fn breaker() -> Breaker {
    let options = breaker::Options::default().consecutive(NonZeroU32::new(2).unwrap());
    Breaker::new(options, clock())
}

#[tokio::test(start_paused = true)]
async fn services_of_one_layer_share_the_state_of_its_policy() {
    let layer = Guard::at_most_once("ask", breaker());
    let down = service_fn(|(): ()| async { Err::<(), _>(std::io::Error::other("gone")) });
    for _ in 0..2 {
        // A router makes the layer anew for each route, or for each request.
        let error = layer.layer(down).oneshot(()).await.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Unavailable);
    }
    let mut service = layer.layer(down);
    assert!(service.ready().await.is_ok(), "a refusal comes from the call");
    assert_eq!(reason(service.call(()).await), Some(Reason::BreakerOpen));
    assert!(format!("{service:?}").starts_with("Guarded { guard: Guard { policy: Breaker"));
}

#[tokio::test(start_paused = true)]
async fn a_response_can_count_as_a_failure_and_comes_back_as_itself() {
    let (clock, breaker) = (clock(), breaker());
    let retry = Retry::new(2, Backoff::fixed(MILLI), Arc::clone(&clock));
    let pipeline = Pipeline::new().then(retry).then(breaker.clone());
    let sent = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&sent);
    let service = service_fn(move |status: u16| {
        count.fetch_add(1, SeqCst);
        async move { Ok::<u16, Error>(status) }
    });
    let judge = |status: &u16| (*status == 503).then_some(ErrorKind::Unavailable);
    let layer = Guard::idempotent("ask", pipeline).judge(judge);
    let service = layer.layer(service);
    assert_eq!(service.clone().oneshot(200).await.unwrap(), 200);
    assert_eq!(service.clone().oneshot(503).await.unwrap(), 503, "the last response");
    assert_eq!((sent.load(SeqCst), breaker.state()), (3, State::Open));
    // Now the last error is a refusal, which no response stands for.
    breaker.force(Mode::ForcedOpen);
    let refused = service.oneshot(503).await.unwrap_err();
    assert_eq!(Refused::of(&refused).map(Refused::reason), Some(Reason::BreakerForced));
}

#[tokio::test]
async fn behind_axum_the_breaker_opens() {
    let breaker = breaker();
    let guard = Guard::at_most_once("route", breaker.clone()).judge(
        |response: &axum::response::Response| {
            response.status().is_server_error().then_some(ErrorKind::Unavailable)
        },
    );
    let refusal = |error: Error| async move {
        (axum::http::StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    };
    let layers = ServiceBuilder::new().layer(HandleErrorLayer::new(refusal)).layer(guard);
    let broken = get(|| async { axum::http::StatusCode::INTERNAL_SERVER_ERROR });
    let router: Router =
        Router::new().route("/a", broken.clone()).route("/b", broken).layer(layers);
    let ask = async |path: &str| -> Result<u16, Infallible> {
        let request = Request::get(path).body(Body::empty()).unwrap();
        Ok(router.clone().oneshot(request).await?.status().as_u16())
    };
    assert_eq!(ask("/a").await, Ok(500));
    assert_eq!(ask("/b").await, Ok(500), "the routes share it");
    assert_eq!(breaker.state(), State::Open);
    assert_eq!(ask("/a").await, Ok(503));
}
