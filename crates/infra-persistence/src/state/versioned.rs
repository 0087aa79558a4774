//! Whole states, every version of them, with a say in what happens when two writers meet.

use std::{fmt, marker::PhantomData, sync::Arc};

use infra_core::{
    Clock, Error, ErrorKind, Result,
    codec::Payload,
    event::{Append, Direction, EventStore, NewEvent, RecordedEvent},
    id::{EventId, EventType, StreamName},
    random::Random,
    version::{Expected, Version},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::version::{Change, StateVersion};

const SAVED: &str = "state.saved";
const VERSION: &str = "state-version";
const SAVE: &str = "save state";

/// How often a save is tried again when others save at the same time.
const TRIES: usize = 16;

/// Makes one state of the common base, what is stored, and what is to be saved.
type Merge<S> = Arc<dyn Fn(Option<&S>, &S, &S) -> Result<S> + Send + Sync>;

/// What happens when a state that is to be saved was made from one that is not the latest any more.
#[derive(Clone)]
pub enum Resolution<S> {
    /// What is stored stays; the save does nothing.
    Latest,
    /// What is to be saved wins.
    Incoming,
    /// A function makes one of both; it is given the common base too.
    Merge(Merge<S>),
    /// The caller decides: a `Conflict`.
    Manual,
}

impl<S> fmt::Debug for Resolution<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Latest => "Latest",
            Self::Incoming => "Incoming",
            Self::Merge(_) => "Merge",
            Self::Manual => "Manual",
        })
    }
}

/// A state as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved<S> {
    /// The state.
    pub state: S,
    /// Its version, by what changed.
    pub version: StateVersion,
    /// Its number; what the next save is made from.
    pub number: Version,
}

/// A state that was made from one that is not the latest any more.
#[derive(Debug, Clone, Copy)]
struct Stale<'a, S> {
    stream: &'a StreamName,
    base: Version,
    latest: &'a Saved<S>,
    incoming: &'a S,
}

/// States of which each version is kept.
#[derive(Debug, Clone)]
pub struct VersionedStates<S> {
    events: Arc<dyn EventStore>,
    clock: Arc<dyn Clock>,
    random: Arc<Random>,
    schema: u32,
    state: PhantomData<fn() -> S>,
}

impl<S: Serialize + DeserializeOwned + Clone + Send + Sync> VersionedStates<S> {
    /// Creates the states of one schema version in an event store.
    pub fn new(events: Arc<dyn EventStore>, clock: Arc<dyn Clock>, schema: u32) -> Self {
        Self { events, clock, random: Arc::new(Random::from_system()), schema, state: PhantomData }
    }

