//! Differences between two JSON values: a subset of JSON Patch (RFC 6902).

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One step of a patch; `path` is a JSON Pointer (RFC 6901).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum Op {
    /// Adds a field, or inserts an item before the one at its place (`-` is the end).
    Add {
        /// Where.
        path: String,
        /// What.
        value: Value,
    },
    /// Takes a field or an item away.
    Remove {
        /// Which.
        path: String,
    },
    /// Puts another value in the place of what is there.
    Replace {
        /// Where; empty for the whole.
        path: String,
        /// What.
        value: Value,
    },
}

/// Steps, in order.
pub type Patch = Vec<Op>;

/// A patch that does not fit the value it was applied to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    path: String,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "patch does not fit at {:?}", self.path)
    }
}

impl std::error::Error for Unfit {}

impl Op {
    /// Returns where the step works.
    pub fn path(&self) -> &str {
        match self {
            Self::Add { path, .. } | Self::Remove { path } | Self::Replace { path, .. } => path,
        }
    }

    /// Applies the step.
    ///
    /// # Errors
    ///
    /// [`Unfit`] if its place is not there; the value is unchanged then.
    pub fn apply(&self, target: &mut Value) -> Result<(), Unfit> {
        let unfit = || Unfit { path: self.path().to_owned() };
        if self.path().is_empty() {
            return match self {
                Self::Replace { value, .. } | Self::Add { value, .. } => {
                    *target = value.clone();
                    Ok(())
                }
                Self::Remove { .. } => Err(unfit()),
            };
        }
        let (parent, last) = self.path().rsplit_once('/').ok_or_else(unfit)?;
        let parent = target.pointer_mut(parent).ok_or_else(unfit)?;
        let name = last.replace("~1", "/").replace("~0", "~");
        match parent {
            Value::Object(fields) => self.apply_to_object(fields, &name).ok_or_else(unfit),
            Value::Array(items) => self.apply_to_array(items, &name).ok_or_else(unfit),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Err(unfit()),
        }
    }

    fn apply_to_object(&self, fields: &mut Map<String, Value>, name: &str) -> Option<()> {
        match self {
            Self::Add { value, .. } => {
                fields.insert(name.to_owned(), value.clone());
            }
            Self::Remove { .. } => {
                fields.remove(name)?;
            }
            Self::Replace { value, .. } => *fields.get_mut(name)? = value.clone(),
        }
        Some(())
    }

    fn apply_to_array(&self, items: &mut Vec<Value>, name: &str) -> Option<()> {
        let index = if name == "-" { items.len() } else { place(name)? };
        match self {
            Self::Add { value, .. } => {
                (index <= items.len()).then(|| items.insert(index, value.clone()))?;
            }
            Self::Remove { .. } => {
                (index < items.len()).then(|| items.remove(index))?;
            }
            Self::Replace { value, .. } => *items.get_mut(index)? = value.clone(),
        }
        Some(())
    }
}

/// Reads an index as RFC 6901 writes it: no sign, no leading zero.
fn place(name: &str) -> Option<usize> {
    let is_plain =
        name == "0" || (!name.starts_with('0') && name.bytes().all(|b| b.is_ascii_digit()));
    is_plain.then(|| name.parse().ok()).flatten()
}

/// Returns steps that make `after` of `before`.
///
/// Objects are compared by field; arrays by what they have in common at both ends, with one run of
/// changes between.
pub fn diff(before: &Value, after: &Value) -> Patch {
    let mut steps = Patch::new();
    compare(before, after, &mut String::new(), &mut steps);
    steps
}

fn compare(before: &Value, after: &Value, path: &mut String, steps: &mut Patch) {
    match (before, after) {
        _ if before == after => {}
        (Value::Object(before), Value::Object(after)) => {
            for name in before.keys().filter(|name| !after.contains_key(*name)) {
                steps.push(Op::Remove { path: below(path, name) });
            }
            for (name, value) in after {
                let Some(old) = before.get(name) else {
                    steps.push(Op::Add { path: below(path, name), value: value.clone() });
                    continue;
                };
                let length = path.len();
                *path = below(path, name);
                compare(old, value, path, steps);
                path.truncate(length);
            }
        }
        (Value::Array(before), Value::Array(after)) => compare_arrays(before, after, path, steps),
        _ => steps.push(Op::Replace { path: path.clone(), value: after.clone() }),
    }
}

fn compare_arrays(before: &[Value], after: &[Value], path: &mut String, steps: &mut Patch) {
    let equal = |(one, two): &(&Value, &Value)| one == two;
    let head = before.iter().zip(after).take_while(equal).count();
    let tail_of = |items| <[Value]>::iter(items).skip(head).rev();
    let tail = tail_of(before).zip(tail_of(after)).take_while(equal).count();
    let (n_old, n_new) = (before.len() - head - tail, after.len() - head - tail);
    let (old, new) = (before.iter().skip(head), after.iter().skip(head));
    for (index, (old, new)) in old.zip(new).take(n_old.min(n_new)).enumerate() {
        let length = path.len();
        *path = below(path, &(head + index).to_string());
        compare(old, new, path, steps);
        path.truncate(length);
    }
    for _ in n_new..n_old {
        steps.push(Op::Remove { path: below(path, &(head + n_new).to_string()) });
    }
    for (index, value) in after.iter().enumerate().take(head + n_new).skip(head + n_old.min(n_new))
    {
        steps.push(Op::Add { path: below(path, &index.to_string()), value: value.clone() });
    }
}

fn below(path: &str, name: &str) -> String {
    format!("{path}/{}", name.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    pub(crate) fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-3..3_i64).prop_map(Value::from),
            "[ab/~0-]{0,3}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                proptest::collection::btree_map("[ab/~0-]{0,2}", inner, 0..5)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    #[test]
    fn a_player_who_joins_is_one_addition() {
        let (before, after) = (json!({"players": []}), json!({"players": ["player1"]}));
        let wanted = Op::Add { path: "/players/0".to_owned(), value: json!("player1") };
        assert_eq!(diff(&before, &after), [wanted]);
    }

    proptest! {
        #[test]
        fn applying_a_difference_gives_the_other_value(before in values(), after in values()) {
            let patch = diff(&before, &after);
            let mut value = before.clone();
            for op in &patch {
                op.apply(&mut value).unwrap();
            }
            prop_assert_eq!(&value, &after);
            prop_assert_eq!(patch.is_empty(), before == after);
        }

        #[test]
        fn a_step_that_does_not_fit_changes_nothing(
            before in values(), path in "(/[ab0-9-]{0,2}){0,3}", value in values(), which in 0..3_u8,
        ) {
            let op = match which {
                0 => Op::Add { path, value },
                1 => Op::Remove { path },
                _ => Op::Replace { path, value },
            };
            let mut target = before.clone();
            if op.apply(&mut target).is_err() {
                prop_assert_eq!(target, before);
            }
        }

        #[test]
        fn any_bytes_are_decoded_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(patch) = serde_json::from_slice::<Patch>(&bytes) {
                let mut value = json!({"a": [1]});
                let _fits = patch.iter().all(|op| op.apply(&mut value).is_ok());
            }
        }
    }
}
