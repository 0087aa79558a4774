//! Migrations of states and events from one schema version to another, forward and back.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::Arc,
};

use infra_core::{
    Error, ErrorKind, Result,
    codec::{CodecTag, Payload},
    machine::Upcaster,
};
use serde_json::Value;

use super::persistent::Persistent;

/// Turns a state's JSON of one schema version into that of another.
type Change = Arc<dyn Fn(Value) -> Result<Value> + Send + Sync>;

/// One step on the way from one schema version to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hop {
    /// The schema version that it reads.
    pub from: u32,
    /// The schema version that it writes.
    pub to: u32,
}

/// The migrations of one machine: steps between schema versions of its state, and upcasters of its events.
///
/// A path is the shortest chain of steps. A step never sees stored data, only values, so a step that
/// fails leaves everything as it was.
///
/// ```
/// use infra_core::Error;
/// use infra_persistence::state::Migrations;
/// use serde_json::json;
///
/// let migrations = Migrations::new().step(
///     1,
///     2,
///     |mut state| { state["bonus"] = json!(0); Ok(state) },
///     |mut state| { state.as_object_mut().map(|fields| fields.remove("bonus")); Ok(state) },
/// )?;
/// assert_eq!(migrations.migrate(json!({"score": 7}), 1, 2)?, json!({"score": 7, "bonus": 0}));
/// assert_eq!(migrations.migrate(json!({"score": 7, "bonus": 0}), 2, 1)?, json!({"score": 7}));
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Migrations {
    steps: HashMap<Hop, Change>,
    upcasters: Vec<Arc<dyn Upcaster>>,
}

impl Migrations {
    /// Creates none.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the step from an older schema version to a newer one, and its way back.
    ///
    /// # Errors
    ///
    /// `Invalid` if `to` is not above `from`, so that no cycle can arise, or if the step is there already.
    pub fn step(
        mut self,
        from: u32,
        to: u32,
        forward: impl Fn(Value) -> Result<Value> + Send + Sync + 'static,
        back: impl Fn(Value) -> Result<Value> + Send + Sync + 'static,
    ) -> Result<Self> {
        const ADD: &str = "add migration";
        if to <= from {
            return Err(Error::invalid(
                ADD,
                format!("{from} to {to} does not lead to a newer schema"),
            ));
        }
        if self.steps.contains_key(&Hop { from, to }) {
            return Err(Error::invalid(
                ADD,
                format!("there is a step from {from} to {to} already"),
            ));
        }
        self.steps.insert(Hop { from, to }, Arc::new(forward));
        self.steps.insert(Hop { from: to, to: from }, Arc::new(back));
        Ok(self)
    }

    /// Adds an upcaster of events.
    ///
    /// # Errors
    ///
    /// `Invalid` if there is one for the same type and schema version.
    pub fn upcaster(mut self, upcaster: Arc<dyn Upcaster>) -> Result<Self> {
        if self.upcaster_of(upcaster.event_type().as_str(), upcaster.reads_version()).is_some() {
            let (kind, version) = (upcaster.event_type(), upcaster.reads_version());
            return Err(Error::invalid(
                "add upcaster",
                format!("`{kind}` {version} has one already"),
            ));
        }
        self.upcasters.push(upcaster);
        Ok(self)
    }

    /// Returns the shortest chain of steps between two schema versions, without walking it: a dry run.
    ///
    /// # Errors
    ///
    /// `Unsupported` if none leads there.
    pub fn path(&self, from: u32, to: u32) -> Result<Vec<Hop>> {
        let mut came_by: HashMap<u32, Option<Hop>> = HashMap::from([(from, None)]);
        let mut waiting = VecDeque::from([from]);
        while let Some(at) = waiting.pop_front() {
            if at == to {
                return Ok(walk_back(&came_by, to));
            }
            let mut onward: Vec<Hop> =
                self.steps.keys().filter(|hop| hop.from == at).copied().collect();
            onward.sort_unstable();
            for hop in onward {
                came_by.entry(hop.to).or_insert_with(|| {
                    waiting.push_back(hop.to);
                    Some(hop)
                });
            }
        }
        Err(Error::new(ErrorKind::Unsupported, "migrate state")
            .detail(format!("no migration leads from schema {from} to {to}")))
    }

    /// Migrates a state's JSON from one schema version to another.
    ///
    /// # Errors
    ///
    /// `Unsupported` if no chain leads there, and what a step fails with, which then names the step.
    pub fn migrate(&self, state: Value, from: u32, to: u32) -> Result<Value> {
        self.path(from, to)?.into_iter().try_fold(state, |state, hop| {
            let Some(change) = self.steps.get(&hop) else {
                return Err(
                    Error::new(ErrorKind::Internal, "migrate state").detail("a step is gone")
                );
            };
            change(state).map_err(|cause| {
                Error::new(cause.kind().clone(), "migrate state")
                    .detail(format!("step from schema {} to {}", hop.from, hop.to))
                    .because(cause)
            })
        })
    }

