//! A server that sheds load, and a client whose deadline and budget travel with its request.
//!
//! Run it by `cargo run -p infra-resilience --features tower --example axum_client`.

#![allow(clippy::print_stdout, clippy::allow_attributes, reason = "it shows what happens")]

use std::{sync::Arc, time::Duration};

use axum::{Router, error_handling::HandleErrorLayer, http::StatusCode, routing::get};
use infra_core::{
    Clock, Error, ErrorKind, Result, SystemClock,
    backoff::Backoff,
    budget::{CallBudget, Deadline, Priority},
    context::Context,
    error::BoxError,
};
use infra_resilience::{
    Pipeline, Policy as _, Retry, Shedder, Timeout, idempotent,
    layer::{BudgetIn, Guard},
    shed::{self, Gradient2},
    wire::{self, Outgoing},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tower::ServiceBuilder;

fn server(clock: &Arc<dyn Clock>) -> Router {
    let shedder = Shedder::new(shed::Options::new(Gradient2::new()), Arc::clone(clock));
    let timeout = Timeout::new(Duration::from_secs(1), Arc::clone(clock));
    let guard = Guard::at_most_once("answer", Pipeline::new().then(shedder).then(timeout));
    let refused =
        |error: Error| async move { (StatusCode::SERVICE_UNAVAILABLE, error.to_string()) };
    let layers = ServiceBuilder::new().layer(HandleErrorLayer::new(refused)).layer(guard);
    let answer = || async {
        let context = Context::current();
        let left = context.budget_of().map_or(0, CallBudget::left);
        format!("{:?}, {left} extra attempts", context.budget_of().map(CallBudget::priority_of))
    };
    // Runs the rest in the context that the caller sent, and tells what was not spent.
    let context = BudgetIn::new(Arc::clone(clock)).at_most(10, Priority::High);
    Router::new().route("/", get(answer)).layer(layers).layer(context)
}

/// Sends one request, by hand, so that the example needs no HTTP client.
async fn ask(address: std::net::SocketAddr, clock: &dyn Clock) -> Result<String> {
    let failed = |cause: std::io::Error| Error::new(ErrorKind::Unavailable, "ask").because(cause);
    let outgoing = Outgoing::new(&Context::current(), clock.now(), Duration::from_millis(2));
    let budget = outgoing.header().unwrap_or_default();
    let request = format!(
        "GET / HTTP/1.1\r\nhost: {address}\r\n{}: {budget}\r\nconnection: close\r\n\r\n",
        wire::HEADER
    );
    let mut stream = TcpStream::connect(address).await.map_err(failed)?;
    stream.write_all(request.as_bytes()).await.map_err(failed)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.map_err(failed)?;
    let unspent = answer.lines().find_map(|line| line.strip_prefix("call-budget-unspent: "));
    outgoing.answered(unspent);
    Ok(answer.lines().last().unwrap_or_default().to_owned())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::result::Result<(), BoxError> {
    let clock = SystemClock::shared();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let serving = tokio::spawn(axum::serve(listener, server(&clock)).into_future());

    let retry = Retry::new(3, Backoff::exponential(Duration::from_millis(20)), Arc::clone(&clock));
    let timeout = Timeout::new(Duration::from_millis(500), Arc::clone(&clock));
    let pipeline = Pipeline::new().then(retry).then(timeout);
    let budget = CallBudget::new(6).priority(Priority::High);
    let context = Context::default()
        .deadline(Deadline::after(clock.now(), Duration::from_secs(2)))
        .budget(budget.clone());
    let call = idempotent(|| ask(address, &*clock));
    let answer = context.scope(pipeline.run("ask", call)).await?;
    println!("the server saw: {answer}");
    println!("back here: {} extra attempts", budget.left());
    serving.abort();
    Ok(())
}
