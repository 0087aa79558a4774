//! What a viewer may hear, as a pure judgement of what was published.

use std::{
    collections::{HashMap, HashSet},
    fmt,
};

use serde_json::Value;

use crate::{
    history::{Place, Window},
    wire::{Cause, Code, Event, Recovered, ServerMessage},
};

/// How the law was broken.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Breach {
    /// An offset is missing, and nobody said so.
    Hole {
        /// What was seen before.
        seen: Place,
        /// What came.
        came: Place,
    },
    /// An offset came again.
    Again {
        /// Which.
        came: Place,
    },
    /// An event is not what was published, or not this viewer's view of it.
    Altered {
        /// Which.
        place: Place,
        /// What came.
        came: Value,
    },
    /// What was promised as recovered did not follow at once.
    Unkept {
        /// How many events are missing.
        missing: u64,
    },
    /// Recovery does not begin at what was seen, or promises what there is not.
    Elsewhere {
        /// What was seen.
        seen: Place,
        /// Where it begins.
        from: Place,
    },
    /// Recovery was refused, or the stream was lost, without a cause, or without being asked.
    Baseless {
        /// What was seen.
        seen: Option<Place>,
        /// What was said.
        said: Recovered,
        /// What there is.
        kept: Window,
    },
    /// A question was refused that must not be.
    Refused(Code),
    /// An event came to somebody who is not in the room.
    Uninvited,
    /// Two events got one place, or a place was left out.
    Misplaced(Place),
    /// In the end a viewer does not see the end of the stream.
    Stuck {
        /// What was seen.
        seen: Option<Place>,
        /// What there is.
        kept: Window,
    },
    /// A socket lives on though another took its place.
    Stale,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for Breach {}

/// Everything that was published.
#[derive(Debug, Clone, Default)]
pub struct Published(HashMap<String, Vec<Value>>);

impl Published {
    /// Notes an event that got a place.
    ///
    /// # Errors
    ///
    /// [`Breach::Misplaced`] if it is not the next one of its epoch.
    pub fn note(&mut self, place: &Place, event: Value) -> Result<(), Breach> {
        let stream = self.0.entry(place.epoch.clone()).or_default();
        stream.push(event);
        if place.offset == stream.len() as u64 {
            return Ok(());
        }
        Err(Breach::Misplaced(place.clone()))
    }

    fn epochs(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }

    fn at(&self, place: &Place) -> Option<&Value> {
        let index = usize::try_from(place.offset).ok()?.checked_sub(1)?;
        self.0.get(&place.epoch)?.get(index)
    }
}

/// Where a viewer stands on one socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Outside,
    /// It hears the stream; so many events are promised at once.
    Inside {
        promised: u64,
    },
    /// It was told that it does not hear everything.
    Told,
}

/// One user on one socket, and what it saw before.
#[derive(Debug, Clone)]
pub struct Viewer {
    user: String,
    seen: Option<Place>,
    standing: Standing,
    delivered: u64,
    /// The epochs that there had been when it came.
    past: HashSet<String>,
}

impl Viewer {
    /// Creates a viewer that saw nothing.
    pub fn new(user: impl Into<String>) -> Self {
        let (standing, past) = (Standing::Outside, HashSet::new());
        Self { user: user.into(), seen: None, standing, delivered: 0, past }
    }

    /// Returns whose view it is.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Returns the place that it saw last.
    pub const fn seen(&self) -> Option<&Place> {
        self.seen.as_ref()
    }

    /// Returns how many events it was given.
    pub const fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Returns whether it hears the stream and was not told otherwise.
    pub const fn is_inside(&self) -> bool {
        matches!(self.standing, Standing::Inside { .. })
    }

    /// Begins anew on another socket, before it asks to enter; what was seen stays.
    pub fn reconnect(&mut self, published: &Published) {
        self.standing = Standing::Outside;
        self.past = published.epochs().cloned().collect();
    }

    /// Takes the answer to entering with `claim` as what was seen; `kept` is the history before it
    /// and after it, `replay` the most that is sent again.
    ///
    /// # Errors
    ///
    /// How the law is broken.
    pub fn joined(
        &mut self,
        claim: Option<&Place>,
        (from, recovered): (&Place, Recovered),
        kept: (&Window, &Window),
        replay: u64,
    ) -> Result<(), Breach> {
        self.keep_promise()?;
        let promised = match (claim, recovered) {
            (None, Recovered::Fresh) => 0,
            (Some(claim), Recovered::Recovered { count }) => {
                let is_same = from.epoch == claim.epoch || is_beginning(claim);
                if !is_same || from.offset != claim.offset || kept.1.last < from.offset + count {
                    return Err(Breach::Elsewhere { seen: claim.clone(), from: from.clone() });
                }
                count
            }
            (Some(claim), Recovered::NotRecovered { reason })
                if is_true(reason, claim, kept, replay) =>
            {
                0
            }
            (claim, said) => {
                let kept = kept.1.clone();
                return Err(Breach::Baseless { seen: claim.cloned(), said, kept });
            }
        };
        self.seen = Some(from.clone());
        self.standing = Standing::Inside { promised };
        Ok(())
    }

