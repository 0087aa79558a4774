//! The layer before real services, over real sockets.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "a panic is how a test fails"
)]

mod grpc;

use std::{
    collections::HashMap,
    convert::Infallible,
    error::Error,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use axum::{Router, extract::ConnectInfo, http::request::Parts, routing::get};
use http::{Request, Response, StatusCode};
use infra_core::{
    ErrorKind, Result,
    limit::{Charge, Decision, RateLimiter, Reservation},
};
use infra_ratelimit::{
    Limit, Limiter, Quota, address_key,
    tower::{Failure, Grpc, Proxies, RateLimitLayer},
};
use infra_testkit::clock::ManualClock;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tower::{Layer as _, Service as _, ServiceExt as _, service_fn};

fn limiter(limit: impl Into<Limit>) -> (ManualClock, Arc<Limiter>) {
    let clock = ManualClock::new();
    let limiter = Limiter::new(Arc::new(clock.clone())).limit("address", limit);
    (clock, Arc::new(limiter))
}

fn bucket(capacity: u32) -> Quota {
    Quota::new(capacity, Duration::from_secs(10)).unwrap()
}

/// A response as it came over the socket.
#[derive(Debug)]
struct Heard {
    status: u16,
    fields: HashMap<String, String>,
    body: String,
}

impl Heard {
    fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }
}

async fn ask(server: SocketAddr, fields: &str) -> Heard {
    let mut socket = TcpStream::connect(server).await.unwrap();
    let head = format!("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{fields}\r\n");
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let fields = lines.map(|line| line.split_once(": ").unwrap());
    let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    Heard { status, fields, body: body.to_owned() }
}

/// Serves a handler that counts its runs, behind a limit by client address.
async fn serve(limiter: Arc<Limiter>, proxies: Proxies) -> (SocketAddr, Arc<AtomicU32>) {
    let ran = Arc::new(AtomicU32::new(0));
    let counts = Arc::clone(&ran);
    let by_address = move |parts: &Parts| {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().unwrap().0.ip();
        vec![Charge::one("address", address_key(proxies.client(peer, &parts.headers)))]
    };
    let handler = move || {
        let counts = Arc::clone(&counts);
        async move {
            counts.fetch_add(1, Ordering::SeqCst);
            (StatusCode::INTERNAL_SERVER_ERROR, "it fails, and is not run again")
        }
    };
    let app = Router::new()
        .route("/", get(handler))
        .layer(RateLimitLayer::new(limiter, by_address))
        .into_make_service_with_connect_info::<SocketAddr>();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    (server, ran)
}

#[tokio::test]
async fn axum_answers_with_the_fields_of_the_draft_and_runs_the_handler_once() {
    let (clock, limiter) = limiter(bucket(2));
    let (server, ran) = serve(limiter, Proxies::none()).await;
    for left in [1, 0] {
        let heard = ask(server, "").await;
        assert_eq!(heard.status, 500, "the handler's own failure is its answer");
        assert_eq!(heard.field("ratelimit-policy"), Some("\"address\";q=2;w=20"));
        let limit = format!("\"address\";r={left};t={}", 20 - 10 * left);
        assert_eq!(heard.field("ratelimit"), Some(limit.as_str()));
    }
    clock.advance(Duration::from_millis(1_500));
    let refused = ask(server, "").await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.field("retry-after"), Some("9"), "8.5 s, rounded up");
    assert_eq!(refused.field("ratelimit"), Some("\"address\";r=0;t=9"));
    assert_eq!(refused.field("content-type"), Some("application/problem+json"));
    assert!(refused.body.contains("#quota-exceeded\""), "{}", refused.body);
    assert!(refused.body.contains("\"violated-policies\":[\"address\"]"), "{}", refused.body);
    assert_eq!(ran.load(Ordering::SeqCst), 2, "once for each that was admitted");
    clock.advance(Duration::from_secs(9));
    assert_eq!(ask(server, "").await.status, 500, "after the named time it is served");
}

#[tokio::test]
async fn a_spoofed_forwarded_for_does_not_change_who_pays() {
    let (_clock, direct) = limiter(bucket(1));
    let (server, _) = serve(direct, Proxies::none()).await;
    assert_eq!(ask(server, "x-forwarded-for: 6.6.6.1\r\n").await.status, 500);
    assert_eq!(ask(server, "x-forwarded-for: 6.6.6.2\r\n").await.status, 429);
    let (_clock, behind) = limiter(bucket(1));
    let (server, _) = serve(behind, Proxies::new(["127.0.0.0/8"]).unwrap()).await;
    assert_eq!(ask(server, "x-forwarded-for: 6.6.6.1, 203.0.113.7\r\n").await.status, 500);
    assert_eq!(ask(server, "x-forwarded-for: 6.6.6.2, 203.0.113.7\r\n").await.status, 429);
    assert_eq!(ask(server, "x-forwarded-for: 203.0.113.8\r\n").await.status, 500);
}

/// A service that counts its runs and waits until `gate` opens, if it is closed.
fn counting(
    ran: Arc<AtomicU32>,
) -> impl tower::Service<Request<()>, Response = Response<String>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ 'static {
    service_fn(move |_request: Request<()>| {
        let ran = Arc::clone(&ran);
        async move {
            ran.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            Ok::<_, Infallible>(Response::new("done".to_owned()))
        }
    })
}

