//! The live stream of events, as server-sent events.

use std::{collections::BTreeSet, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::{Query, State},
    http::{HeaderMap, StatusCode},
    response::{
        IntoResponse, Response,
        sse::{self, KeepAlive, Sse},
    },
};
use futures_util::{StreamExt, stream};
use infra_observability::live::{Event, Filter, Item, Stream, Subscription};
use serde::Deserialize;

use super::admin::Admin;
use crate::protocol::{RoomCode, admin::Live};

/// The most events of the past that one request gets.
const PAST: usize = 1_000;

/// Which events are wanted.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Those of one room.
    room: Option<RoomCode>,
    /// Those of these kinds, separated by commas.
    kind: Option<String>,
    /// Those after this number, as far back as the history goes.
    after: Option<u64>,
}

impl Wanted {
    fn filter(&self) -> Filter {
        let kinds = self.kind.iter().flat_map(|kinds| kinds.split(','));
        let kinds: BTreeSet<String> =
            kinds.filter(|kind| !kind.is_empty()).map(ToOwned::to_owned).collect();
        let room = self.room.map(|room| room.to_string());
        Filter { kinds, room, ..Filter::default() }
    }
}

/// Streams what happens from now on, or from a number on; who falls behind is told of the gap.
pub(super) async fn events(
    State(admin): State<Admin>,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Response {
    let stream = admin.observatory.telemetry.stream().clone();
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let (filter, after) = (wanted.filter(), last.or(wanted.after));
    // Subscribed first, so that nothing falls between the past and the present.
    let Ok(subscription) = stream.subscribe("sse", filter.clone()) else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let past = after.map(|after| past(&stream, &filter, after)).unwrap_or_default();
    let seen = past.last().map_or(0, number);
    let present = stream::unfold(subscription, async |mut subscription: Subscription| {
        let item = subscription.next().await?;
        Some((item, subscription))
    });
    let present =
        present.filter(move |item| std::future::ready(seen < number(item) || is_gap(item)));
    let stop = admin.stop.clone();
    let all = stream::iter(past)
        .chain(present)
        .filter_map(|item| std::future::ready(sse_event(&item).map(Ok::<_, Infallible>)))
        .take_until(async move { stop.requested().await });
    Sse::new(all).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))).into_response()
}

/// Returns the events after a number, with a gap first where the history does not go back so far.
fn past(stream: &Stream, filter: &Filter, after: u64) -> Vec<Item> {
    let all = Filter::default();
    let oldest = stream.history(&all, after, usize::MAX).first().map(|event| event.sequence);
    let forgotten = oldest.map_or(0, |oldest| oldest.saturating_sub(after.saturating_add(1)));
    let mut events = stream.history(filter, after, usize::MAX);
    // One request gets the newest; those before them are missed like those that were forgotten.
    let surplus = events.len().saturating_sub(PAST);
    events.drain(..surplus);
    let missed = forgotten + surplus as u64;
    let gap = (0 < missed).then_some(Item::Gap(missed));
    gap.into_iter().chain(events.into_iter().map(Item::Event)).collect()
}

fn number(item: &Item) -> u64 {
    match item {
        Item::Event(event) => event.sequence,
        Item::Gap(_) => 0,
    }
}

const fn is_gap(item: &Item) -> bool {
    matches!(item, Item::Gap(_))
}

fn sse_event(item: &Item) -> Option<sse::Event> {
    match item {
        Item::Event(event) => Some(named(event)?.id(event.sequence.to_string())),
        Item::Gap(missed) => {
            let gap = Live::Gap { missed: *missed };
            Some(sse::Event::default().event(gap.name()).data(serde_json::to_string(&gap).ok()?))
        }
    }
}

/// What happened in a room is told as its data alone; all else is a notice.
fn named(event: &Arc<Event>) -> Option<sse::Event> {
    let (name, data) = match &event.room {
        Some(_) => ("room", serde_json::to_string(&event.data)),
        None => ("notice", serde_json::to_string(event.as_ref())),
    };
    Some(sse::Event::default().event(name).data(data.ok()?))
}

#[cfg(test)]
mod tests {
    use infra_core::SystemClock;
    use infra_observability::live::{Draft, Options};

    use super::*;

    #[test]
    fn what_one_request_does_not_get_of_the_past_is_told_as_a_gap() {
        let stream = Stream::new(Options::default(), SystemClock::shared());
        let published = PAST as u64 + 10;
        for _ in 0..published {
            stream.publish(Draft::new("moved"));
        }
        let told = |after| past(&stream, &Filter::default(), after);
        let late = told(2);
        assert_eq!((late.len(), &late[0]), (PAST + 1, &Item::Gap(8)));
        assert_eq!((number(&late[1]), late.last().map(number)), (11, Some(published)));
        assert_eq!((told(10).len(), number(&told(10)[0])), (PAST, 11), "nothing is missed");
        assert!(told(u64::MAX).is_empty());
    }
}
