//! A log event as one flat JSON object.

use std::{fmt, sync::Arc};

use infra_core::{Clock, context::Context};
use serde_json::{Map, Value};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

/// The longest text of one field in characters; the rest is cut and marked.
const MAX_TEXT: usize = 4_096;

/// The fields whose values are never written.
const SECRETS: [&str; 7] =
    ["token", "secret", "password", "authorization", "cookie", "hand", "entropy"];

/// Formats an event as one JSON object on one line.
///
/// The keys are `time` (milliseconds since the Unix epoch), `level`, `target`, `message`, the
/// event's own fields, `correlation` and `trace` where the current context has them, and `spans`
/// (their names, outermost first). JSON escapes control characters, so an entry is always one line;
/// a field called like a secret is written as `[redacted]`.
#[derive(Debug, Clone)]
pub struct Json {
    clock: Arc<dyn Clock>,
}

impl Json {
    /// Creates the format; times come from `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock }
    }
}

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut entry = Map::new();
        entry.insert("time".to_owned(), self.clock.wall().as_millis().into());
        entry.insert("level".to_owned(), event.metadata().level().as_str().into());
        entry.insert("target".to_owned(), event.metadata().target().into());
        event.record(&mut Fields(&mut entry));
        let context = Context::current();
        if let Some(id) = context.correlation_id() {
            entry.insert("correlation".to_owned(), id.to_string().into());
        }
        if let Some(trace) = context.trace_context() {
            entry.insert("trace".to_owned(), format!("{:032x}", trace.trace_id()).into());
        }
        let spans: Vec<Value> = ctx
            .event_scope()
            .into_iter()
            .flat_map(|scope| scope.from_root().map(|span| Value::from(span.name())))
            .collect();
        if !spans.is_empty() {
            entry.insert("spans".to_owned(), spans.into());
        }
        let line = serde_json::to_string(&entry).map_err(|_| fmt::Error)?;
        writeln!(writer, "{line}")
    }
}

struct Fields<'a>(&'a mut Map<String, Value>);

impl Fields<'_> {
    fn put(&mut self, field: &Field, value: impl FnOnce() -> Value) {
        let name = field.name();
        let is_secret = SECRETS.iter().any(|secret| name.contains(secret));
        let value = if is_secret { "[redacted]".into() } else { value() };
        // The entry's own keys win over a field of the same name.
        self.0.entry(name).or_insert(value);
    }
}

fn text(value: &str) -> Value {
    match value.char_indices().nth(MAX_TEXT) {
        Some((end, _)) => format!("{}…", value.get(..end).unwrap_or_default()).into(),
        None => value.into(),
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, || text(&format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, || text(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, || value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, || value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, || value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, || value.into());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field, || {
            let chain = std::iter::successors(Some(value), |error| error.source());
            text(&chain.map(ToString::to_string).collect::<Vec<_>>().join(": "))
        });
    }
}
