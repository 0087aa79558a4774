//! The hash of a state, over one canonical text of it.

use std::fmt::Write;

use serde_json::Value;
use sha2::{Digest, Sha256};

/// Returns the canonical JSON of a value: no spaces, the fields of an object in the order of their
/// names' bytes, numbers as the wire has them.
pub fn canonical(value: &Value) -> String {
    let mut text = String::new();
    write(value, &mut text);
    text
}

fn write(value: &Value, text: &mut String) {
    match value {
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if 0 < index {
                    text.push(',');
                }
                write(item, text);
            }
            text.push(']');
        }
        Value::Object(fields) => {
            let mut names: Vec<_> = fields.iter().collect();
            names.sort_unstable_by_key(|(name, _)| *name);
            text.push('{');
            for (index, (name, item)) in names.into_iter().enumerate() {
                if 0 < index {
                    text.push(',');
                }
                leaf(&Value::String(name.clone()), text);
                text.push(':');
                write(item, text);
            }
            text.push('}');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => leaf(value, text),
    }
}

fn leaf(value: &Value, text: &mut String) {
    // Writing to a string cannot fail.
    let _written = write!(text, "{value}").is_ok();
}

/// Returns the SHA-256 of the canonical JSON, as 64 hexadecimal digits.
pub fn hash(value: &Value) -> String {
    let digest = Sha256::digest(canonical(value).as_bytes());
    digest.iter().fold(String::with_capacity(64), |mut text, byte| {
        let _written = write!(text, "{byte:02x}").is_ok();
        text
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_order_of_fields_does_not_change_the_hash_and_anything_else_does() {
        let one: Value =
            serde_json::from_str(r#"{"b":[1,{"d":null,"c":"x\n"}],"a":true}"#).unwrap();
        let two: Value =
            serde_json::from_str(r#"{"a":true,"b":[1,{"c":"x\n","d":null}]}"#).unwrap();
        assert_eq!(canonical(&one), r#"{"a":true,"b":[1,{"c":"x\n","d":null}]}"#);
        assert_eq!(hash(&one), hash(&two));
        assert_ne!(hash(&one), hash(&json!({"a": true})));
        // Of the empty object, as any implementation of SHA-256 has it.
        let empty = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
        assert_eq!(hash(&json!({})), empty);
    }
}
