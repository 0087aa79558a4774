//! A span that has ended, as it is exported.

use std::time::Duration;

use infra_core::{clock::Timestamp, trace::TraceContext};

use crate::{
    buffer::{Parcel, Signal},
    log::Value,
};

/// A name and a value, with secrets taken out.
#[derive(Debug, Clone, PartialEq)]
pub struct Attribute {
    pub(crate) name: String,
    pub(crate) value: Value,
}

impl Attribute {
    /// Creates a textual attribute.
    pub fn text(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self { name: name.into(), value: Value::Text(value.into()) }
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns about how many bytes it takes.
    pub(crate) const fn bytes(&self) -> usize {
        size_of::<Self>() + self.name.len() + self.value.bytes()
    }

    /// Returns the value as text.
    pub fn value(&self) -> String {
        match &self.value {
            Value::Text(text) => text.clone(),
            Value::Signed(number) => number.to_string(),
            Value::Unsigned(number) => number.to_string(),
            Value::Float(number) => number.to_string(),
            Value::Flag(flag) => flag.to_string(),
        }
    }
}

/// What happened within a span.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// What, as in `exception`.
    pub name: String,
    /// How long after the span's begin.
    pub after: Duration,
    /// More about it.
    pub attributes: Vec<Attribute>,
}

/// How a span ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Status {
    /// Nobody said.
    #[default]
    Unset,
    /// Well.
    Ok,
    /// Badly, for this reason.
    Error(String),
}

/// The part a span plays between processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// None.
    #[default]
    Internal,
    /// It serves a request.
    Server,
    /// It makes a request.
    Client,
    /// It sends a message that somebody handles later.
    Producer,
    /// It handles a message.
    Consumer,
}

/// A span that has ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// The span's name.
    pub name: String,
    /// Its trace and its own id.
    pub context: TraceContext,
    /// The span that caused it.
    pub parent: Option<u64>,
    /// The part it plays.
    pub kind: Kind,
    /// When it began.
    pub start: Timestamp,
    /// How long it took.
    pub duration: Duration,
    /// Its attributes.
    pub attributes: Vec<Attribute>,
    /// What happened within it, at most 128 events.
    pub events: Vec<Event>,
    /// Spans of other traces that it belongs to, at most 32.
    pub links: Vec<TraceContext>,
    /// How it ended.
    pub status: Status,
}

impl Finished {
    /// Returns the text of an attribute.
    pub fn attribute(&self, name: &str) -> Option<String> {
        self.attributes.iter().find(|attribute| attribute.name == name).map(Attribute::value)
    }
}

impl Parcel for Finished {
    const SIGNAL: Signal = Signal::Traces;

    fn bytes(&self) -> usize {
        let texts =
            |attributes: &[Attribute]| attributes.iter().map(Attribute::bytes).sum::<usize>();
        let of = |event: &Event| size_of::<Event>() + event.name.len() + texts(&event.attributes);
        let status = match &self.status {
            Status::Error(message) => message.len(),
            Status::Unset | Status::Ok => 0,
        };
        let own = size_of::<Self>() + self.name.len() + status + texts(&self.attributes);
        own + size_of_val(self.links.as_slice()) + self.events.iter().map(of).sum::<usize>()
    }
}