    /// Reads a state that an older schema wrote.
    pub(super) fn read_state<M: Persistent>(&self, payload: &Payload) -> Result<M> {
        if payload.codec != CodecTag::Json {
            return Err(Error::new(ErrorKind::Unsupported, "migrate state").detail(format!(
                "{:?} of schema {} is not self-describing",
                payload.codec, payload.schema
            )));
        }
        let state = self.migrate(payload.decode()?, payload.schema, M::SCHEMA_VERSION)?;
        serde_json::from_value(state).map_err(|cause| {
            Error::new(ErrorKind::Corrupt, "migrate state")
                .detail(format!("the result is no `{}` of schema {}", M::NAME, M::SCHEMA_VERSION))
                .because(cause)
        })
    }

    /// Raises an event's payload to the machine's schema; a version without an upcaster left it as it was.
    pub(super) fn read_event<M: Persistent>(
        &self,
        kind: &str,
        payload: &Payload,
    ) -> Result<M::Event> {
        refuse_newer::<M>(payload.schema, "read event of machine")?;
        let mut payload = payload.clone();
        while payload.schema < M::SCHEMA_VERSION {
            let schema = payload.schema;
            if let Some(upcaster) = self.upcaster_of(kind, schema) {
                payload = upcaster.upcast(payload)?;
            }
            payload.schema = schema.saturating_add(1);
        }
        payload.decode()
    }

    fn upcaster_of(&self, kind: &str, schema: u32) -> Option<&Arc<dyn Upcaster>> {
        let is_it = |upcaster: &&Arc<dyn Upcaster>| {
            upcaster.event_type().as_str() == kind && upcaster.reads_version() == schema
        };
        self.upcasters.iter().find(is_it)
    }
}

impl fmt::Debug for Migrations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut hops: Vec<_> = self.steps.keys().collect();
        hops.sort_unstable();
        f.debug_struct("Migrations")
            .field("steps", &hops)
            .field("upcasters", &self.upcasters)
            .finish()
    }
}

fn walk_back(came_by: &HashMap<u32, Option<Hop>>, to: u32) -> Vec<Hop> {
    let mut hops = Vec::new();
    let mut at = to;
    while let Some(Some(hop)) = came_by.get(&at) {
        hops.push(*hop);
        at = hop.from;
    }
    hops.reverse();
    hops
}

/// Refuses what a newer version of the program wrote, before anything is read from it or written to it.
pub(super) fn refuse_newer<M: Persistent>(schema: u32, operation: &'static str) -> Result<()> {
    if schema <= M::SCHEMA_VERSION {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Unsupported, operation).detail(format!(
        "`{}` of schema {schema} was written by a newer version; this one knows {}",
        M::NAME,
        M::SCHEMA_VERSION
    )))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn push(name: &'static str) -> impl Fn(Value) -> Result<Value> + Send + Sync {
        move |mut state| {
            let names = state.as_array_mut().ok_or_else(|| Error::invalid("push", "no list"))?;
            names.push(json!(name));
            Ok(state)
        }
    }

    fn chain() -> Migrations {
        Migrations::new()
            .step(1, 2, push("1-2"), push("2-1"))
            .and_then(|all| all.step(2, 3, push("2-3"), push("3-2")))
            .and_then(|all| all.step(3, 4, push("3-4"), push("4-3")))
            .and_then(|all| all.step(2, 4, push("2-4"), push("4-2")))
            .unwrap()
    }

    #[test]
    fn the_shortest_chain_is_taken_either_way() {
        let cases = [
            (1, 4, json!(["1-2", "2-4"])),
            (4, 1, json!(["4-2", "2-1"])),
            (1, 3, json!(["1-2", "2-3"])),
            (3, 3, json!([])),
        ];
        for (from, to, expected) in cases {
            assert_eq!(chain().migrate(json!([]), from, to).unwrap(), expected);
        }
        assert_eq!(chain().path(1, 2).unwrap(), [Hop { from: 1, to: 2 }]);
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let unknown = chain().path(1, 9).unwrap_err();
        assert_eq!(unknown.kind(), &ErrorKind::Unsupported);
        assert!(unknown.to_string().contains("from schema 1 to 9"), "{unknown}");
        for (from, to) in [(3, 3), (4, 2), (1, 2)] {
            let refused = chain().step(from, to, push("a"), push("b")).unwrap_err();
            assert_eq!(refused.kind(), &ErrorKind::Invalid, "{from} to {to}");
        }
    }

    #[test]
    fn a_step_that_fails_is_named_and_the_value_is_the_callers_still() {
        let migrations = chain().step(4, 5, |_| Err(Error::invalid("x", "bad")), Ok).unwrap();
        let state = json!([]);
        let failed = migrations.migrate(state.clone(), 1, 5).unwrap_err();
        assert!(failed.to_string().contains("step from schema 4 to 5"), "{failed}");
        assert_eq!(state, json!([]));
    }
}
