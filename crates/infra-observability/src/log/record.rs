//! An entry of the log as it is shipped to a collector.

use infra_core::{clock::Timestamp, trace::TraceContext};
use tracing::Level;

use super::{entry::Entry, fields::Value};
use crate::{
    buffer::{Parcel, Signal},
    trace::Attribute,
};

/// An entry of the log as it is shipped: the same fields as in its line, secrets taken out.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// When it was logged.
    pub time: Timestamp,
    /// How bad it is.
    pub level: Level,
    /// What is said.
    pub message: String,
    /// The trace in which it was logged.
    pub trace: Option<TraceContext>,
    /// `target`, `correlation_id` and `spans` as in its line, then its fields.
    pub attributes: Vec<Attribute>,
}

impl Record {
    pub(super) fn of(entry: &Entry<'_>) -> Self {
        let mut attributes = vec![Attribute::text("target", entry.target)];
        if let Some(id) = entry.context.correlation_id() {
            attributes.push(Attribute::text("correlation_id", id.to_string()));
        }
        if !entry.spans.is_empty() {
            attributes.push(Attribute::text("spans", entry.spans.join(":")));
        }
        attributes.extend(entry.fields.iter().map(|(name, value)| Attribute {
            name: name.clone().into_owned(),
            value: Value::clone(value),
        }));
        Self {
            time: entry.time,
            level: entry.level,
            message: entry.message.to_owned(),
            trace: entry.context.trace_context(),
            attributes,
        }
    }

    /// Returns the text of an attribute.
    pub fn attribute(&self, name: &str) -> Option<String> {
        self.attributes.iter().find(|attribute| attribute.name == name).map(Attribute::value)
    }
}

impl Parcel for Record {
    const SIGNAL: Signal = Signal::Logs;

    fn bytes(&self) -> usize {
        let attributes: usize = self.attributes.iter().map(Attribute::bytes).sum();
        size_of::<Self>() + self.message.len() + attributes
    }
}
