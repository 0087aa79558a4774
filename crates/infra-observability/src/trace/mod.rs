//! Traces: spans of the `tracing` facade with W3C identity, recorded into a bounded buffer.
//!
//! The trace of a piece of work is that of its [`Context`](infra_core::context::Context): it comes
//! in by [`extract`], goes out by [`inject`], and stored events carry it. A span that is entered by
//! [`traced`] makes itself the context's, so that everything below it, in other tasks and in other
//! processes, belongs to it.

mod carrier;
mod layer;
mod sampler;
mod scope;
mod span;

pub use crate::buffer::Buffer;
pub(crate) use carrier::extract_or_begin;
pub use carrier::{Carrier, extract, inject};
pub use layer::Spans;
pub use sampler::Sampler;
pub use scope::{context_of, link, record_error, traced, traced_result};
pub use span::{Attribute, Event, Finished, Kind, Status};
