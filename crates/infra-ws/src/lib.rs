//! WebSocket connections that never lie about what they missed.
//!
//! A [`Hub`] owns the connections of a process: it admits them within limits, reads each with
//! deadlines, writes each from a bounded queue, and closes those that are silent or too slow. An
//! [`App`] says what messages mean. [`token`] and [`resume`] let a client that comes back get
//! exactly what it missed, or be told that it cannot.
//!
//! ```no_run
//! use std::{net::SocketAddr, sync::Arc};
//! use infra_core::{SystemClock, lifecycle::Shutdown};
//! use infra_ws::{App, Class, Close, Connection, Frame, Hub, Inbound, Options, OriginPolicy, serve};
//!
//! #[derive(Debug)]
//! struct Echo;
//!
//! #[async_trait::async_trait]
//! impl App for Echo {
//!     type Session = Connection;
//!     async fn open(&self, connection: Connection) -> Result<Connection, Close> { Ok(connection) }
//!     async fn message(&self, connection: &mut Connection, message: Inbound) -> Result<(), Close> {
//!         if let Inbound::Text(text) = message { connection.send(Frame::text(text.as_str()), Class::Durable); }
//!         Ok(())
//!     }
//!     async fn closed(&self, _connection: Connection) {}
//! }
//!
//! # async fn run() -> std::io::Result<()> {
//! let hub = Hub::new(Options::new(OriginPolicy::same_host()), SystemClock::shared(), Shutdown::new());
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:9000").await?;
//! serve(listener, hub, Arc::new(Echo)).await
//! # }
//! ```

mod admission;
mod app;
pub mod browser;
mod budget;
pub mod changes;
#[cfg(feature = "client")]
pub mod client;
mod close;
mod connection;
mod driver;
#[cfg(feature = "axum")]
pub mod extract;
mod facts;
mod frame;
pub mod history;
mod hub;
mod index;
mod lanes;
pub mod layer;
mod ledger;
mod listener;
mod metered;
mod options;
mod origin;
mod outbox;
mod post;
mod reader;
mod registry;
pub mod resume;
pub mod room;
mod rooms;
mod socket;
#[cfg(feature = "suite")]
pub mod suite;
pub mod sync;
mod telemetry;
#[cfg(feature = "tls")]
pub mod tls;
pub mod token;
mod tracker;
mod upgrade;
mod watch;
pub mod wire;
mod writer;

pub use app::{App, Inbound};
pub use close::Close;
pub use connection::{Connection, ConnectionId, Ended, State};
pub use facts::Facts;
pub use frame::{Class, Frame, Unsent};
pub use hub::{Drained, Hub};
pub use index::NotIdentified;
pub use lanes::Priority;
pub use ledger::Ledger;
pub use listener::{serve, serve_stream};
pub use options::{CloseCodes, Options};
pub use origin::{OriginPolicy, OriginRefused};
pub use rooms::Rooms;
pub use telemetry::METRICS;
pub use upgrade::{Refused, upgrade};

/// Returns how many cases a property runs: `WS_CASES`, or `cases`.
#[cfg(test)]
pub(crate) fn suite_cases(cases: u32) -> u32 {
    std::env::var("WS_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(cases)
}
