//! The fields of a message, taken one by one; what is left over is unknown and refused.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{code::ErrorCode, limits::GREATEST_NUMBER, malformed::Malformed};

/// The fields of one object that have not been taken yet.
#[derive(Debug)]
pub(super) struct Fields {
    left: Map<String, Value>,
    /// The names of the fields that the object stands in, each with a dot after it.
    path: String,
}

impl Fields {
    /// Takes a whole message.
    pub(super) fn of_message(value: Value) -> Result<Self, Malformed> {
        match value {
            Value::Object(left) => Ok(Self { left, path: String::new() }),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_) => {
                Err(Malformed::new(ErrorCode::NotAnObject, "a message is a JSON object"))
            }
        }
    }

    /// Returns a field that is a number, without taking it and without complaint.
    pub(super) fn peek_number(&self, name: &str) -> Option<u64> {
        self.left.get(name).and_then(Value::as_u64)
    }

    /// Takes a field that must be there.
    pub(super) fn required<T: DeserializeOwned>(
        &mut self,
        name: &'static str,
    ) -> Result<T, Malformed> {
        let missing = Malformed::new(ErrorCode::MissingField, "a field is missing");
        let missing = missing.at(&self.full_name(name));
        self.optional(name)?.ok_or(missing)
    }

    /// Takes a field that may be absent or null.
    pub(super) fn optional<T: DeserializeOwned>(
        &mut self,
        name: &'static str,
    ) -> Result<Option<T>, Malformed> {
        let Some(value) = self.left.remove(name).filter(|value| !value.is_null()) else {
            return Ok(None);
        };
        serde_json::from_value(value).map(Some).map_err(|error| self.invalid(name, &error))
    }

    /// Takes a whole number of at least `least` that every JSON reader keeps exactly.
    pub(super) fn number(&mut self, name: &'static str, least: u64) -> Result<u64, Malformed> {
        let number = self.required(name)?;
        if (least..=GREATEST_NUMBER).contains(&number) {
            return Ok(number);
        }
        Err(self.invalid(name, &format!("a whole number from {least} to {GREATEST_NUMBER}")))
    }

    /// Takes an object that may be absent or null.
    pub(super) fn object(&mut self, name: &'static str) -> Result<Option<Self>, Malformed> {
        let path = format!("{}.", self.full_name(name));
        let left: Option<Map<String, Value>> = self.optional(name)?;
        Ok(left.map(|left| Self { left, path }))
    }

    /// Refuses what has not been taken.
    pub(super) fn finish(self) -> Result<(), Malformed> {
        self.left.keys().next().map_or(Ok(()), |name| {
            let unknown = Malformed::new(ErrorCode::UnknownField, "there is no such field here");
            Err(unknown.at(&self.full_name(name)))
        })
    }

    fn full_name(&self, name: &str) -> String {
        format!("{}{name}", self.path)
    }

    fn invalid(&self, name: &str, why: &impl ToString) -> Malformed {
        Malformed::new(ErrorCode::InvalidValue, why.to_string()).at(&self.full_name(name))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(value: Value) -> Fields {
        Fields::of_message(value).unwrap()
    }

    #[test]
    fn fields_are_taken_once_and_the_rest_is_unknown() {
        let mut some = fields(json!({"a": 1, "b": null, "c": "x"}));
        assert_eq!(some.peek_number("a"), Some(1));
        assert_eq!(some.required::<u8>("a"), Ok(1));
        assert_eq!(some.optional::<u8>("b"), Ok(None));
        let error = some.finish().unwrap_err();
        assert_eq!((error.code, error.field.as_deref()), (ErrorCode::UnknownField, Some("c")));
    }

    #[test]
    fn a_field_inside_another_is_named_with_it() {
        let mut outer = fields(json!({"resume": {"from": {"epoch": 3}}}));
        let mut resume = outer.object("resume").unwrap().unwrap();
        let mut from = resume.object("from").unwrap().unwrap();
        let error = from.required::<String>("epoch").unwrap_err();
        assert_eq!(error.field.as_deref(), Some("resume.from.epoch"));
        assert_eq!(error.code, ErrorCode::InvalidValue);
        let error = from.required::<u64>("offset").unwrap_err();
        assert_eq!(error.field.as_deref(), Some("resume.from.offset"));
        assert_eq!(error.code, ErrorCode::MissingField);
    }

    #[test]
    fn a_number_that_not_every_reader_keeps_is_refused() {
        for bad in [json!(0), json!(-1), json!(1.5), json!("1"), json!(9_007_199_254_740_992_u64)] {
            let error = fields(json!({"action": bad})).number("action", 1).unwrap_err();
            assert_eq!(error.code, ErrorCode::InvalidValue);
        }
        let greatest = json!({"action": 9_007_199_254_740_991_u64});
        assert_eq!(fields(greatest).number("action", 1), Ok(GREATEST_NUMBER));
    }

    #[test]
    fn only_an_object_has_fields() {
        for value in [json!(null), json!(true), json!(1), json!("x"), json!([])] {
            let error = Fields::of_message(value).unwrap_err();
            assert_eq!(error.code, ErrorCode::NotAnObject);
        }
    }
}
