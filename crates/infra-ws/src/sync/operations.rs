//! Changes that clients propose, and what the server answers.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::{document::Document, patch::Op};

/// The most answers that are remembered for one client.
const MAX_ANSWERS: usize = 64;

/// A change that a client proposes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operation {
    /// The client's number for it; a repeated one gets the first answer.
    pub id: u64,
    /// The version that the client saw.
    pub base: u64,
    /// What to change.
    pub op: Op,
}

/// What the server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It is done.
    Accepted,
    /// The place was changed by another since the client looked.
    Conflict,
    /// It does not fit the state.
    Unfit,
}

/// What to do with a change of a place that another changed since the client looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Conflict {
    /// Refuse it: the server's state stands.
    #[default]
    Refuse,
    /// Apply it: the last write wins.
    LastWins,
}

/// Applies proposed changes to a document, each once.
#[derive(Debug, Default)]
pub struct Operations {
    policy: Conflict,
    /// The version at whose tick a place was changed last.
    changed: BTreeMap<String, u64>,
    answers: HashMap<String, BTreeMap<u64, Answer>>,
}

impl Operations {
    /// Creates a desk with a conflict policy.
    pub fn new(policy: Conflict) -> Self {
        Self { policy, ..Self::default() }
    }

    /// Applies a client's change to `document`, which shows it at its next tick.
    pub fn apply(
        &mut self,
        document: &mut Document,
        client: &str,
        operation: &Operation,
    ) -> Answer {
        if let Some(first) = self.answers.get(client).and_then(|known| known.get(&operation.id)) {
            return *first;
        }
        let answer = self.decide(document, operation);
        let known = self.answers.entry(client.to_owned()).or_default();
        known.insert(operation.id, answer);
        if MAX_ANSWERS < known.len() {
            known.pop_first();
        }
        answer
    }

    /// Forgets a client that is gone for good.
    pub fn forget(&mut self, client: &str) {
        self.answers.remove(client);
    }

    fn decide(&mut self, document: &mut Document, operation: &Operation) -> Answer {
        let path = operation.op.path();
        if self.policy == Conflict::Refuse && operation.base < self.changed_at(path) {
            return Answer::Conflict;
        }
        let mut state = document.latest().clone();
        if operation.op.apply(&mut state).is_err() {
            return Answer::Unfit;
        }
        document.set(state);
        self.changed.insert(path.to_owned(), document.version() + 1);
        // What every client that gets deltas has seen cannot be in conflict with it.
        let old = document.version().saturating_sub(10);
        self.changed.retain(|_, version| old < *version);
        Answer::Accepted
    }

    /// Returns when a place, something in it or something around it was changed last.
    fn changed_at(&self, path: &str) -> u64 {
        let within = |inner: &str, outer: &str| {
            inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let related = |other: &str| within(path, other) || within(other, path);
        let changed = self.changed.iter().filter(|(other, _)| related(other));
        changed.map(|(_, version)| *version).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn set(id: u64, base: u64, path: &str, value: u64) -> Operation {
        let op = Op::Replace { path: path.to_owned(), value: json!(value) };
        Operation { id, base, op }
    }

    fn two(policy: Conflict) -> (Document, [Answer; 3]) {
        let mut document = Document::new(json!({"a": {"x": 0}, "b": 0}));
        let mut desk = Operations::new(policy);
        let first = desk.apply(&mut document, "ann", &set(1, 1, "/a/x", 1));
        document.tick();
        let second = desk.apply(&mut document, "bob", &set(1, 1, "/a/x", 2));
        let third = desk.apply(&mut document, "bob", &set(2, 1, "/b", 3));
        document.tick();
        (document, [first, second, third])
    }

    #[test]
    fn a_change_of_what_another_changed_is_refused_or_wins_by_policy() {
        let (document, answers) = two(Conflict::Refuse);
        assert_eq!(answers, [Answer::Accepted, Answer::Conflict, Answer::Accepted]);
        assert_eq!(document.state(), &json!({"a": {"x": 1}, "b": 3}));
        let (document, answers) = two(Conflict::LastWins);
        assert_eq!(answers, [Answer::Accepted; 3]);
        assert_eq!(document.state(), &json!({"a": {"x": 2}, "b": 3}));
    }

    #[test]
    fn around_and_within_is_a_conflict_and_beside_is_not() {
        let mut document = Document::new(json!({"a": {"x": 0}, "ab": 0}));
        let mut desk = Operations::new(Conflict::Refuse);
        desk.apply(&mut document, "ann", &set(1, 1, "/a", 1));
        document.tick();
        assert_eq!(desk.apply(&mut document, "bob", &set(1, 1, "/a/x", 2)), Answer::Conflict);
        assert_eq!(desk.apply(&mut document, "bob", &set(2, 1, "/ab", 2)), Answer::Accepted);
    }

    #[test]
    fn a_repeated_operation_gets_its_first_answer_and_is_done_once() {
        let mut document = Document::new(json!({"list": []}));
        let mut desk = Operations::default();
        let op = Op::Add { path: "/list/-".to_owned(), value: json!(1) };
        let operation = Operation { id: 7, base: 1, op };
        for _ in 0..3 {
            assert_eq!(desk.apply(&mut document, "ann", &operation), Answer::Accepted);
        }
        let unfit = set(8, 1, "/nowhere/x", 1);
        assert_eq!(desk.apply(&mut document, "ann", &unfit), Answer::Unfit);
        document.tick();
        assert_eq!(document.state(), &json!({"list": [1]}));
        desk.forget("ann");
        assert!(desk.answers.is_empty());
    }
}
