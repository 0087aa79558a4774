//! A thing that happened, as rules see it.

use std::{borrow::Cow, fmt::Debug};

use infra_core::{Error, Result, codec::CodecTag, event::RecordedEvent};
use serde_json::Value;

/// The name of what happened, and its fields.
///
/// ```
/// use infra_cache::Signal;
/// use serde_json::json;
///
/// let signal = Signal::new("user_updated", json!({"user": {"id": 7}}));
/// assert_eq!(signal.text("user.id")?, "7");
/// assert!(signal.text("user.name").is_err());
/// # Ok::<(), infra_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Signal {
    name: String,
    fields: Value,
}

impl Signal {
    /// Creates a signal; `fields` is a JSON object, or null if there are none.
    pub fn new(name: impl Into<String>, fields: Value) -> Self {
        Self { name: name.into(), fields }
    }

    /// Reads a stored event: its type is the name, its JSON payload the fields. Its stream is the field `@stream`,
    /// and its metadata are the fields of `@metadata`, where rules need them.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](infra_core::ErrorKind::Unsupported) if the payload is of another codec,
    /// [`Corrupt`](infra_core::ErrorKind::Corrupt) if it is no JSON.
    pub fn of(event: &RecordedEvent) -> Result<Self> {
        let payload = &event.event.payload;
        if payload.codec != CodecTag::Json {
            let error = Error::new(infra_core::ErrorKind::Unsupported, "read event for rules");
            return Err(error.detail("a payload that is no JSON"));
        }
        let mut fields = match payload.decode::<Value>()? {
            Value::Object(fields) => fields,
            other @ (Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_)) => [("value".to_owned(), other)].into_iter().collect(),
        };
        fields.insert("@stream".to_owned(), event.stream.as_str().into());
        let metadata = event.event.metadata.iter();
        let metadata = metadata.map(|(name, value)| (name.clone(), value.clone().into()));
        fields.insert("@metadata".to_owned(), Value::Object(metadata.collect()));
        Ok(Self::new(event.event.event_type.as_str(), Value::Object(fields)))
    }

    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the value at a path of field names divided by dots; in a list a name is a number from zero.
    pub fn get(&self, path: &str) -> Option<&Value> {
        path.split('.').try_fold(&self.fields, |value, name| match value {
            Value::Object(fields) => fields.get(name),
            Value::Array(items) => items.get(name.parse::<usize>().ok()?),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
        })
    }

    /// Returns the text, number or truth value at a path, as text.
    ///
    /// # Errors
    ///
    /// [`Invalid`](infra_core::ErrorKind::Invalid) if there is nothing, null, a list or an object.
    pub fn text(&self, path: &str) -> Result<Cow<'_, str>> {
        match self.get(path) {
            Some(Value::String(text)) => Ok(Cow::Borrowed(text)),
            Some(Value::Number(number)) => Ok(Cow::Owned(number.to_string())),
            Some(Value::Bool(truth)) => Ok(Cow::Owned(truth.to_string())),
            Some(Value::Null | Value::Array(_) | Value::Object(_)) | None => {
                let what = format!("no text at `{path}` of `{}`", self.name);
                Err(Error::invalid("read field of signal", what))
            }
        }
    }

    /// Returns whether the text at a path is this one.
    pub fn is(&self, path: &str, text: &str) -> bool {
        self.text(path).is_ok_and(|found| found == text)
    }

    pub(super) fn renamed(&self, name: &str) -> Self {
        Self { name: name.to_owned(), fields: self.fields.clone() }
    }
}
