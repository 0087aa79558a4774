//! The context on its way in and out: headers of HTTP, sockets, queues and messages.

use std::collections::{BTreeMap, HashMap};

use infra_core::{context::Context, id::CorrelationId};

use crate::correlation;

/// The header of a trace's ids.
const TRACE: &str = "traceparent";

/// Headers, of whatever protocol.
pub trait Carrier {
    /// Returns the values of a header, one for each time that it is there, in order; names compare
    /// without regard to case. A value that is no text is empty.
    fn values(&self, name: &str) -> Vec<&str>;

    /// Sets a header; what was there under the name is replaced.
    fn set(&mut self, name: &str, value: String);
}

impl Carrier for BTreeMap<String, String> {
    fn values(&self, name: &str) -> Vec<&str> {
        let named = self.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }

    fn set(&mut self, name: &str, value: String) {
        self.retain(|key, _| !key.eq_ignore_ascii_case(name));
        self.insert(name.to_owned(), value);
    }
}

impl<S: std::hash::BuildHasher> Carrier for HashMap<String, String, S> {
    fn values(&self, name: &str) -> Vec<&str> {
        let named = self.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }

    fn set(&mut self, name: &str, value: String) {
        self.retain(|key, _| !key.eq_ignore_ascii_case(name));
        self.insert(name.to_owned(), value);
    }
}

impl Carrier for http::HeaderMap {
    fn values(&self, name: &str) -> Vec<&str> {
        let values = self.get_all(name).iter();
        values.map(|value| value.to_str().unwrap_or_default()).collect()
    }

    fn set(&mut self, name: &str, value: String) {
        // What we write are tokens and ASCII without control characters: always a header.
        if let (Ok(name), Ok(value)) = (http::HeaderName::try_from(name), value.try_into()) {
            self.insert(name, value);
        }
    }
}

/// Returns the value of a header that may be there once; twice is as if it were not there.
fn only<'a>(carrier: &'a impl Carrier, name: &str) -> Option<&'a str> {
    match carrier.values(name).as_slice() {
        [value] => Some(value),
        _ => None,
    }
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
        carrier.set(TRACE, trace.to_string());
    }
    for (name, value) in context.headers() {
        carrier.set(&name, value);
    }
    if let Some(id) = context.correlation_id() {
        carrier.set(correlation::HEADER, id.to_string());
    }
}

/// Reads what came in; what is malformed is left out, and without a trace its state is too.
///
/// As the W3C asks, `traceparent` counts only if it is there once, and `tracestate` and `baggage`
/// that are there several times are one list.
pub fn extract(carrier: &impl Carrier) -> Context {
    let mut context = Context::default();
    let trace = only(carrier, TRACE);
    if let Some(trace) = trace.and_then(|text| text.trim_matches([' ', '\t']).parse().ok()) {
        context = context.trace(trace);
    }
    context = context.with_headers(|name| Some(carrier.values(name).join(",")));
    match only(carrier, correlation::HEADER).and_then(correlation::accept) {
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
