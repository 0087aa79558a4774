//! The HTTP client below S3: hyper with rustls and ring, each exchange within a time and a length.
//!
//! It says of each failure whether the request was sent, since one that was must not be repeated
//! unless it may be: a conditional put that is repeated would meet itself.

use std::{io, time::Duration};

use async_trait::async_trait;
use http_body_util::{BodyExt as _, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use object_store::{
    ClientOptions,
    client::{
        HttpClient, HttpConnector as Connect, HttpError, HttpErrorKind, HttpRequest,
        HttpRequestBody, HttpResponse, HttpService,
    },
};

/// Idle connections are closed after so long, before most servers do it.
const IDLE: Duration = Duration::from_secs(15);

/// The bounds of an exchange.
#[derive(Debug, Clone, Copy)]
pub(super) struct Https {
    /// How long a connection may take.
    pub(super) connect: Duration,
    /// How long a request and its whole answer may take.
    pub(super) patience: Duration,
    /// The longest answer in bytes.
    pub(super) longest: usize,
}

impl Connect for Https {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(self.connect));
        let provider = rustls::crypto::ring::default_provider();
        let tls = HttpsConnectorBuilder::new().with_provider_and_webpki_roots(provider);
        let refuse = |cause| object_store::Error::Generic { store: "S3", source: Box::new(cause) };
        let connector = tls.map_err(refuse)?.https_or_http().enable_http1().wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_timer(TokioTimer::new())
            .build(connector);
        Ok(HttpClient::new(Service { client, bounds: *self }))
    }
}

#[derive(Debug)]
struct Service {
    client: Client<HttpsConnector<HttpConnector>, HttpRequestBody>,
    bounds: Https,
}

#[async_trait]
impl HttpService for Service {
    #[tracing::instrument(
        name = "s3 request",
        level = "debug",
        skip_all,
        fields(http.request.method = %request.method(), http.response.status_code)
    )]
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let exchange = tokio::time::timeout(self.bounds.patience, self.exchange(request));
        exchange.await.unwrap_or_else(|late| Err(HttpError::new(HttpErrorKind::Timeout, late)))
    }
}

impl Service {
    async fn exchange(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let answer = self.client.request(request).await.map_err(|error| {
            // hyper repeats by itself what a closing connection never sent.
            let unsent = error.is_connect();
            let kind = if unsent { HttpErrorKind::Connect } else { HttpErrorKind::Interrupted };
            HttpError::new(kind, error)
        })?;
        let (head, body) = answer.into_parts();
        tracing::Span::current().record("http.response.status_code", head.status.as_u16());
        let whole = Limited::new(body, self.bounds.longest).collect().await.map_err(|cause| {
            let too_long = cause.is::<http_body_util::LengthLimitError>();
            let kind = if too_long { HttpErrorKind::Decode } else { HttpErrorKind::Interrupted };
            HttpError::new(kind, io::Error::other(cause))
        })?;
        Ok(HttpResponse::from_parts(head, whole.to_bytes().into()))
    }
}