    /// Takes whatever else is said on this viewer's socket; `kept` is the history as of now.
    ///
    /// # Errors
    ///
    /// How the law is broken.
    pub fn hear(
        &mut self,
        message: &ServerMessage,
        published: &Published,
        kept: &Window,
        view: impl Fn(&str, &Value) -> Value,
    ) -> Result<(), Breach> {
        match message {
            ServerMessage::Events { epoch, events, .. } => {
                events.iter().try_for_each(|event| self.event(epoch, event, published, &view))
            }
            ServerMessage::Position { place, .. } => {
                self.keep_promise()?;
                let is_behind = self.seen.as_ref().is_some_and(|seen| {
                    let is_other = !place.epoch.is_empty() && place.epoch != seen.epoch;
                    is_other || seen.offset < place.offset
                });
                if is_behind && self.is_inside() {
                    self.standing = Standing::Told;
                }
                Ok(())
            }
            ServerMessage::Lost { reason, .. } => {
                self.keep_promise()?;
                let seen = self.seen.clone();
                let is_cause = seen.as_ref().is_some_and(|seen| {
                    // It may have been said of the stream before, of which nothing is left.
                    let is_of_before = *reason == Cause::TooOld && is_other(seen, kept);
                    is_of_before
                        || (*reason == Cause::EpochChanged
                            && self.has_missed(seen, published, kept))
                        || *reason == Cause::Overrun
                        || is_true(*reason, seen, (kept, kept), u64::MAX)
                });
                if self.is_inside() && !is_cause {
                    let said = Recovered::NotRecovered { reason: *reason };
                    return Err(Breach::Baseless { seen, said, kept: kept.clone() });
                }
                self.standing = Standing::Told;
                Ok(())
            }
            ServerMessage::Connected { .. }
            | ServerMessage::Refreshed { .. }
            | ServerMessage::Joined { .. }
            | ServerMessage::Message { .. }
            | ServerMessage::Ack { .. }
            | ServerMessage::Reply { .. }
            | ServerMessage::Error { .. }
            | ServerMessage::Presence { .. }
            | ServerMessage::Token { .. }
            | ServerMessage::State { .. }
            | ServerMessage::Goodbye { .. }
            | ServerMessage::Pong => Ok(()),
        }
    }

    /// Holds a viewer against the end of the stream.
    ///
    /// # Errors
    ///
    /// [`Breach::Stuck`] if it has not seen it.
    pub fn settled(&self, kept: &Window) -> Result<(), Breach> {
        let end = Place { epoch: kept.epoch.clone(), offset: kept.last };
        if self.is_inside() && self.seen.as_ref() == Some(&end) {
            return self.keep_promise();
        }
        Err(Breach::Stuck { seen: self.seen.clone(), kept: kept.clone() })
    }

    fn event(
        &mut self,
        epoch: &str,
        event: &Event,
        published: &Published,
        view: impl Fn(&str, &Value) -> Value,
    ) -> Result<(), Breach> {
        let came = Place { epoch: epoch.to_owned(), offset: event.offset };
        let promised = match self.standing {
            Standing::Inside { promised } => promised,
            // Whoever was told that something is missing may hear on, and takes none of it.
            Standing::Told => return Ok(()),
            Standing::Outside => return Err(Breach::Uninvited),
        };
        let seen = self.seen.clone().unwrap_or_default();
        let is_same = seen.epoch == came.epoch || is_beginning(&seen);
        if is_same && came.offset <= seen.offset {
            return Err(Breach::Again { came });
        }
        if !is_same || came.offset != seen.offset + 1 {
            return Err(Breach::Hole { seen, came });
        }
        let wanted = published.at(&came).map(|event| view(&self.user, event));
        if wanted.as_ref() != Some(&event.data) {
            return Err(Breach::Altered { place: came, came: event.data.clone() });
        }
        self.seen = Some(came);
        self.delivered += 1;
        self.standing = Standing::Inside { promised: promised.saturating_sub(1) };
        Ok(())
    }

