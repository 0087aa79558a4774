//! What one caller can see of an event store.

#![expect(clippy::missing_errors_doc, reason = "a clause's only error is its breach")]

use std::{sync::Arc, time::Duration};

use infra_core::{
    ErrorKind,
    baggage::Baggage,
    clock::Timestamp,
    codec::Payload,
    context::Context,
    event::{Append, Direction, Filter, Metadata, RecordedEvent},
    id::{CorrelationId, EventType, Scope},
    lease::Fence,
    random::Random,
    trace::TraceContext,
    version::{Expected, FencingToken, Position, Version},
};
use rand::RngExt as _;
use tokio::task::JoinSet;

use super::{Store, event, say, settled, stream, whole, words};
use crate::{contract::Verdict, ensure, ensure_eq, seed::Seed};

/// A refused append leaves no event behind, in no stream.
pub async fn all_or_nothing(store: Store) -> Verdict {
    say(&store, "taken", "first").await?;
    let head = settled(&store, &["taken"]).await?;
    let append = Append::to(stream("fresh")?, Expected::Absent, vec![event("a")?]).and(
        stream("taken")?,
        Expected::Absent,
        vec![event("b")?],
    );
    ensure!(store.append(append).await.is_err(), "an append with a broken condition succeeded");
    ensure_eq!(words(&store, "fresh").await?, Vec::<String>::new(), "the other stream's events");
    ensure_eq!(words(&store, "taken").await?, ["first"], "the stream with the broken condition");
    ensure_eq!(store.stable_head().await?, head, "the head after a refused append");
    let append = Append::to(stream("fresh")?, Expected::Absent, vec![event("a")?, event("b")?])
        .and(stream("taken")?, Expected::Exactly(Version::new(1)), vec![event("c")?])
        .and(stream("third")?, Expected::Absent, vec![]);
    let appended = store.append(append).await?;
    let versions = [Version::new(2), Version::new(2), Version::ZERO];
    ensure_eq!(appended.versions, versions, "the versions of an append to three streams");
    Ok(())
}

/// The versions of a stream count 1, 2, 3, ... without holes or repeats.
pub async fn gapless(store: Store) -> Verdict {
    for number in 0..5 {
        let batch = vec![event(&number.to_string())?, event("and")?, event("on")?];
        store.append(Append::to(stream("a")?, Expected::Any, batch)).await?;
        say(&store, "b", "between").await?;
    }
    for (name, count) in [("a", 15), ("b", 5)] {
        let versions: Vec<u64> =
            whole(&store, name).await?.iter().map(|event| event.version.get()).collect();
        ensure_eq!(versions, (1..=count).collect::<Vec<u64>>(), "the versions of `{name}`");
    }
    Ok(())
}

/// Positions grow in the order of commit, and in a stream with its versions.
pub async fn ordered(store: Store) -> Verdict {
    let mut said = Vec::new();
    for number in 0..12_u32 {
        let word = number.to_string();
        say(&store, if number % 3 == 0 { "a" } else { "b" }, &word).await?;
        said.push(word);
    }
    settled(&store, &["a", "b"]).await?;
    let page = store.read_all(Position::ZERO, &Filter::default(), 100).await?;
    ensure!(page.is_end, "a page with everything is the end");
    let positions: Vec<Position> = page.events.iter().map(|event| event.position).collect();
    let mut sorted = positions.clone();
    sorted.sort();
    sorted.dedup();
    ensure_eq!(positions, sorted, "the positions as they were read");
    let mut read = Vec::new();
    for recorded in &page.events {
        read.push(recorded.event.payload.decode::<String>()?);
    }
    ensure_eq!(read, said, "the order of commits");
    ensure_eq!(
        page.events.last().map(|last| last.position),
        Some(store.stable_head().await?),
        "the head"
    );
    Ok(())
}

