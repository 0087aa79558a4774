//! The context on its way in and out: headers of HTTP, sockets, queues and messages.

use std::collections::{BTreeMap, HashMap};

use infra_core::{
    context::Context,
    id::CorrelationId,
    trace::{TraceContext, TraceState},
};

use crate::correlation;

/// Headers, of whatever protocol.
///
/// A name that is there twice counts as not there, as the W3C asks of `traceparent`.
pub trait Carrier {
    /// Returns the value of a header; names compare without regard to case.
    fn get(&self, name: &str) -> Option<&str>;

    /// Sets a header; what was there under the name is replaced.
    fn set(&mut self, name: &'static str, value: String);
}

impl Carrier for BTreeMap<String, String> {
    fn get(&self, name: &str) -> Option<&str> {
        only(self.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name))).map(|(_, v)| v.as_str())
    }

    fn set(&mut self, name: &'static str, value: String) {
        self.retain(|key, _| !key.eq_ignore_ascii_case(name));
        self.insert(name.to_owned(), value);
    }
}

impl<S: std::hash::BuildHasher> Carrier for HashMap<String, String, S> {
    fn get(&self, name: &str) -> Option<&str> {
        only(self.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name))).map(|(_, v)| v.as_str())
    }

    fn set(&mut self, name: &'static str, value: String) {
        self.retain(|key, _| !key.eq_ignore_ascii_case(name));
        self.insert(name.to_owned(), value);
    }
}

impl Carrier for http::HeaderMap {
    fn get(&self, name: &str) -> Option<&str> {
        only(self.get_all(name).iter()).and_then(|value| value.to_str().ok())
    }

    fn set(&mut self, name: &'static str, value: String) {
        // What we write is ASCII without control characters, so it is always a header's value.
        if let Ok(value) = http::HeaderValue::try_from(value) {
            self.insert(name, value);
        }
    }
}

/// Returns the only item, if it is the only one.
fn only<T>(mut items: impl Iterator<Item = T>) -> Option<T> {
    let first = items.next();
    if items.next().is_some() { None } else { first }
}

/// Writes a context's trace, its state, its baggage and its correlation id.
///
/// ```
/// use std::collections::BTreeMap;
/// use infra_core::{context::Context, random::Random, trace::TraceContext};
/// use infra_observability::trace::{extract, inject};
///
/// let context = Context::default().trace(TraceContext::root(&Random::seeded(1), true));
/// let mut headers = BTreeMap::new();
/// inject(&context, &mut headers);
/// assert_eq!(extract(&headers).trace_context(), context.trace_context());
/// ```
pub fn inject(context: &Context, carrier: &mut impl Carrier) {
    if let Some(trace) = context.trace_context() {
        carrier.set("traceparent", trace.to_string());
        let state = context.trace_state_of().as_str();
        if !state.is_empty() {
            carrier.set("tracestate", state.to_owned());
        }
    }
    if !context.baggage_of().is_empty() {
        carrier.set("baggage", context.baggage_of().to_string());
    }
    if let Some(id) = context.correlation_id() {
        carrier.set(correlation::HEADER, id.to_string());
    }
}

/// Reads what came in; what is malformed is left out, and without a trace its state is too.
pub fn extract(carrier: &impl Carrier) -> Context {
    let mut context = Context::default();
    if let Some(trace) = read::<TraceContext>(carrier, "traceparent") {
        let state = read::<TraceState>(carrier, "tracestate").unwrap_or_default();
        context = context.trace(trace).trace_state(state);
    }
    if let Some(baggage) = read(carrier, "baggage") {
        context = context.baggage(baggage);
    }
    match carrier.get(correlation::HEADER).and_then(correlation::accept) {
        Some(id) => context.correlation(id),
        None => context,
    }
}

/// Reads a correlation id or makes one, and returns the context with it.
pub(crate) fn extract_or_begin(
    carrier: &impl Carrier,
    begin: impl FnOnce() -> CorrelationId,
) -> Context {
    let context = extract(carrier);
    if context.correlation_id().is_some() { context } else { context.correlation(begin()) }
}

fn read<T: std::str::FromStr>(carrier: &impl Carrier, name: &str) -> Option<T> {
    carrier.get(name).and_then(|text| text.trim_matches([' ', '\t']).parse().ok())
}
