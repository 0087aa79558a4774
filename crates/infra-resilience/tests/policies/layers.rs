use std::{
    convert::Infallible,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
};

use axum::{Router, body::Body, error_handling::HandleErrorLayer, http::Request, routing::get};
use infra_core::{Error, ErrorKind, backoff::Backoff, budget::Priority, context::Context};
use infra_resilience::{
    Breaker, Hedge, Mode, Pipeline, Reason, Refused, Retry, State, breaker,
    layer::{BudgetIn, BudgetOut, Guard},
    wire::{HEADER, UNSPENT},
};
use parking_lot::Mutex;
use tower::{Layer as _, Service as _, ServiceBuilder, ServiceExt as _, service_fn};

use crate::{MILLI, SECOND, clock, reason};

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
    let refusal =
        |error: Error| async move { (http::StatusCode::SERVICE_UNAVAILABLE, error.to_string()) };
    let layers = ServiceBuilder::new().layer(HandleErrorLayer::new(refusal)).layer(guard);
    let broken = get(|| async { http::StatusCode::INTERNAL_SERVER_ERROR });
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

/// Three services one behind the other, each of which spends one extra attempt.
#[tokio::test(start_paused = true)]
async fn a_budget_goes_through_servers_by_its_header_and_what_is_not_spent_comes_back() {
    let clock = clock();
    let budget_in = BudgetIn::new(Arc::clone(&clock)).at_most(5, Priority::High);
    let budget_out = BudgetOut::new(MILLI * 10, Arc::clone(&clock));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let look = {
        let (seen, clock) = (Arc::clone(&seen), Arc::clone(&clock));
        move || {
            let context = Context::current();
            let (budget, left) = (context.budget_of().unwrap(), context.deadline_of().unwrap());
            seen.lock().push((budget.left(), budget.priority_of(), left.left(clock.now())));
            assert!(budget.take());
        }
    };
    let looking = look.clone();
    let innermost = get(move || {
        looking();
        std::future::ready("here")
    });
    let innermost: Router = Router::new().route("/", innermost).layer(budget_in.clone());
    let middle = get(move || {
        look();
        let next = budget_out.layer(innermost.clone());
        async move { next.oneshot(Request::get("/").body(Body::empty()).unwrap()).await }
    });
    let middle: Router = Router::new().route("/", middle).layer(budget_in);
    let ask = async |header: &str| {
        let request = Request::get("/").header(HEADER, header).body(Body::empty()).unwrap();
        let answer = middle.clone().oneshot(request).await.unwrap();
        let unspent = answer.headers().get(UNSPENT).map(|text| text.to_str().unwrap().to_owned());
        (answer.status().as_u16(), unspent)
    };
    // Nine are asked for, five granted; one is spent here, one of two that are lent on over there.
    let answered = ask("deadline=1000, extra=9, priority=critical").await;
    assert_eq!(answered, (200, Some("7".to_owned())));
    assert_eq!(*seen.lock(), [(5, Priority::High, SECOND), (2, Priority::High, MILLI * 990)]);
    assert_eq!(ask("deadline=soon").await, (400, None));
    let twice = Request::get("/").header(HEADER, "deadline=9").header(HEADER, "extra=7");
    let answer = middle.clone().oneshot(twice.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!((answer.status().as_u16(), seen.lock()[2].0), (200, 5), "lines are one list");
}

/// Whatever attempt's error comes back, its own response does.
#[tokio::test(start_paused = true)]
async fn the_response_that_comes_back_is_that_of_the_attempt_that_may_have_done_most() {
    let clock = clock();
    let hedge = Hedge::new(0.5, MILLI..=MILLI, clock);
    let sent = Arc::new(AtomicU32::new(0));
    let service = service_fn(move |(): ()| {
        let status = [504_u16, 503][sent.fetch_add(1, SeqCst) as usize];
        async move {
            tokio::time::sleep(MILLI * 3).await;
            Ok::<_, Error>(status)
        }
    });
    let layer = Guard::idempotent("ask", hedge).judge(|status: &u16| match status {
        504 => Some(ErrorKind::Indeterminate),
        503 => Some(ErrorKind::Unavailable),
        _ => None,
    });
    assert_eq!(layer.layer(service).oneshot(()).await.unwrap(), 504);
}
