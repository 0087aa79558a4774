//! How a machine's events stand in its stream: what each one did, and the marks between them.

use std::time::Duration;

use infra_core::{
    Error, ErrorKind, Result,
    codec::Payload,
    event::{Metadata, NewEvent, RecordedEvent},
    id::{EventId, EventType},
};

use super::{action::Action, migration::Migrations, persistent::Persistent};

/// A new owner has committed its fencing token.
pub(super) const OWNED: &str = "state.owned";

/// A command was refused, and that is remembered.
pub(super) const REFUSED: &str = "state.refused";

pub(super) const FROM: &str = "state-from";
pub(super) const TO: &str = "state-to";
pub(super) const ACTION: &str = "state-action";
pub(super) const ACTOR: &str = "state-actor";
pub(super) const TOOK: &str = "state-took-us";
pub(super) const ERROR: &str = "state-error";

/// The longest text of a refusal that is kept, in characters.
const MAX_ERROR: usize = 300;

/// Returns whether an event is a mark, which changes nothing.
pub(super) fn is_mark(event_type: &EventType) -> bool {
    matches!(event_type.as_str(), OWNED | REFUSED)
}

/// The facts of one transition that stand beside its event.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts<'a> {
    pub(super) action: &'a Action,
    pub(super) from: &'a str,
    pub(super) to: &'a str,
    pub(super) took: Duration,
}

impl Facts<'_> {
    fn metadata(&self) -> Metadata {
        let mut metadata = Metadata::from([
            (FROM.to_owned(), self.from.to_owned()),
            (TO.to_owned(), self.to.to_owned()),
            (ACTION.to_owned(), self.action.name().to_owned()),
            (TOOK.to_owned(), self.took.as_micros().to_string()),
        ]);
        if let Some(actor) = self.action.actor() {
            metadata.insert(ACTOR.to_owned(), actor.to_owned());
        }
        for (name, value) in self.action.notes() {
            if !name.starts_with("state-") {
                metadata.insert((*name).to_owned(), value.clone());
            }
        }
        metadata
    }
}

/// Writes an event with its facts.
pub(super) fn encode<M: Persistent>(
    id: EventId,
    event: &M::Event,
    facts: Facts<'_>,
) -> Result<NewEvent> {
    let kind = M::kind(event);
    if kind.starts_with("state.") {
        let what = format!("the kind `{kind}` of `{}` begins with `state.`", M::NAME);
        return Err(Error::new(ErrorKind::Invalid, "write event of machine").detail(what));
    }
    let payload = Payload::json(M::SCHEMA_VERSION, event)?;
    let mut new = NewEvent::new(id, EventType::new(kind)?, payload);
    new.metadata = facts.metadata();
    Ok(new)
}

/// Writes the mark of a refused command.
pub(super) fn refusal<M: Persistent>(id: EventId, facts: Facts<'_>, why: &str) -> Result<NewEvent> {
    let payload = Payload::json(M::SCHEMA_VERSION, &())?;
    let mut new = NewEvent::new(id, EventType::new(REFUSED)?, payload);
    new.metadata = facts.metadata();
    new.metadata.insert(ERROR.to_owned(), why.chars().take(MAX_ERROR).collect());
    Ok(new)
}

/// Writes the mark of a new owner.
pub(super) fn ownership<M: Persistent>(id: EventId) -> Result<NewEvent> {
    Ok(NewEvent::new(id, EventType::new(OWNED)?, Payload::json(M::SCHEMA_VERSION, &())?))
}

/// Reads what an event does to the machine; nothing if it is a mark.
pub(super) fn decode<M: Persistent>(
    recorded: &RecordedEvent,
    migrations: &Migrations,
) -> Result<Option<M::Event>> {
    let NewEvent { event_type, payload, .. } = &recorded.event;
    super::migration::refuse_newer::<M>(payload.schema, "read event of machine")?;
    if is_mark(event_type) {
        return Ok(None);
    }
    migrations.read_event::<M>(event_type.as_str(), payload).map(Some).map_err(|cause| {
        let at = format!("event {} of `{}`", recorded.version, recorded.stream);
        Error::new(cause.kind().clone(), "read event of machine").detail(at).because(cause)
    })
}