    /// Returns whether it waited for a stream to begin, and one has begun and is gone.
    fn has_missed(&self, seen: &Place, published: &Published, kept: &Window) -> bool {
        let is_gone = |epoch: &String| *epoch != kept.epoch && !self.past.contains(epoch);
        is_beginning(seen) && published.epochs().any(is_gone)
    }

    const fn keep_promise(&self) -> Result<(), Breach> {
        match self.standing {
            Standing::Inside { promised: missing @ 1.. } => Err(Breach::Unkept { missing }),
            Standing::Inside { .. } | Standing::Outside | Standing::Told => Ok(()),
        }
    }
}

/// A client that saw nothing of a stream that had not begun has missed all of it, whatever epoch.
const fn is_beginning(place: &Place) -> bool {
    place.epoch.is_empty() && place.offset == 0
}

/// Returns whether a place is one of another stream than the one that is kept.
fn is_other(place: &Place, kept: &Window) -> bool {
    !is_beginning(place) && kept.epoch != place.epoch
}

/// Returns whether a refusal's cause was true at some moment between two looks at the history.
fn is_true(cause: Cause, claim: &Place, (before, after): (&Window, &Window), replay: u64) -> bool {
    match cause {
        Cause::EpochChanged => is_other(claim, before) || is_other(claim, after),
        Cause::TooOld => {
            let missed = after.last.saturating_sub(claim.offset);
            claim.offset + 1 < after.first || replay < missed
        }
        Cause::Ahead => before.last < claim.offset,
        Cause::Overrun => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn place(epoch: &str, offset: u64) -> Place {
        Place { epoch: epoch.to_owned(), offset }
    }

    fn kept(first: u64, last: u64) -> Window {
        Window { epoch: "a".to_owned(), first, last, entries: Vec::new() }
    }

    fn published() -> Published {
        let mut published = Published::default();
        for n in 1..=9 {
            published.note(&place("a", n), json!(n)).unwrap();
        }
        published
    }

    /// Lets a viewer that saw offset 3 of 9 come back, and then hear offsets.
    fn check(recovered: Recovered, from: u64, heard: &[u64]) -> Result<(), Breach> {
        let (mut viewer, kept) = (Viewer::new("ann"), kept(1, 9));
        let claim = place("a", 3);
        viewer.joined(Some(&claim), (&place("a", from), recovered), (&kept, &kept), 100)?;
        for n in heard {
            let events = vec![Event { offset: *n, data: json!(n) }];
            let (room, epoch) = ("room".to_owned(), "a".to_owned());
            let message = ServerMessage::Events { room, epoch, events };
            viewer.hear(&message, &published(), &kept, |_, event| event.clone())?;
        }
        viewer.settled(&kept)
    }

    #[test]
    fn what_follows_in_order_is_lawful_and_anything_else_is_named() {
        let all = Recovered::Recovered { count: 6 };
        assert_eq!(check(all, 3, &[4, 5, 6, 7, 8, 9]), Ok(()));
        assert!(matches!(check(all, 3, &[4, 6]), Err(Breach::Hole { .. })));
        assert!(matches!(check(all, 3, &[4, 4]), Err(Breach::Again { .. })));
        assert!(matches!(check(all, 3, &[4, 5]), Err(Breach::Stuck { .. })));
        assert!(matches!(check(all, 4, &[]), Err(Breach::Elsewhere { .. })));
        let more = Recovered::Recovered { count: 7 };
        assert!(matches!(check(more, 3, &[]), Err(Breach::Elsewhere { .. })), "there are six");
        assert!(matches!(check(Recovered::Fresh, 9, &[]), Err(Breach::Baseless { .. })));
        for reason in [Cause::TooOld, Cause::EpochChanged, Cause::Ahead, Cause::Overrun] {
            let refused = Recovered::NotRecovered { reason };
            assert!(matches!(check(refused, 9, &[]), Err(Breach::Baseless { .. })), "{reason:?}");
        }
    }

    #[test]
    fn a_refusal_is_lawful_if_its_cause_is_true() {
        let claim = place("a", 3);
        let holds = |cause, kept: &Window, replay| is_true(cause, &claim, (kept, kept), replay);
        assert!(holds(Cause::TooOld, &kept(5, 9), 100) && !holds(Cause::TooOld, &kept(4, 9), 100));
        assert!(holds(Cause::TooOld, &kept(1, 9), 5) && !holds(Cause::TooOld, &kept(1, 9), 6));
        assert!(holds(Cause::Ahead, &kept(1, 2), 100) && !holds(Cause::Ahead, &kept(1, 3), 100));
        let other = Window { epoch: "b".to_owned(), ..kept(1, 9) };
        assert!(holds(Cause::EpochChanged, &other, 100));
        let mut published = published();
        assert_eq!(
            published.note(&place("a", 11), json!(0)),
            Err(Breach::Misplaced(place("a", 11)))
        );
        assert!(Breach::Uninvited.to_string().contains("Uninvited"));
    }

    #[test]
    fn what_was_said_of_a_stream_that_began_anew_is_judged_by_what_it_was() {
        let (mut viewer, kept) = (Viewer::new("ann"), kept(1, 9));
        let at = place("a", 9);
        viewer.joined(None, (&at, Recovered::Fresh), (&kept, &kept), 9).unwrap();
        let anew = Window { epoch: "b".to_owned(), ..kept.clone() };
        let lost = |reason, kept: &Window| {
            let message = ServerMessage::Lost { room: "room".to_owned(), reason };
            viewer.clone().hear(&message, &published(), kept, |_, event| event.clone())
        };
        for cause in [Cause::EpochChanged, Cause::TooOld, Cause::Overrun] {
            assert_eq!(lost(cause, &anew), Ok(()));
        }
        for (cause, kept) in [(Cause::Ahead, &anew), (Cause::TooOld, &kept)] {
            assert!(matches!(lost(cause, kept), Err(Breach::Baseless { .. })), "{cause:?}");
        }
    }

    #[test]
    fn whoever_waited_for_a_stream_is_told_that_it_came_and_went() {
        let none = Window { epoch: String::new(), first: 1, last: 0, entries: Vec::new() };
        let lost = |viewer: &Viewer, kept: &Window| {
            let (room, reason) = ("room".to_owned(), Cause::EpochChanged);
            let message = ServerMessage::Lost { room, reason };
            viewer.clone().hear(&message, &published(), kept, |_, event| event.clone())
        };
        let mut viewer = Viewer::new("ann");
        let enter = |viewer: &mut Viewer| {
            viewer.joined(None, (&Place::default(), Recovered::Fresh), (&none, &none), 9).unwrap();
        };
        enter(&mut viewer);
        assert_eq!(lost(&viewer, &none), Ok(()));
        assert!(matches!(lost(&viewer, &kept(1, 9)), Err(Breach::Baseless { .. })), "it goes on");
        viewer.reconnect(&published());
        enter(&mut viewer);
        assert!(matches!(lost(&viewer, &none), Err(Breach::Baseless { .. })), "it went before");
    }

    #[test]
    fn a_viewer_that_was_told_takes_nothing_until_it_is_back() {
        let (mut viewer, kept) = (Viewer::new("ann"), kept(1, 9));
        let hear = |viewer: &mut Viewer, message| {
            viewer.hear(&message, &published(), &kept, |_, event| event.clone())
        };
        let room = || "room".to_owned();
        let event = |n: u64| {
            let events = vec![Event { offset: n, data: json!(n) }];
            ServerMessage::Events { room: room(), epoch: "a".to_owned(), events }
        };
        assert_eq!(hear(&mut viewer, event(1)), Err(Breach::Uninvited));
        let at = place("a", 3);
        viewer.joined(None, (&at, Recovered::Fresh), (&kept, &kept), 9).unwrap();
        let position = |offset| ServerMessage::Position { room: room(), place: place("a", offset) };
        hear(&mut viewer, position(3)).unwrap();
        assert!(viewer.is_inside());
        let lost = ServerMessage::Lost { room: room(), reason: Cause::EpochChanged };
        assert!(matches!(hear(&mut viewer.clone(), lost), Err(Breach::Baseless { .. })));
        hear(&mut viewer, position(5)).unwrap();
        assert!(!viewer.is_inside());
        hear(&mut viewer, event(9)).unwrap();
        assert_eq!((viewer.seen(), viewer.delivered()), (Some(&at), 0));
        let altered = Event { offset: 4, data: json!("forged") };
        viewer
            .joined(Some(&at), (&at, Recovered::Recovered { count: 6 }), (&kept, &kept), 9)
            .unwrap();
        let message =
            ServerMessage::Events { room: room(), epoch: "a".to_owned(), events: vec![altered] };
        assert!(matches!(hear(&mut viewer, message), Err(Breach::Altered { .. })));
        assert_eq!(hear(&mut viewer, position(9)), Err(Breach::Unkept { missing: 6 }));
    }
}
