//! A client that shows its own changes before the server has them.

use std::collections::VecDeque;

use serde_json::Value;

use super::{
    document::Update,
    operations::{Answer, Operation},
    patch::{Op, Unfit},
    replica::{NeedsFull, Replica},
};

/// A replica with the client's own changes on top that are not answered yet.
///
/// The server's state is never mixed with them: each update and each refusal puts what is still
/// open onto the fresh state again (a rebase), and what no longer fits is left out of the picture
/// until it is answered.
#[derive(Debug, Default)]
pub struct Optimist {
    replica: Replica,
    pending: VecDeque<Operation>,
    next: u64,
    shown: Value,
}

impl Optimist {
    /// Creates a client of nothing yet.
    pub fn new() -> Self {
        Self { next: 1, ..Self::default() }
    }

    /// Returns what to show: the server's state with the client's own changes on top.
    pub const fn shown(&self) -> &Value {
        &self.shown
    }

    /// Returns the server's state alone.
    pub const fn replica(&self) -> &Replica {
        &self.replica
    }

    /// Returns what is not answered yet; after a reconnection it is sent again.
    pub fn pending(&self) -> impl Iterator<Item = &Operation> {
        self.pending.iter()
    }

    /// Shows a change at once and returns the operation to send.
    ///
    /// # Errors
    ///
    /// [`Unfit`] if it does not fit what is shown.
    pub fn propose(&mut self, op: Op) -> Result<Operation, Unfit> {
        op.apply(&mut self.shown)?;
        let operation = Operation { id: self.next, base: self.replica.version().unwrap_or(0), op };
        self.next += 1;
        self.pending.push_back(operation.clone());
        Ok(operation)
    }

    /// Takes the server's answer; an accepted change stays on top until an update brings it.
    pub fn answered(&mut self, id: u64, answer: Answer) {
        match answer {
            Answer::Accepted => {}
            Answer::Conflict | Answer::Unfit => self.pending.retain(|pending| pending.id != id),
        }
        self.rebase();
    }

    /// Takes an update that holds the changes up to `applied`, the last of this client's numbers
    /// that the server had answered when it made the update.
    ///
    /// # Errors
    ///
    /// As for [`Replica::apply`].
    pub fn apply(&mut self, update: Update, applied: u64) -> Result<(), NeedsFull> {
        self.replica.apply(update)?;
        self.pending.retain(|pending| applied < pending.id);
        self.rebase();
        Ok(())
    }

    fn rebase(&mut self) {
        self.shown = self.replica.state().clone();
        for pending in &self.pending {
            let _fits = pending.op.apply(&mut self.shown).is_ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::sync::{document::Document, operations::Operations};

    fn put(field: &str, value: u64) -> Op {
        Op::Add { path: format!("/{field}"), value: json!(value) }
    }

    #[test]
    fn a_refused_change_is_taken_back_and_the_others_stay() {
        let mut document = Document::new(json!({"a": 0}));
        let mut client = Optimist::new();
        client.apply(document.update_for(None), 0).unwrap();
        let refused = client.propose(put("a", 1)).unwrap();
        client.propose(put("b", 2)).unwrap();
        assert_eq!(client.shown(), &json!({"a": 1, "b": 2}));
        client.answered(refused.id, Answer::Conflict);
        assert_eq!(client.shown(), &json!({"a": 0, "b": 2}));
        document.set(json!({"a": 9}));
        document.tick();
        client.apply(document.update_for(Some(1)), 0).unwrap();
        assert_eq!(client.shown(), &json!({"a": 9, "b": 2}));
        assert_eq!(client.pending().count(), 1);
    }

    proptest! {
        #[test]
        fn when_all_is_answered_every_client_shows_the_servers_state(
            steps in proptest::collection::vec((0..2_usize, 0..3_usize, 0..9_u64, any::<bool>()), 1..60),
        ) {
            let mut document = Document::new(json!({}));
            let mut desk = Operations::default();
            let mut clients = [Optimist::new(), Optimist::new()];
            let mut applied = [0, 0];
            for client in &mut clients {
                client.apply(document.update_for(None), 0).unwrap();
            }
            for (who, field, value, is_tick) in steps {
                let operation = clients[who].propose(put(["a", "b", "c"][field], value)).unwrap();
                let answer = desk.apply(&mut document, ["ann", "bob"][who], &operation);
                clients[who].answered(operation.id, answer);
                applied[who] = operation.id;
                if is_tick {
                    document.tick();
                    for (client, applied) in clients.iter_mut().zip(applied) {
                        let version = client.replica().version();
                        client.apply(document.update_for(version), applied).unwrap();
                    }
                }
            }
            document.tick();
            for (client, applied) in clients.iter_mut().zip(applied) {
                let version = client.replica().version();
                client.apply(document.update_for(version), applied).unwrap();
                prop_assert_eq!(client.shown(), document.state());
                prop_assert_eq!(client.pending().count(), 0);
            }
        }
    }
}