fn one(_parts: &Parts) -> Vec<Charge> {
    vec![Charge::one("address", "all")]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_a_hundred_concurrent_calls_exactly_five_run() {
    let (_clock, limiter) = limiter(bucket(5));
    let ran = Arc::new(AtomicU32::new(0));
    let service = RateLimitLayer::new(limiter, one).layer(counting(Arc::clone(&ran)));
    let calls: Vec<_> =
        (0..100).map(|_| tokio::spawn(service.clone().oneshot(Request::new(())))).collect();
    let mut served = 0;
    for call in calls {
        served += u32::from(call.await.unwrap().unwrap().status() == StatusCode::OK);
    }
    assert_eq!((served, ran.load(Ordering::SeqCst)), (5, 5));
}

#[tokio::test]
async fn a_permit_is_held_while_a_request_runs_and_back_when_it_is_given_up() {
    let (_clock, limiter) = limiter(Limit::concurrent(1).unwrap());
    let layer = RateLimitLayer::new(Arc::<Limiter>::clone(&limiter), one);
    let never = service_fn(|_request: Request<()>| async {
        std::future::pending::<Result<Response<String>, Infallible>>().await
    });
    let mut stuck = layer.layer(never);
    let mut first = stuck.ready().await.unwrap().call(Request::new(()));
    assert!(futures_poll(&mut first).await, "it waits, and holds the permit");
    let ran = Arc::new(AtomicU32::new(0));
    let service = layer.layer(counting(Arc::clone(&ran)));
    let refused = service.clone().oneshot(Request::new(())).await.unwrap();
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    let policy = refused.headers()["ratelimit-policy"].to_str().unwrap();
    assert_eq!(policy, "\"address\";q=1;qu=\"concurrent-requests\"");
    drop(first);
    for _ in 0..3 {
        let served = service.clone().oneshot(Request::new(())).await.unwrap();
        assert_eq!(served.status(), StatusCode::OK);
    }
}

/// Polls a future once and returns whether it waits.
async fn futures_poll<T>(future: &mut (impl Future<Output = T> + Unpin)) -> bool {
    let mut future = std::pin::Pin::new(future);
    std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx).is_pending())).await
}

#[tokio::test]
async fn a_request_that_is_given_up_regains_nothing_that_was_paid() {
    let (_clock, limiter) = limiter(bucket(1));
    let layer = RateLimitLayer::new(Arc::<Limiter>::clone(&limiter), one);
    let never = service_fn(|_request: Request<()>| async {
        std::future::pending::<Result<Response<String>, Infallible>>().await
    });
    let mut first = layer.layer(never).call(Request::new(()));
    assert!(futures_poll(&mut first).await);
    drop(first);
    assert!(!limiter.peek(&[Charge::one("address", "all")]).await.unwrap().is_admitted());
}

#[tokio::test]
async fn grpc_is_refused_in_its_own_words_and_never_is_not_told_to_wait() {
    let (_clock, limiter) = limiter(bucket(1));
    let layer = RateLimitLayer::new(limiter, |parts: &Parts| {
        let cost = if parts.uri.path() == "/dear" { 2 } else { 1 };
        let cost = std::num::NonZeroU32::new(cost).unwrap();
        vec![Charge::one("address", "all").cost(cost)]
    });
    let service = layer.refuse(Grpc).layer(counting(Arc::default()));
    let dear = Request::builder().uri("/dear").body(()).unwrap();
    let never = service.clone().oneshot(dear).await.unwrap();
    assert_eq!(never.headers()["grpc-status"], "8");
    assert!(!never.headers().contains_key("grpc-retry-pushback-ms"));
    assert!(!never.headers().contains_key("retry-after"));
    let served = service.clone().oneshot(Request::new(())).await.unwrap();
    assert_eq!(served.body(), "done");
    let refused = service.oneshot(Request::new(())).await.unwrap();
    assert_eq!(refused.status(), StatusCode::OK, "as gRPC answers");
    assert_eq!(refused.headers()["grpc-retry-pushback-ms"], "10000");
    assert_eq!(refused.headers()["ratelimit"], "\"address\";r=0;t=10");
}

/// A limiter that has lost its store.
#[derive(Debug)]
struct Lost;

#[async_trait]
impl RateLimiter for Lost {
    async fn acquire(&self, _charges: &[Charge]) -> Result<Decision> {
        Err(infra_core::Error::new(ErrorKind::Unavailable, "acquire"))
    }

    async fn reserve(&self, charges: &[Charge]) -> Result<(Decision, Option<Reservation>)> {
        self.acquire(charges).await.map(|decision| (decision, None))
    }

    async fn peek(&self, charges: &[Charge]) -> Result<Decision> {
        self.acquire(charges).await
    }
}

#[tokio::test]
async fn a_lost_limiter_refuses_or_passes_as_declared_and_no_charge_always_passes() {
    let ran = Arc::new(AtomicU32::new(0));
    let layer = RateLimitLayer::new(Arc::new(Lost), one);
    let closed = layer.clone().layer(counting(Arc::clone(&ran)));
    let refused = closed.oneshot(Request::new(())).await.unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.body().contains("temporary-reduced-capacity"));
    let grpc = layer.clone().refuse(Grpc).layer(counting(Arc::clone(&ran)));
    let refused = grpc.oneshot(Request::new(())).await.unwrap();
    assert_eq!(refused.headers()["grpc-status"], "14");
    assert_eq!(ran.load(Ordering::SeqCst), 0);
    let open = layer.failure(Failure::Open).layer(counting(Arc::clone(&ran)));
    assert_eq!(open.oneshot(Request::new(())).await.unwrap().status(), StatusCode::OK);
    let free = RateLimitLayer::new(Arc::new(Lost), |_: &Parts| Vec::new());
    let free = free.layer(counting(Arc::clone(&ran)));
    assert_eq!(free.oneshot(Request::new(())).await.unwrap().status(), StatusCode::OK);
    assert_eq!(ran.load(Ordering::SeqCst), 2);
}
