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
    let missed = oldest.map_or(0, |oldest| oldest.saturating_sub(after + 1));
    let gap = (0 < missed).then_some(Item::Gap(missed));
    let events = stream.history(filter, after, PAST).into_iter().map(Item::Event);
    gap.into_iter().chain(events).collect()
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
