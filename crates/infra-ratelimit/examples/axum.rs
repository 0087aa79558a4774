//! An axum service behind a limit by address, with the fields that tell a client of it.
//!
//! `cargo run -p infra-ratelimit --features tower --example axum`, then
//! `curl -i http://127.0.0.1:3000/` a few times.
#![allow(
    clippy::print_stdout,
    clippy::allow_attributes,
    reason = "a program says where it is on its standard output"
)]

use std::{net::SocketAddr, sync::Arc};

use axum::{Router, extract::ConnectInfo, http::request::Parts, routing::get};
use infra_core::{SystemClock, limit::Charge};
use infra_ratelimit::{
    Limiter, Quota, address_key,
    tower::{Proxies, RateLimitLayer},
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let limiter = Limiter::new(SystemClock::shared()).limit("address", Quota::per_minute(5)?);
    let proxies = Proxies::new(["10.0.0.0/8"])?;
    let by_address = move |parts: &Parts| {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        let client = peer.map(|peer| proxies.client(peer.0.ip(), &parts.headers));
        let key = client.map_or_else(|| "unknown".to_owned(), address_key);
        vec![Charge::one("address", key)]
    };
    let app = Router::new()
        .route("/", get(|| async { "hello\n" }))
        .layer(RateLimitLayer::new(Arc::new(limiter), by_address))
        .into_make_service_with_connect_info::<SocketAddr>();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("http://{}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