/// An expectation that does not hold is a conflict that says what was expected and found.
pub async fn expected(store: Store) -> Verdict {
    say(&store, "a", "one").await?;
    say(&store, "a", "two").await?;
    let two = Version::new(2);
    let cases = [
        ("a", Expected::Absent, two),
        ("a", Expected::Exactly(Version::new(1)), two),
        ("a", Expected::Exactly(Version::new(3)), two),
        ("none", Expected::Exists, Version::ZERO),
        ("none", Expected::Exactly(Version::new(1)), Version::ZERO),
    ];
    for (name, expected, actual) in cases {
        let refused = store.append(Append::to(stream(name)?, expected, vec![event("x")?])).await;
        let kind = refused.map_err(|error| error.kind().clone());
        ensure_eq!(kind.map(|_| ()), Err(ErrorKind::Conflict { expected, actual }), "`{name}`");
    }
    let twice = Append::to(stream("a")?, Expected::Any, vec![event("x")?]).and(
        stream("a")?,
        Expected::Any,
        vec![event("y")?],
    );
    let kind = store.append(twice).await.map_err(|error| error.kind().clone()).map(|_| ());
    ensure_eq!(kind, Err(ErrorKind::Invalid), "a stream that is named twice");
    for (name, expected) in [("a", Expected::Exists), ("a", Expected::Exactly(Version::new(3)))] {
        store.append(Append::to(stream(name)?, expected, vec![event("x")?])).await?;
    }
    ensure_eq!(whole(&store, "a").await?.len(), 4, "the events of `a`");
    Ok(())
}

/// Of many writers that expect the same version, one wins.
pub async fn one_winner(store: Store) -> Verdict {
    for round in 0..10_u64 {
        let mut writers = JoinSet::new();
        for writer in 0..16 {
            let store = Arc::clone(&store);
            let expected = match round {
                0 => Expected::Absent,
                _ => Expected::Exactly(Version::new(round)),
            };
            let append = Append::to(stream("a")?, expected, vec![event(&writer.to_string())?]);
            writers.spawn(async move { store.append(append).await.is_ok() });
        }
        let won = writers.join_all().await.into_iter().filter(|won| *won).count();
        ensure_eq!(won, 1, "how many of 16 writers won round {round}");
    }
    ensure_eq!(whole(&store, "a").await?.len(), 10, "events after ten rounds");
    Ok(())
}

/// The same event ids again give the first result; with other content they are invalid.
pub async fn idempotent(store: Store) -> Verdict {
    let batch = vec![event("one")?, event("two")?];
    let append = Append::to(stream("a")?, Expected::Absent, batch.clone());
    let first = store.append(append.clone()).await?;
    say(&store, "a", "three").await?;
    for expected in [Expected::Absent, Expected::Any, Expected::Exactly(Version::new(9))] {
        let again = store.append(Append::to(stream("a")?, expected, batch.clone())).await?;
        ensure!(again.is_duplicate, "a repeated append is told from a first one");
        ensure_eq!(again.versions, first.versions, "the versions of a repeated append");
        ensure_eq!(again.position, first.position, "the position of a repeated append");
    }
    ensure_eq!(words(&store, "a").await?, ["one", "two", "three"], "the stream");
    let mut other = batch.clone();
    if let Some(last) = other.last_mut() {
        last.payload = Payload::json(1, "changed")?;
    }
    let mut renamed = batch.clone();
    if let Some(last) = renamed.last_mut() {
        last.event_type = EventType::new("sung")?;
    }
    let part = vec![batch.first().cloned().unwrap_or(event("none")?), event("new")?];
    for (what, events) in [("other content", other), ("another type", renamed), ("in part", part)] {
        let refused = store.append(Append::to(stream("a")?, Expected::Any, events)).await;
        let kind = refused.map_err(|error| error.kind().clone()).map(|_| ());
        ensure_eq!(kind, Err(ErrorKind::Invalid), "ids again with {what}");
    }
    ensure_eq!(whole(&store, "a").await?.len(), 3, "the events after refused repetitions");
    Ok(())
}

