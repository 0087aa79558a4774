//! The ways in: TLS, axum, and streams that are no sockets.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, extract::State, routing::any};
use infra_core::ErrorKind;
use infra_ws::{
    Hub,
    client::Client,
    extract::Upgrade,
    serve_stream,
    tls::{self, Certificate},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};

use crate::{Echo, PATIENCE, Server, TICK, text};

/// Made for these tests alone, by `openssl req -x509`; nothing else trusts it.
const CHAIN: &[u8] = include_bytes!("localhost-chain.pem");
const KEY: &[u8] = include_bytes!("localhost-key.pem");

/// Echoes over a client of whatever kind.
async fn converse(mut client: Client) {
    for word in ["one", "two"] {
        client.send(word).await.unwrap();
        assert_eq!(text(&mut client).await, word);
    }
    client.close(PATIENCE).await;
}

async fn secure(socket: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(CHAIN).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, socket).await
}

/// Listens with TLS besides the server's own listener.
async fn with_tls(server: &Server) -> (SocketAddr, Certificate) {
    let certificate = Certificate::from_pem(CHAIN, KEY).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (hub, app) = (Arc::clone(&server.hub), Arc::clone(&server.app));
    let shown = certificate.clone();
    server.shutdown.spawn(async move { tls::serve(listener, &shown, hub, app).await.unwrap() });
    (address, certificate)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_speaks_over_tls_and_goes_on_while_the_certificate_is_renewed() {
    let server = Server::start(|options| options).await;
    let (address, certificate) = with_tls(&server).await;
    let stream = secure(TcpStream::connect(address).await.unwrap()).await.unwrap();
    assert!(stream.get_ref().1.protocol_version().is_some());
    let mut client = Client::over(stream, "wss://localhost/", &[]).await.unwrap();
    client.send("before").await.unwrap();
    assert_eq!(text(&mut client).await, "before");
    certificate.renew(CHAIN, KEY).unwrap();
    converse(client).await;
    let again = secure(TcpStream::connect(address).await.unwrap()).await.unwrap();
    converse(Client::over(again, "wss://localhost/", &[]).await.unwrap()).await;
    server.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_open_tls_and_plain_words_are_closed_in_time() {
    let server = Server::start(|options| options.handshake(TICK * 2)).await;
    let (address, _certificate) = with_tls(&server).await;
    let mut mute = TcpStream::connect(address).await.unwrap();
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    for socket in [&mut mute, &mut plain] {
        let mut rest = Vec::new();
        let end = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut rest)).await;
        assert!(end.is_ok() && !rest.starts_with(b"HTTP"), "{rest:?}");
    }
    server.settled().await;
}

#[test]
fn what_is_no_certificate_is_refused_and_says_what_is_wrong() {
    let refused = |chain, key| {
        let error = Certificate::from_pem(chain, key).unwrap_err();
        assert_eq!(error.kind(), &ErrorKind::Invalid);
        error.detail_text().unwrap().to_owned()
    };
    assert_eq!(refused(b"-----BEGIN CERTIFICATE-----\n!", KEY), "the chain is not PEM");
    assert_eq!(refused(CHAIN, CHAIN), "the key is not PEM");
    assert_eq!(refused(b"", KEY), "they are no pair");
    let certificate = Certificate::from_pem(CHAIN, KEY).unwrap();
    assert!(certificate.renew(CHAIN, b"").is_err());
    assert_eq!(format!("{certificate:?}"), "Certificate", "no key is ever printed");
}

async fn socket(
    State((hub, app)): State<(Arc<Hub>, Arc<Echo>)>,
    upgrade: Upgrade,
) -> axum::response::Response {
    assert!(!format!("{upgrade:?}").contains("secret"), "no header is ever printed");
    upgrade.serve(&hub, &app)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_of_axum_takes_connections_and_tells_why_it_does_not() {
    let server = Server::start(|options| options).await;
    let state = (Arc::clone(&server.hub), Arc::clone(&server.app));
    let router = Router::new().route("/ws", any(socket)).with_state(state);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = router.clone().into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await.unwrap() });
    let url = format!("ws://{address}/ws");
    converse(Client::connect(&url, &[("authorization", "secret")]).await.unwrap()).await;
    let refused = Client::connect(&url, &[("origin", "http://evil.example")]).await.unwrap_err();
    assert!(refused.to_string().contains("403"), "{refused}");

    let unknown = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/ws", unknown.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(unknown, router).await.unwrap() });
    let refused = Client::connect(&url, &[]).await.unwrap_err();
    assert!(refused.to_string().contains("500"), "without an address nothing is limited");
    server.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_no_socket_is_served_and_limited_like_one() {
    let server = Server::start(|options| options.connections(10, 1)).await;
    let peer = SocketAddr::from(([192, 0, 2, 7], 9));
    let open = async || {
        let (ours, theirs) = tokio::io::duplex(4 * 1024);
        let (hub, app) = (Arc::clone(&server.hub), Arc::clone(&server.app));
        tokio::spawn(async move { serve_stream(theirs, peer, &hub, &app).await });
        let url = server.url();
        let opened = Client::over(ours, &url, &[]);
        tokio::time::timeout(Duration::from_secs(20), opened).await.unwrap()
    };
    let first = open().await.unwrap();
    assert!(open().await.is_err(), "one connection of that address is open already");
    converse(first).await;
    server.settled().await;
    converse(open().await.unwrap()).await;
    server.settled().await;
}
