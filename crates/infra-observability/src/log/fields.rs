//! The fields of spans and events: bounded in size, secrets taken out.

use std::fmt::{self, Write};

use tracing::field::{Field, Visit};

/// The longest text of one field in bytes; the rest is cut and marked.
const MAX_TEXT: usize = 4_096;

/// The most fields of one span or event; the rest is left out.
const MAX_FIELDS: usize = 64;

/// What stands in the place of a secret.
pub(crate) const REDACTED: &str = "[redacted]";

/// The fields whose values are never written: a name that contains one of these, in any case.
const SECRETS: [&str; 7] =
    ["token", "secret", "password", "authorization", "cookie", "hand", "entropy"];

/// The value of a field.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Text(String),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Flag(bool),
}

impl Value {
    /// Returns the bytes that it holds beside itself.
    pub(crate) const fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Signed(_) | Self::Unsigned(_) | Self::Float(_) | Self::Flag(_) => 0,
        }
    }
}

/// What a span or an event carries.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Fields {
    pub(crate) message: String,
    pub(crate) named: Vec<(&'static str, Value)>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: impl FnOnce() -> Value) {
        let name = field.name();
        if name == "message" {
            self.message = match value() {
                Value::Text(text) => text,
                Value::Signed(number) => number.to_string(),
                Value::Unsigned(number) => number.to_string(),
                Value::Float(number) => number.to_string(),
                Value::Flag(flag) => flag.to_string(),
            };
            return;
        }
        let value = if is_secret(name) { Value::Text(REDACTED.to_owned()) } else { value() };
        // A field that is recorded again has its last value.
        if let Some(known) = self.named.iter_mut().find(|(known, _)| *known == name) {
            known.1 = value;
        } else if self.named.len() < MAX_FIELDS {
            self.named.push((name, value));
        }
    }
}

/// Returns whether values under this name are never written.
pub(crate) fn is_secret(name: &str) -> bool {
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return is_secret(&name.to_ascii_lowercase());
    }
    SECRETS.iter().any(|secret| name.contains(secret))
}

/// A text that takes no more than it may hold, and marks the cut.
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let room = MAX_TEXT.saturating_sub(self.0.len());
        if s.len() <= room {
            self.0.push_str(s);
            return Ok(());
        }
        let end = (0..=room).rev().find(|end| s.is_char_boundary(*end)).unwrap_or(0);
        self.0.push_str(s.get(..end).unwrap_or_default());
        self.0.push('\u{2026}');
        // Nothing more is asked for: a huge `Debug` ends here.
        Err(fmt::Error)
    }
}

fn text(value: fmt::Arguments<'_>) -> Value {
    let mut bounded = Bounded(String::new());
    // An error is the cut.
    let _ = bounded.write_fmt(value);
    Value::Text(bounded.0)
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, || text(format_args!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, || text(format_args!("{value}")));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, || Value::Signed(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, || Value::Unsigned(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, || Value::Float(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, || Value::Flag(value));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field, || {
            let mut bounded = Bounded(String::new());
            let _ = write!(bounded, "{value}");
            let mut cause = value.source();
            while let Some(next) = cause {
                let _ = write!(bounded, ": {next}");
                cause = next.source();
            }
            Value::Text(bounded.0)
        });
    }
}
