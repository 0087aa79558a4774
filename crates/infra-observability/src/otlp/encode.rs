//! What all signals have in common in the JSON form of OTLP.

use std::time::Duration;

use infra_core::clock::Timestamp;
use serde_json::{Value as Json, json};

use crate::{buffer::Parcel, log::Value, trace::Attribute};

/// How a kind of items is told to a collector.
pub trait Encode: Parcel + Sized {
    /// The path where the collector takes them.
    const PATH: &'static str;

    /// Returns the request that holds these items, with the attributes of what made them.
    fn request(resource: &[Attribute], items: &[Self]) -> Json;
}

/// Returns who made the items, within what `resource` is.
pub(super) fn scope() -> Json {
    json!({"name": env!("CARGO_PKG_NAME"), "version": env!("CARGO_PKG_VERSION")})
}

/// Returns nanoseconds since the Unix epoch; 64-bit numbers are text in this form.
pub(super) fn nanos(start: Timestamp, after: Duration) -> String {
    (u128::from(start.as_millis()) * 1_000_000 + after.as_nanos()).to_string()
}

pub(super) fn attributes(attributes: &[Attribute]) -> Vec<Json> {
    let pair = |Attribute { name, value }: &Attribute| {
        let value = match value {
            Value::Text(text) => json!({"stringValue": text}),
            Value::Signed(number) => json!({"intValue": number.to_string()}),
            Value::Unsigned(number) => json!({"intValue": number.to_string()}),
            Value::Float(number) if !number.is_finite() => {
                json!({"stringValue": number.to_string()})
            }
            Value::Float(number) => json!({"doubleValue": number}),
            Value::Flag(flag) => json!({"boolValue": flag}),
        };
        json!({"key": name, "value": value})
    };
    attributes.iter().map(pair).collect()
}