/// A fence below the highest seen for its scope is refused, and writes nothing.
pub async fn fenced(store: Store) -> Verdict {
    let fence = |token| {
        Ok::<_, crate::contract::Breach>(Fence {
            scope: Scope::new("room-7")?,
            token: FencingToken::new(token),
        })
    };
    let append = |word: &str, token| {
        Ok::<_, crate::contract::Breach>(
            Append::to(stream("a")?, Expected::Any, vec![event(word)?]).fenced(fence(token)?),
        )
    };
    store.append(append("old owner", 4)?).await?;
    // A new owner commits its token, even without an event.
    let takeover = Append::to(stream("a")?, Expected::Any, vec![]).fenced(fence(5)?);
    store.append(takeover).await?;
    let refused = store.append(append("late", 4)?).await.map_err(|error| error.kind().clone());
    ensure_eq!(refused.map(|_| ()), Err(ErrorKind::Fenced), "an old owner's append");
    store.append(append("new owner", 5)?).await?;
    ensure_eq!(words(&store, "a").await?, ["old owner", "new owner"], "the stream");
    Ok(())
}

/// After an append returned, every read sees its events.
pub async fn read_your_writes(store: Store) -> Verdict {
    for number in 1..=50_u64 {
        let appended = say(&store, "a", &number.to_string()).await?;
        let events = whole(&store, "a").await?;
        ensure_eq!(events.len() as u64, number, "events in the stream after append {number}");
        store.wait_for(appended.position, Duration::from_secs(20)).await?;
        ensure_eq!(store.stable_head().await?, appended.position, "the head after append {number}");
        let info = store.stream_info(&stream("a")?).await?;
        ensure_eq!(info.map(|info| info.last), Some(Version::new(number)), "the stream's version");
        let page = store.read_all(Position::ZERO, &Filter::default(), 100).await?;
        ensure_eq!(page.events.len() as u64, number, "events in the store after append {number}");
    }
    ensure_eq!(store.stream_info(&stream("none")?).await?, None, "a stream that does not exist");
    Ok(())
}

/// A read returns at most `limit` events; zero means none.
pub async fn bounded_reads(store: Store) -> Verdict {
    for number in 0..7_u32 {
        say(&store, "a", &number.to_string()).await?;
    }
    settled(&store, &["a"]).await?;
    for limit in [0, 1, 3, 7, 8] {
        let from = Version::new(1);
        let read = store.read_stream(&stream("a")?, from, Direction::Forward, limit).await?;
        ensure_eq!(read.len(), limit.min(7), "events of a stream within {limit}");
        let page = store.read_all(Position::ZERO, &Filter::default(), limit).await?;
        ensure_eq!(page.events.len(), limit.min(7), "events of the store within {limit}");
        ensure_eq!(page.is_end, 7 <= limit, "whether {limit} of 7 is the end");
    }
    Ok(())
}

/// A stream is read backward from any version, the end included.
pub async fn backward(store: Store) -> Verdict {
    for number in 0..6_u32 {
        say(&store, "a", &number.to_string()).await?;
    }
    for (from, limit, versions) in [
        (Version::MAX, 100, vec![6, 5, 4, 3, 2, 1]),
        (Version::MAX, 2, vec![6, 5]),
        (Version::new(3), 2, vec![3, 2]),
        (Version::new(1), 2, vec![1]),
        (Version::ZERO, 2, vec![]),
    ] {
        let read = store.read_stream(&stream("a")?, from, Direction::Backward, limit).await?;
        let read: Vec<u64> = read.iter().map(|event| event.version.get()).collect();
        ensure_eq!(read, versions, "{limit} backward from {from}");
    }
    let forward = store.read_stream(&stream("a")?, Version::new(5), Direction::Forward, 9).await?;
    ensure_eq!(forward.len(), 2, "forward from the fifth of six");
    Ok(())
}

