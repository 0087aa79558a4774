//! JSON in which no object names a field twice.

use std::{cell::RefCell, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::{code::ErrorCode, malformed::Malformed};

/// Parses one JSON value and nothing after it.
///
/// # Errors
///
/// [`ErrorCode::BadJson`] with the place, or [`ErrorCode::DuplicateField`] with the field.
pub(super) fn parse(json: &[u8]) -> Result<Value, Malformed> {
    let twice = RefCell::new(None);
    let mut reader = serde_json::Deserializer::from_slice(json);
    let parsed = Strict { twice: &twice }.deserialize(&mut reader);
    let complete = parsed.and_then(|value| reader.end().map(|()| value));
    complete.map_err(|error| match twice.take() {
        Some(field) => {
            Malformed::new(ErrorCode::DuplicateField, "a field is named twice").at(&field)
        }
        None => Malformed::new(ErrorCode::BadJson, error.to_string()),
    })
}

#[derive(Clone, Copy)]
struct Strict<'a> {
    /// The name of the field that was found twice.
    twice: &'a RefCell<Option<String>>,
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(Value::Number(v.into()))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(Value::Number(v.into()))
    }

    fn visit_f64<E: Error>(self, v: f64) -> Result<Value, E> {
        Number::from_f64(v).map(Value::Number).ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(Value::String(v.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(self)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            let value = map.next_value_seed(self)?;
            if fields.contains_key(&name) {
                self.twice.replace(Some(name));
                return Err(A::Error::custom("a field is named twice"));
            }
            fields.insert(name, value);
        }
        Ok(Value::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_field_named_twice_is_refused_at_any_depth() {
        for json in [r#"{"a":1,"a":1}"#, r#"[{"b":{"a":1,"c":[],"a":2}}]"#] {
            let error = parse(json.as_bytes()).unwrap_err();
            assert_eq!(
                (error.code, error.field.as_deref()),
                (ErrorCode::DuplicateField, Some("a"))
            );
        }
        assert!(parse(br#"[{"a":1},{"a":1}]"#).is_ok());
    }

    #[test]
    fn what_follows_the_value_is_refused() {
        let error = parse(b"{} {}").unwrap_err();
        assert_eq!(error.code, ErrorCode::BadJson);
        assert!(error.message.contains("column 4"), "{}", error.message);
        assert!(parse(b" {} \n").is_ok());
    }

    proptest! {
        #[test]
        fn it_reads_what_an_ordinary_parser_reads(text in r#"[\[\]{}",:0-9a.eE\-]{0,12}"#) {
            let ordinary: Option<Value> = serde_json::from_str(&text).ok();
            match parse(text.as_bytes()) {
                Ok(value) => prop_assert_eq!(Some(value), ordinary),
                Err(error) if error.code == ErrorCode::DuplicateField => {}
                Err(_) => prop_assert_eq!(None, ordinary),
            }
        }
    }
}
