//! How an entry is written: flat JSON, logfmt, or text for people.

use std::fmt::Write;

use tracing::Level;

use super::{entry::Entry, fields::Value, time::rfc3339};

/// How an entry is written. Whatever the entry holds, it is one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// One flat JSON object: `timestamp`, `level`, `target`, `message`, the fields of the event and
    /// of its spans, `correlation_id`, `trace_id`, `span_id` where there is one, `spans`.
    #[default]
    Json,
    /// `key=value` pairs, quoted where they need to be.
    Logfmt,
    /// Text for a person at a terminal, without colours.
    Pretty,
}

impl Format {
    pub(super) fn write(self, entry: &Entry<'_>, into: &mut String) {
        match self {
            Self::Json => json(entry, into),
            Self::Logfmt => logfmt(entry, into),
            Self::Pretty => pretty(entry, into),
        }
        into.push('\n');
    }
}

// Writing to a `String` cannot fail, so the results below are not looked at.

fn json(entry: &Entry<'_>, into: &mut String) {
    let _ = write!(into, "{{\"timestamp\":\"{}\"", rfc3339(entry.time));
    let _ = write!(into, ",\"level\":\"{}\",\"target\":", entry.level);
    quote(into, entry.target);
    into.push_str(",\"message\":");
    quote(into, entry.message);
    for (name, value) in &entry.fields {
        into.push(',');
        quote(into, name);
        into.push(':');
        match &**value {
            Value::Text(text) => quote(into, text),
            // JSON has no such numbers.
            Value::Float(number) if !number.is_finite() => quote(into, &number.to_string()),
            other @ (Value::Signed(_) | Value::Unsigned(_) | Value::Float(_) | Value::Flag(_)) => {
                plain(into, other);
            }
        }
    }
    if let Some(id) = entry.context.correlation_id() {
        let _ = write!(into, ",\"correlation_id\":\"{id}\"");
    }
    if let Some(trace) = entry.context.trace_context() {
        let (trace, span) = (trace.trace_id(), trace.span_id());
        let _ = write!(into, ",\"trace_id\":\"{trace:032x}\",\"span_id\":\"{span:016x}\"");
    }
    if !entry.spans.is_empty() {
        into.push_str(",\"spans\":[");
        for (place, name) in entry.spans.iter().enumerate() {
            into.push_str(if place == 0 { "" } else { "," });
            quote(into, name);
        }
        into.push(']');
    }
    into.push('}');
}

fn logfmt(entry: &Entry<'_>, into: &mut String) {
    let _ = write!(into, "timestamp={} level={} target=", rfc3339(entry.time), entry.level);
    word(into, entry.target);
    into.push_str(" message=");
    word(into, entry.message);
    pairs(entry, into);
    if !entry.spans.is_empty() {
        into.push_str(" spans=");
        word(into, &entry.spans.join(":"));
    }
}

fn pretty(entry: &Entry<'_>, into: &mut String) {
    let _ = write!(into, "{} {:>5} {}", rfc3339(entry.time), entry.level, entry.target);
    if !entry.spans.is_empty() {
        let _ = write!(into, " {{{}}}", entry.spans.join(":"));
    }
    into.push_str(if entry.level <= Level::WARN { ": ! " } else { ": " });
    let _ = write!(into, "{}", escaped(entry.message));
    pairs(entry, into);
}

fn pairs(entry: &Entry<'_>, into: &mut String) {
    for (name, value) in &entry.fields {
        into.push(' ');
        let is_key = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        into.extend(name.chars().map(|c| if is_key(c) { c } else { '_' }));
        into.push('=');
        match &**value {
            Value::Text(text) => word(into, text),
            other @ (Value::Signed(_) | Value::Unsigned(_) | Value::Float(_) | Value::Flag(_)) => {
                plain(into, other);
            }
        }
    }
    if let Some(id) = entry.context.correlation_id() {
        let _ = write!(into, " correlation_id={id}");
    }
    if let Some(trace) = entry.context.trace_context() {
        let (trace, span) = (trace.trace_id(), trace.span_id());
        let _ = write!(into, " trace_id={trace:032x} span_id={span:016x}");
    }
}

fn plain(into: &mut String, value: &Value) {
    let _ = match value {
        Value::Text(text) => write!(into, "{text}"),
        Value::Signed(number) => write!(into, "{number}"),
        Value::Unsigned(number) => write!(into, "{number}"),
        Value::Float(number) => write!(into, "{number}"),
        Value::Flag(flag) => write!(into, "{flag}"),
    };
}

/// Writes a JSON string; control characters are escaped, so that the entry stays one line.
fn quote(into: &mut String, text: &str) {
    into.push('"');
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c == '"' || c == '\\' || c.is_control()) {
        into.push_str(rest.get(..at).unwrap_or_default());
        let Some(c) = rest.get(at..).and_then(|rest| rest.chars().next()) else { break };
        let _ = match c {
            '"' | '\\' => write!(into, "\\{c}"),
            '\n' => write!(into, "\\n"),
            other => write!(into, "\\u{:04x}", u32::from(other)),
        };
        rest = rest.get(at + c.len_utf8()..).unwrap_or_default();
    }
    into.push_str(rest);
    into.push('"');
}

fn word(into: &mut String, text: &str) {
    let is_plain = |c: char| !c.is_control() && !c.is_whitespace() && !"\"=\\".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        into.push_str(text);
    } else {
        quote(into, text);
    }
}

fn escaped(text: &str) -> String {
    text.chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .collect()
}
