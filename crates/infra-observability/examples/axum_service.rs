//! A small service with everything: `cargo run -p infra-observability --example axum_service`.
//!
//! ```sh
//! curl -i localhost:3000/                 # an answer with its correlation id; a line in the log, with the trace
//! curl localhost:3000/metrics             # what was counted
//! curl localhost:3000/health              # what the checks found, and how long ago
//! ```

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use infra_core::{
    Clock, SystemClock,
    context::Context,
    id::CorrelationId,
    lifecycle::Shutdown,
    metric::{Histogram, Label, LabelSet},
    random::Random,
};
use infra_observability::{
    collect::Process,
    correlation,
    exporter::{Exporter, Format},
    health::{Group, Monitor, Options, check::Memory},
    log,
    trace::{Buffer, Sampler, Spans, extract, traced},
};
use tracing_subscriber::Layer as _;

/// How a request ended.
#[derive(Debug, Clone, Copy)]
enum Answer {
    Good,
    Bad,
}

impl Label for Answer {
    const SET: LabelSet = LabelSet { name: "answer", values: &["good", "bad"] };

    fn value(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad => "bad",
        }
    }
}

const REQUESTS: Histogram<Answer> =
    Histogram::latency_of("infra_example_request_seconds", "Time of a request, by its answer.");

#[derive(Debug, Clone)]
struct Service {
    clock: Arc<dyn Clock>,
    random: Arc<Random>,
    exporter: Exporter,
    monitor: Arc<Monitor>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (clock, shutdown) = (SystemClock::shared(), Shutdown::new());
    let random = Arc::new(Random::from_system());
    // Traces are followed and named in the log. To ship them as well: another sampler, a larger
    // buffer, and an `otlp::Exporter` that empties it.
    let (kept, ids) = (Buffer::new(1), Arc::clone(&random));
    let spans = Spans::new(Sampler::none(), Arc::clone(&clock), ids, kept).boxed();
    let sink = std::io::stderr();
    let log = log::start("info", log::Format::Json, Arc::clone(&clock), sink, Some(spans))?;
    let declared = [REQUESTS.declaration()];
    let exporter = Exporter::builder()
        .metrics(&declared)
        .metrics(&infra_observability::declarations())
        .collector(Process::default())
        .build();
    exporter.install()?;
    let checks: Vec<(Group, Arc<dyn infra_core::health::HealthCheck>)> =
        vec![(Group::Info, Arc::new(Memory::new(0.9, 0.98)))];
    let monitor = Monitor::start_grouped(Options::default(), Arc::clone(&clock), checks, &shutdown);
    let service = Service { clock, random, exporter, monitor };
    let router = Router::new()
        .route("/", get(async || "hello\n"))
        .layer(middleware::from_fn_with_state(service.clone(), observe))
        .route("/metrics", get(metrics))
        .route("/health", get(health))
        .with_state(service);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    let ctrl_c = async { drop(tokio::signal::ctrl_c().await) };
    axum::serve(listener, router).with_graceful_shutdown(ctrl_c).await?;
    shutdown.close(Duration::from_secs(5)).await;
    log.writer.flush(Duration::from_secs(1));
    Ok(())
}

/// Takes the caller's trace and correlation id up, or begins them; times and logs the request.
async fn observe(State(service): State<Service>, request: Request, next: Next) -> Response {
    let context: Context = extract(request.headers());
    let begin = || CorrelationId::generate(service.clock.wall(), &service.random);
    let id = context.correlation_id().unwrap_or_else(begin);
    let span = tracing::info_span!("request", otel.kind = "server", path = request.uri().path());
    let came = service.clock.now();
    let served = context.correlation(id).scope(traced(span, async {
        let response = next.run(request).await;
        tracing::info!(status = response.status().as_u16(), "served");
        response
    }));
    let mut response = served.await;
    let answer = if response.status().is_success() { Answer::Good } else { Answer::Bad };
    REQUESTS.record_for(answer, service.clock.now().since(came).as_secs_f64());
    if let Ok(value) = id.to_string().parse() {
        response.headers_mut().insert(correlation::HEADER, value);
    }
    response
}

async fn metrics(State(service): State<Service>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let format = Format::negotiate(accept.unwrap_or_default());
    ([(header::CONTENT_TYPE, format.content_type())], service.exporter.render_as(format))
        .into_response()
}

async fn health(State(service): State<Service>) -> Response {
    let is_ready = service.monitor.readiness().is_ready();
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(service.monitor.report())).into_response()
}
