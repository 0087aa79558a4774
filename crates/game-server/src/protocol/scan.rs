//! How deep a message is nested, found without parsing it.

/// Returns where `json` opens more than `limit` objects and lists at once, if it does.
///
/// It reads brackets outside of strings only, so it is right for every text that is JSON, and
/// harmless for every other.
pub(super) fn too_deep(json: &[u8], limit: usize) -> Option<usize> {
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut escaped = false;
    for (at, byte) in json.iter().enumerate() {
        match (in_string, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_string = !in_string,
            (false, b'{' | b'[') => {
                depth += 1;
                if limit < depth {
                    return Some(at);
                }
            }
            (false, b'}' | b']') => depth = depth.saturating_sub(1),
            (_, _) => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn depth(value: &Value) -> usize {
        match value {
            Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
            Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
        }
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![Just(Value::Null), "[\\[\\]{}\"\\\\a]{0,6}".prop_map(Value::String)];
        leaf.prop_recursive(6, 40, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                prop::collection::hash_map("[\\[{\"\\\\b]{0,3}", inner, 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn brackets_are_counted_as_a_parser_counts_them(value in json(), limit in 0_usize..9) {
            let text = value.to_string();
            prop_assert_eq!(too_deep(text.as_bytes(), limit).is_some(), limit < depth(&value));
        }

        #[test]
        fn any_bytes_are_scanned_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
            let at = too_deep(&bytes, 3);
            prop_assert!(at.is_none_or(|at| at < bytes.len()));
        }
    }

    #[test]
    fn the_place_of_the_bracket_too_many_is_told() {
        assert_eq!(too_deep(b"[[[", 2), Some(2));
        assert_eq!(too_deep(b"]]][[", 2), None);
        assert_eq!(too_deep(br#""[[[""#, 0), None);
    }
}