/// Any range of a stream, either way, is that slice of it, whatever other streams do.
pub async fn ranged(store: Store) -> Verdict {
    for number in 0..30_u32 {
        say(&store, "a", &number.to_string()).await?;
        say(&store, if number % 2 == 0 { "b" } else { "c" }, "between").await?;
    }
    let all: Vec<u64> = (1..=30).collect();
    for seed in Seed::each(100) {
        let mut dice = seed.dice();
        let (from, limit) = (dice.random_range(0..=33_u64), dice.random_range(0..=33_usize));
        let forward = all.iter().copied().filter(|version| from <= *version);
        let backward = all.iter().rev().copied().filter(|version| *version <= from);
        let slices: [(Direction, Vec<u64>); 2] = [
            (Direction::Forward, forward.take(limit).collect()),
            (Direction::Backward, backward.take(limit).collect()),
        ];
        for (direction, slice) in slices {
            let read =
                store.read_stream(&stream("a")?, Version::new(from), direction, limit).await?;
            let read: Vec<u64> = read.iter().map(|event| event.version.get()).collect();
            ensure_eq!(read, slice, "{limit} {direction:?} from {from}, {seed}");
        }
    }
    Ok(())
}

/// A filter admits what fits all its parts, and paging by `read_to` finds each event once.
pub async fn filtered(store: Store) -> Verdict {
    let id = CorrelationId::from_uuid(event("id")?.id.as_uuid());
    for number in 0..30_u32 {
        let name = if number % 2 == 0 { "room-1" } else { "lobby" };
        let append = Append::to(stream(name)?, Expected::Any, vec![event(&number.to_string())?]);
        let appended = async { store.append(append).await };
        if number == 15 {
            // Whatever clock the store has, if it goes, the times of both halves differ.
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        match number % 3 {
            0 => Context::default().correlation(id).scope(appended).await?,
            _ => appended.await?,
        };
    }
    settled(&store, &["room-1", "lobby"]).await?;
    let filter = Filter {
        stream_prefix: Some("room-".to_owned()),
        correlation: Some(id),
        ..Filter::default()
    };
    let (mut after, mut found) = (Position::ZERO, Vec::new());
    loop {
        let page = store.read_all(after, &filter, 2).await?;
        for recorded in &page.events {
            ensure_eq!(recorded.correlation, Some(id), "the correlation of a found event");
            found.push(recorded.event.payload.decode::<String>()?);
        }
        ensure!(page.is_end || after < page.read_to, "a page that is not the end goes on");
        after = page.read_to;
        if page.is_end {
            break;
        }
    }
    ensure_eq!(found, ["0", "6", "12", "18", "24"], "what was found over pages of two");
    let other = Filter { event_types: vec![EventType::new("sung")?], ..Filter::default() };
    let page = store.read_all(Position::ZERO, &other, 10).await?;
    ensure_eq!(page.events.len(), 0, "events of a type that nobody wrote");
    ensure!(page.is_end, "a read that finds nothing has looked at everything");
    let everything = store.read_all(Position::ZERO, &Filter::default(), 100).await?.events;
    let times: Vec<_> = everything.iter().map(|recorded| recorded.recorded).collect();
    for (from, to) in times.iter().zip(times.iter().rev()) {
        let between =
            Filter { recorded_from: Some(*from), recorded_to: Some(*to), ..Filter::default() };
        let found = store.read_all(Position::ZERO, &between, 100).await?.events;
        let fits = |event: &&RecordedEvent| *from <= event.recorded && event.recorded <= *to;
        let right: Vec<_> = everything.iter().filter(fits).cloned().collect();
        ensure_eq!(found, right, "what was recorded from {from:?} to {to:?}");
    }
    Ok(())
}

/// Events below a truncation are gone from reads; versions do not restart.
pub async fn truncated(store: Store) -> Verdict {
    for number in 1..=5_u32 {
        say(&store, "a", &number.to_string()).await?;
    }
    let head = settled(&store, &["a"]).await?;
    store.truncate_before(&stream("a")?, Version::new(4)).await?;
    ensure_eq!(words(&store, "a").await?, ["4", "5"], "what is left");
    store.wait_for(head, Duration::from_secs(20)).await?;
    let page = store.read_all(Position::ZERO, &Filter::default(), 10).await?;
    ensure_eq!(page.events.len(), 2, "what is left in the whole store");
    let appended = say(&store, "a", "6").await?;
    ensure_eq!(appended.versions, [Version::new(6)], "the version after a truncation");
    let info = store.stream_info(&stream("a")?).await?;
    ensure_eq!(info.map(|info| info.first), Some(Version::new(4)), "the first version");
    store.truncate_before(&stream("a")?, Version::new(2)).await?;
    let info = store.stream_info(&stream("a")?).await?;
    ensure_eq!(info.map(|info| info.first), Some(Version::new(4)), "a truncation goes forward");
    store.truncate_before(&stream("a")?, Version::new(7)).await?;
    ensure_eq!(words(&store, "a").await?, Vec::<String>::new(), "a stream truncated to its end");
    let head = settled(&store, &["a"]).await?;
    store.wait_for(head, Duration::ZERO).await?;
    let appended = say(&store, "a", "7").await?;
    ensure_eq!(appended.versions, [Version::new(7)], "the version after a whole truncation");
    let beyond = store.truncate_before(&stream("a")?, Version::new(9)).await;
    let kind = beyond.map_err(|error| error.kind().clone());
    ensure_eq!(kind, Err(ErrorKind::Invalid), "a truncation beyond the end");
    let absent = store.truncate_before(&stream("none")?, Version::new(1)).await;
    let kind = absent.map_err(|error| error.kind().clone());
    ensure_eq!(kind, Err(ErrorKind::NotFound), "a truncation of nothing");
    Ok(())
}

/// A tombstoned stream is gone for good.
pub async fn tombstoned(store: Store) -> Verdict {
    say(&store, "a", "one").await?;
    say(&store, "b", "two").await?;
    let early = store.tombstone(&stream("a")?, Expected::Exactly(Version::new(7))).await;
    let conflict =
        matches!(early.map_err(|error| error.kind().clone()), Err(ErrorKind::Conflict { .. }));
    ensure!(conflict, "a tombstone with a wrong version was not refused as a conflict");
    store.tombstone(&stream("a")?, Expected::Exactly(Version::new(1))).await?;
    ensure_eq!(words(&store, "a").await?, Vec::<String>::new(), "a tombstoned stream");
    ensure_eq!(store.stream_info(&stream("a")?).await?, None, "what is known of it");
    let append = Append::to(stream("a")?, Expected::Any, vec![event("again")?]);
    let refused = store.append(append).await.map_err(|error| error.kind().clone());
    ensure_eq!(refused.map(|_| ()), Err(ErrorKind::Denied), "an append to it");
    ensure_eq!(words(&store, "b").await?, ["two"], "another stream");
    let absent = store.tombstone(&stream("none")?, Expected::Any).await;
    let kind = absent.map_err(|error| error.kind().clone());
    ensure_eq!(kind, Err(ErrorKind::NotFound), "a tombstone for nothing");
    Ok(())
}

/// A wait for a position ends when it is reached, and not before.
pub async fn waits_for_a_position(store: Store) -> Verdict {
    let first = say(&store, "a", "one").await?.position;
    store.wait_for(first, Duration::from_secs(20)).await?;
    store.wait_for(first, Duration::ZERO).await?;
    let early = store.wait_for(first.next(), Duration::from_millis(10)).await;
    let kind = early.map_err(|error| error.kind().clone());
    ensure_eq!(kind, Err(ErrorKind::Timeout), "a wait for what does not come");
    let waiting = {
        let store = Arc::clone(&store);
        async move { store.wait_for(first.next(), Duration::from_secs(20)).await }
    };
    let (waited, appended) = tokio::join!(waiting, say(&store, "a", "two"));
    waited?;
    ensure!(first < appended?.position, "a later event has a later position");
    Ok(())
}

/// A part without events is a condition on its stream, and writes nothing.
pub async fn checks_alone(store: Store) -> Verdict {
    say(&store, "limit", "open").await?;
    let order = |expected| {
        let order = Append::to(stream("order")?, Expected::Any, vec![event("ordered")?]);
        Ok::<_, crate::contract::Breach>(order.and(stream("limit")?, expected, vec![]))
    };
    let appended = store.append(order(Expected::Exactly(Version::new(1)))?).await?;
    ensure_eq!(appended.versions, [Version::new(1), Version::new(1)], "the versions it tells");
    say(&store, "limit", "closed").await?;
    let refused = store.append(order(Expected::Exactly(Version::new(1)))?).await;
    let kind = refused.map_err(|error| error.kind().clone()).map(|_| ());
    let conflict = ErrorKind::Conflict {
        expected: Expected::Exactly(Version::new(1)),
        actual: Version::new(2),
    };
    ensure_eq!(kind, Err(conflict), "a condition that does not hold any more");
    ensure_eq!(words(&store, "order").await?, ["ordered"], "the orders");
    ensure_eq!(words(&store, "limit").await?, ["open", "closed"], "the stream that was checked");
    let check = Append::to(stream("limit")?, Expected::Exists, vec![]);
    let head = settled(&store, &["limit"]).await?;
    ensure_eq!(store.append(check).await?.position, head, "the position of a check alone");
    let absent = Append::to(stream("none")?, Expected::Exists, vec![]);
    ensure!(store.append(absent).await.is_err(), "a check of nothing was taken for true");
    Ok(())
}

/// An event is read as it was appended, with what the context gave, and the time.
pub async fn kept_whole(store: Store) -> Verdict {
    let random = Random::seeded(7);
    let correlation = CorrelationId::generate(Timestamp::from_millis(7), &random);
    let trace = TraceContext::root(&random, true);
    let mut payload = Payload::raw(vec![0, 255, 10, 0]);
    payload.schema = 3;
    let mut first = event("first")?.with("action", "41").with("zero\0", "\u{1f3b2}\0");
    first.payload = payload;
    let second = event("second")?.caused_by(first.id);
    let events = vec![first, second];
    let append = Append::to(stream("a")?, Expected::Absent, events.clone());
    let baggage = Baggage::default().with("season", "spring, \u{1f3b2}")?;
    let state = "vendor=1,other@x=2".parse()?;
    let context = Context::default().correlation(correlation).trace(trace);
    let context = context.trace_state(state).baggage(baggage);
    let headers = context.headers();
    ensure_eq!(headers.len(), 2, "what the context carries beside its trace");
    context.scope(async { store.append(append).await }).await?;
    let later = say(&store, "a", "bare").await?.position;
    store.wait_for(later, Duration::from_secs(20)).await?;
    let read = whole(&store, "a").await?;
    let read_all = store.read_all(Position::ZERO, &Filter::default(), 10).await?.events;
    ensure_eq!(read_all, read, "the same events read both ways");
    let kept: Vec<_> = read.iter().take(2).map(|recorded| recorded.event.clone()).collect();
    ensure_eq!(kept, events, "the events as they were appended");
    for (recorded, is_scoped) in read.iter().zip([true, true, false]) {
        let found = (recorded.correlation, recorded.trace, recorded.headers.clone());
        let right = (Some(correlation), Some(trace), headers.clone());
        let none = (None, None, Metadata::new());
        ensure_eq!(found, if is_scoped { right } else { none }, "what the context gave");
    }
    let times: Vec<_> = read.iter().map(|recorded| recorded.recorded).collect();
    let is_set = times.iter().all(|time| Timestamp::EPOCH < *time);
    ensure!(is_set && times.is_sorted(), "the times are {times:?}");
    Ok(())
}
