//! The layer between a client and a service of tonic, over HTTP/2 on a real socket.

use bytes::{Buf as _, BufMut as _};
use hyper::{
    body::Incoming, client::conn::http2::Builder as Dialer, server::conn::http2::Builder as Host,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use tonic::{
    Code, Status,
    body::Body,
    client::Grpc as Client,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    server::Grpc as Server,
};

use super::*;

/// Messages that are text.
#[derive(Debug)]
struct Text;

impl Codec for Text {
    type Encode = String;
    type Decode = String;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Text {
    type Item = String;
    type Error = Status;

    fn encode(&mut self, item: String, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        dst.put_slice(item.as_bytes());
        Ok(())
    }
}

impl Decoder for Text {
    type Item = String;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<String>, Status> {
        let bytes = src.copy_to_bytes(src.remaining()).to_vec();
        String::from_utf8(bytes).map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}

/// Greets whom it is told, counts its runs, and fails for one.
fn greeter(
    ran: Arc<AtomicU32>,
) -> impl tower::Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ 'static {
    service_fn(move |request: Request<Body>| {
        let ran = Arc::clone(&ran);
        async move {
            let greet = service_fn(move |request: tonic::Request<String>| {
                ran.fetch_add(1, Ordering::SeqCst);
                let name = request.into_inner();
                std::future::ready(match name.as_str() {
                    "nobody" => Err(Status::unavailable("nobody is there")),
                    _ => Ok(tonic::Response::new(format!("hello {name}"))),
                })
            });
            Ok::<_, Infallible>(Server::new(Text).unary(greet, request).await)
        }
    })
}

/// Serves connections of HTTP/2, each request with the address that it came from.
async fn serve<S, B>(service: S) -> SocketAddr
where
    S: tower::Service<Request<Body>, Response = Response<B>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static,
    B: hyper::body::Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (socket, peer) = listener.accept().await.unwrap();
            let service = service.clone().map_request(move |request: Request<Incoming>| {
                let mut request = request.map(Body::new);
                request.extensions_mut().insert(peer);
                request
            });
            let host = Host::new(TokioExecutor::new());
            let service = TowerToHyperService::new(service);
            tokio::spawn(host.serve_connection(TokioIo::new(socket), service));
        }
    });
    address
}

/// Connects tonic's client to a server of HTTP/2.
async fn connect(
    server: SocketAddr,
) -> Client<
    impl tower::Service<
        Request<Body>,
        Response = Response<Incoming>,
        Error = hyper::Error,
        Future: Send,
    >,
> {
    let socket = TcpStream::connect(server).await.unwrap();
    let dialer = Dialer::new(TokioExecutor::new());
    let (sender, connection) = dialer.handshake(TokioIo::new(socket)).await.unwrap();
    tokio::spawn(connection);
    let send = service_fn(move |request| sender.clone().send_request(request));
    Client::with_origin(send, format!("http://{server}").parse().unwrap())
}

#[tokio::test]
async fn tonic_is_told_to_push_back_and_its_service_runs_once_for_each_call_that_is_admitted() {
    let (clock, limiter) = limiter(bucket(2));
    let ran = Arc::new(AtomicU32::new(0));
    let proxies = Proxies::none();
    let layer = RateLimitLayer::new(limiter, move |parts: &Parts| {
        let peer = parts.extensions.get::<SocketAddr>().unwrap();
        let client = proxies.client(peer.ip(), &parts.headers);
        vec![Charge::one("address", address_key(client))]
    });
    let mut client =
        connect(serve(layer.refuse(Grpc).layer(greeter(Arc::clone(&ran)))).await).await;
    let mut spoofed = 0;
    let mut greet = async |name: &str| {
        let mut request = tonic::Request::new(name.to_owned());
        spoofed += 1;
        let forwarded = format!("6.6.6.{spoofed}").parse().unwrap();
        request.metadata_mut().insert("x-forwarded-for", forwarded);
        client.ready().await.unwrap();
        let path = http::uri::PathAndQuery::from_static("/greeter/greet");
        client.unary(request, path, Text).await
    };
    let answer = greet("ann").await.unwrap();
    assert_eq!(answer.metadata().get("ratelimit").unwrap(), "\"address\";r=1;t=10");
    assert_eq!(answer.into_inner(), "hello ann");
    let failed = greet("nobody").await.unwrap_err();
    assert_eq!(failed.code(), Code::Unavailable, "the service's own failure is its answer");
    let refused = greet("bob").await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::ResourceExhausted, "rate limit exceeded")
    );
    let told = |name| refused.metadata().get(name).unwrap().to_str().unwrap();
    assert_eq!(told("grpc-retry-pushback-ms"), "10000");
    assert_eq!(told("ratelimit-policy"), "\"address\";q=2;w=20");
    assert_eq!(ran.load(Ordering::SeqCst), 2);
    clock.advance(Duration::from_secs(10));
    assert_eq!(greet("bob").await.unwrap().into_inner(), "hello bob");
    assert_eq!(ran.load(Ordering::SeqCst), 3);
}