    /// Saves a state that was made from version number `base`, zero if from nothing.
    ///
    /// A state that equals what is stored is not stored again.
    ///
    /// # Errors
    ///
    /// `Conflict` if the base is not the latest and the resolution is manual; `Overloaded` if others kept
    /// saving at the same time; what the store and a merge fail with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the state saved or not.
    pub async fn save(
        &self,
        stream: &StreamName,
        base: Version,
        state: &S,
        resolution: &Resolution<S>,
    ) -> Result<Saved<S>> {
        for _ in 0..TRIES {
            let latest = self.latest(stream).await?;
            let number = latest.as_ref().map_or(Version::ZERO, |latest| latest.number);
            let state = match &latest {
                Some(latest) if number != base => {
                    match self
                        .resolve(Stale { stream, base, latest, incoming: state }, resolution)
                        .await?
                    {
                        Some(state) => state,
                        None => return Ok(latest.clone()),
                    }
                }
                Some(_) | None if number == base => state.clone(),
                Some(_) | None => return Err(conflict(base, number)),
            };
            let version = next_version(latest.as_ref(), &state)?;
            if let Some(latest) = latest.filter(|latest| latest.version == version) {
                return Ok(latest);
            }
            match self.append(stream, number, &state, version).await {
                Ok(number) => return Ok(Saved { state, version, number }),
                Err(error) if matches!(error.kind(), ErrorKind::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(ErrorKind::Overloaded, SAVE).detail("others kept saving at the same time"))
    }

    /// Decides what to save over a newer state; nothing if that stays.
    async fn resolve(&self, stale: Stale<'_, S>, resolution: &Resolution<S>) -> Result<Option<S>> {
        let Stale { stream, base, latest, incoming } = stale;
        match resolution {
            Resolution::Latest => Ok(None),
            Resolution::Incoming => Ok(Some(incoming.clone())),
            Resolution::Manual => Err(conflict(base, latest.number)),
            Resolution::Merge(merge) => {
                let base =
                    if base == Version::ZERO { None } else { Some(self.get(stream, base).await?) };
                merge(base.as_ref().map(|base| &base.state), &latest.state, incoming).map(Some)
            }
        }
    }

    async fn append(
        &self,
        stream: &StreamName,
        after: Version,
        state: &S,
        version: StateVersion,
    ) -> Result<Version> {
        let id = EventId::generate(self.clock.wall(), &self.random);
        let payload = Payload::json(self.schema, state)?;
        let event =
            NewEvent::new(id, EventType::new(SAVED)?, payload).with(VERSION, version.to_string());
        let expected =
            if after == Version::ZERO { Expected::Absent } else { Expected::Exactly(after) };
        self.events.append(Append::to(stream.clone(), expected, vec![event])).await?;
        Ok(after.next())
    }

    /// Returns the latest state.
    ///
    /// # Errors
    ///
    /// What the store fails with, and `Unsupported` for a state of a newer schema.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn latest(&self, stream: &StreamName) -> Result<Option<Saved<S>>> {
        let read = self.events.read_stream(stream, Version::MAX, Direction::Backward, 1).await?;
        read.first().map(|recorded| self.read(recorded)).transpose()
    }

    /// Returns the state of one version number, as it was saved.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is none, and as [`latest`](Self::latest).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn get(&self, stream: &StreamName, number: Version) -> Result<Saved<S>> {
        let read = self.events.read_stream(stream, number, Direction::Forward, 1).await?;
        let found = read.first().filter(|recorded| recorded.version == number);
        found.map_or_else(
            || {
                Err(Error::new(ErrorKind::NotFound, "read state")
                    .detail(format!("{stream}: {number}")))
            },
            |recorded| self.read(recorded),
        )
    }

    /// Returns the newest versions with their numbers, newest first.
    ///
    /// # Errors
    ///
    /// What the store fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn versions(
        &self,
        stream: &StreamName,
        limit: usize,
    ) -> Result<Vec<(Version, StateVersion)>> {
        let read =
            self.events.read_stream(stream, Version::MAX, Direction::Backward, limit).await?;
        read.iter().map(|recorded| Ok((recorded.version, version_of(recorded)?))).collect()
    }

    fn read(&self, recorded: &RecordedEvent) -> Result<Saved<S>> {
        let payload = &recorded.event.payload;
        if self.schema < payload.schema {
            let what = format!("schema {} is newer than {}", payload.schema, self.schema);
            return Err(Error::new(ErrorKind::Unsupported, "read state").detail(what));
        }
        let version = version_of(recorded)?;
        Ok(Saved { state: payload.decode()?, version, number: recorded.version })
    }
}

fn next_version<S: Serialize>(latest: Option<&Saved<S>>, state: &S) -> Result<StateVersion> {
    let json = |state: &S| -> Result<Value> {
        serde_json::to_value(state)
            .map_err(|cause| Error::new(ErrorKind::Invalid, SAVE).because(cause))
    };
    let Some(latest) = latest else { return Ok(StateVersion::FIRST) };
    Ok(latest.version.after(Change::between(&json(&latest.state)?, &json(state)?)))
}

fn version_of(recorded: &RecordedEvent) -> Result<StateVersion> {
    let text = recorded.event.metadata.get(VERSION).map(String::as_str).unwrap_or_default();
    text.parse().map_err(|cause| {
        Error::new(ErrorKind::Corrupt, "read state")
            .detail("its version cannot be read")
            .because(cause)
    })
}

fn conflict(expected: Version, actual: Version) -> Error {
    let expected =
        if expected == Version::ZERO { Expected::Absent } else { Expected::Exactly(expected) };
    Error::conflict(SAVE, expected, actual)
}
