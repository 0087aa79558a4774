//! The log of transitions: a view of the machine's stream, not a second record.

use std::time::Duration;

use infra_core::{
    Clock, Result,
    clock::Timestamp,
    event::{Direction, EventStore, NewEvent, RecordedEvent},
    id::{CorrelationId, StreamName},
    version::Version,
};
use serde::Serialize;

use super::events::{ACTION, ACTOR, ERROR, FROM, TO, TOOK};

/// How many events are read at a time.
const PAGE: usize = 256;

/// One step of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Transition {
    /// Its number in the machine's stream.
    pub version: Version,
    /// The kind of its event.
    pub kind: String,
    /// The phase before it.
    pub from: String,
    /// The phase after it.
    pub to: String,
    /// What was done.
    pub action: String,
    /// Who did it; nobody if the system did.
    pub actor: Option<String>,
    /// When it was stored, by the store's clock.
    pub at: Timestamp,
    /// How long it took to decide it and fold it in.
    pub took: Duration,
    /// Why it was refused, if it was.
    pub error: Option<String>,
    /// The correlation id of what asked for it.
    pub correlation: Option<CorrelationId>,
}

impl Transition {
    fn of(event: &NewEvent, version: Version, at: Timestamp) -> Self {
        let text = |name: &str| event.metadata.get(name).cloned();
        let micros = text(TOOK).and_then(|micros| micros.parse().ok()).unwrap_or_default();
        Self {
            version,
            kind: event.event_type.as_str().to_owned(),
            from: text(FROM).unwrap_or_default(),
            to: text(TO).unwrap_or_default(),
            action: text(ACTION).unwrap_or_default(),
            actor: text(ACTOR),
            at,
            took: Duration::from_micros(micros),
            error: text(ERROR),
            correlation: None,
        }
    }

    /// Describes an event that is about to be stored.
    pub(super) fn planned(event: &NewEvent, version: Version, clock: &dyn Clock) -> Self {
        let correlation = infra_core::context::Context::current().correlation_id();
        Self { correlation, ..Self::of(event, version, clock.wall()) }
    }
}

impl From<&RecordedEvent> for Transition {
    fn from(recorded: &RecordedEvent) -> Self {
        let correlation = recorded.correlation;
        Self { correlation, ..Self::of(&recorded.event, recorded.version, recorded.recorded) }
    }
}

/// Which transitions to read; every part that is set must fit.
///
/// ```
/// use infra_persistence::state::TransitionQuery;
///
/// let query = TransitionQuery::newest(10).action("play").actor("ann");
/// assert_eq!(query.limit(), 10);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransitionQuery {
    direction: Direction,
    limit: usize,
    past: Option<Version>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    action: Option<String>,
    actor: Option<String>,
    state: Option<String>,
    is_refused: Option<bool>,
}

impl TransitionQuery {
    /// Reads the newest first.
    pub const fn newest(limit: usize) -> Self {
        Self::new(Direction::Backward, limit)
    }

    /// Reads the oldest first.
    pub const fn oldest(limit: usize) -> Self {
        Self::new(Direction::Forward, limit)
    }

    const fn new(direction: Direction, limit: usize) -> Self {
        Self {
            direction,
            limit,
            past: None,
            since: None,
            until: None,
            action: None,
            actor: None,
            state: None,
            is_refused: None,
        }
    }

    /// Goes on behind a version, in the query's direction: the next page.
    #[must_use]
    pub const fn past(mut self, version: Version) -> Self {
        self.past = Some(version);
        self
    }

    /// Only what was stored at or after that time.
    #[must_use]
    pub const fn since(mut self, time: Timestamp) -> Self {
        self.since = Some(time);
        self
    }

    /// Only what was stored before that time.
    #[must_use]
    pub const fn until(mut self, time: Timestamp) -> Self {
        self.until = Some(time);
        self
    }

    /// Only one action.
    #[must_use]
    pub fn action(mut self, action: impl Into<String>) -> Self {
        self.action = Some(action.into());
        self
    }

    /// Only one actor.
    #[must_use]
    pub fn actor(mut self, actor: impl Into<String>) -> Self {
        self.actor = Some(actor.into());
        self
    }

    /// Only what led out of a phase or into it.
    #[must_use]
    pub fn state(mut self, phase: impl Into<String>) -> Self {
        self.state = Some(phase.into());
        self
    }

    /// Only what was refused, or only what was not.
    #[must_use]
    pub const fn refused(mut self, is_refused: bool) -> Self {
        self.is_refused = Some(is_refused);
        self
    }

    /// Returns how many are read at the most.
    pub const fn limit(&self) -> usize {
        self.limit
    }

    fn admits(&self, transition: &Transition) -> bool {
        let fits =
            |wanted: &Option<String>, is: &dyn Fn(&str) -> bool| wanted.as_deref().is_none_or(is);
        self.since.is_none_or(|since| since <= transition.at)
            && self.until.is_none_or(|until| transition.at < until)
            && fits(&self.action, &|action| action == transition.action)
            && fits(&self.actor, &|actor| transition.actor.as_deref() == Some(actor))
            && fits(&self.state, &|state| state == transition.from || state == transition.to)
            && self.is_refused.is_none_or(|is_refused| is_refused == transition.error.is_some())
    }
}

/// A part of the log of transitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransitionPage {
    /// The transitions that fit, in the query's direction.
    pub transitions: Vec<Transition>,
    /// Where the next page begins, for [`TransitionQuery::past`]; `None` at the end of the stream.
    pub past: Option<Version>,
}

/// Reads the transitions of a machine from its stream.
///
/// # Errors
///
/// What the store fails with.
///
/// # Cancel safety
///
/// Dropping the future has no effect.
pub async fn transitions(
    events: &dyn EventStore,
    stream: &StreamName,
    query: &TransitionQuery,
) -> Result<TransitionPage> {
    let mut page = TransitionPage { transitions: Vec::new(), past: None };
    let Some(info) = events.stream_info(stream).await? else { return Ok(page) };
    let beyond = |version: Version| match query.direction {
        Direction::Forward => version.next(),
        Direction::Backward => version.previous(),
    };
    let first = match query.direction {
        Direction::Forward => info.first,
        Direction::Backward => info.last,
    };
    let mut from = query.past.map_or(first, beyond);
    while page.transitions.len() < query.limit && info.first <= from && from <= info.last {
        let read = events.read_stream(stream, from, query.direction, PAGE).await?;
        let Some(last) = read.last().map(|event| event.version) else { return Ok(page) };
        for event in &read {
            if page.transitions.len() == query.limit {
                return Ok(page);
            }
            page.past = Some(event.version);
            let transition = Transition::from(event);
            if query.admits(&transition) {
                page.transitions.push(transition);
            }
        }
        from = beyond(last);
    }
    if page.transitions.len() < query.limit {
        page.past = None;
    }
    Ok(page)
}
