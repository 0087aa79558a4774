//! OTLP: spans and log records go to a collector as JSON over HTTP/1.1, in batches, with a deadline
//! for everything.
//!
//! The encoding is the JSON form of OTLP 1.x over plain HTTP, which every collector takes at
//! `/v1/traces` and `/v1/logs`; a collector beyond an untrusted network needs a proxy with TLS in
//! front. A collector that is gone, refuses, or takes connections and never answers, is waited for
//! by nobody but the exporter.

mod client;
mod encode;
mod exporter;
mod logs;
mod spans;

pub use encode::Encode;
pub use exporter::{Exporter, Options};
