//! One entry of the log, whatever it is written as.

use std::borrow::Cow;

use infra_core::{clock::Timestamp, context::Context};
use tracing::Level;

use super::fields::{Fields, REDACTED, Value, is_secret};

/// The names that belong to the entry itself; a field of that name is written with a `_` behind.
const RESERVED: [&str; 8] =
    ["timestamp", "level", "target", "message", "correlation_id", "trace_id", "span_id", "spans"];

/// The most entries of the baggage that are written.
const MAX_BAGGAGE: usize = 16;

#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub(super) time: Timestamp,
    pub(super) level: Level,
    pub(super) target: &'static str,
    pub(super) message: &'a str,
    pub(super) context: &'a Context,
    /// The names of the spans, outermost first.
    pub(super) spans: Vec<&'static str>,
    /// No name twice: the nearest value wins.
    pub(super) fields: Vec<(Cow<'a, str>, Cow<'a, Value>)>,
}

impl<'a> Entry<'a> {
    pub(super) fn put(&mut self, fields: &'a Fields) {
        for (name, value) in &fields.named {
            let name = if RESERVED.contains(name) {
                Cow::Owned(format!("{name}_"))
            } else {
                Cow::Borrowed(*name)
            };
            self.put_one(name, Cow::Borrowed(value));
        }
    }

    /// Adds the baggage, unless a field has the name.
    pub(super) fn put_baggage(&mut self) {
        let context = self.context;
        for (name, value) in context.baggage_of().iter().take(MAX_BAGGAGE) {
            let value = if is_secret(name) { REDACTED } else { value };
            let value = Cow::Owned(Value::Text(value.chars().take(256).collect()));
            let name =
                if RESERVED.contains(&name) { format!("{name}_").into() } else { name.into() };
            self.put_one(name, value);
        }
    }

    fn put_one(&mut self, name: Cow<'a, str>, value: Cow<'a, Value>) {
        if !self.fields.iter().any(|(known, _)| *known == name) {
            self.fields.push((name, value));
        }
    }
}
