//! OTLP: spans go to a collector as JSON over HTTP/1.1, in batches, with a deadline for everything.
//!
//! The encoding is the JSON form of OTLP 1.x over plain HTTP, which every collector takes at
//! `/v1/traces`; a collector beyond an untrusted network needs a proxy with TLS in front.

mod client;
mod encode;
mod exporter;

pub use exporter::{Exporter, Options};
