//! Writing behind: acknowledged at once, written soon, in order, nothing lost.

use std::{collections::HashMap, sync::Arc, time::Duration};

use infra_cache::{BehindOptions, Edit, Journal, Options, TieredBuilder, WriteBehind, Writer};
use infra_core::{
    Error, ErrorKind, SystemClock,
    backoff::Backoff,
    codec::Payload,
    id::Collection,
    lifecycle::Shutdown,
    store::{Batch, DocumentStore as _, Scan},
    version::Expected,
};
use infra_testkit::{model::ModelDocuments, seed::Seed};
use parking_lot::Mutex;
use rand::RngExt as _;
use tokio::task::JoinSet;

use super::{
    origin::{Fault, Origin},
    over, remote,
};

/// An edit that was given up, and why.
type Told = (Edit<u64>, ErrorKind);

const MILLI: Duration = Duration::from_millis(1);

fn options() -> BehindOptions {
    BehindOptions::default()
        .batch(2)
        .interval(MILLI * 100)
        .pause(Backoff::exponential(MILLI * 10).capped_at(MILLI * 40))
}

fn behind(origin: &Arc<Origin>, options: BehindOptions) -> (WriteBehind<u64>, Writer<u64>) {
    let clock = SystemClock::shared();
    // So small that what is saved is soon not in memory any more.
    let cache = TieredBuilder::new(Options::new(2), Arc::clone(&clock)).build();
    WriteBehind::new(cache, Arc::clone(origin) as _, options, clock)
}

fn running(writer: Writer<u64>) -> Shutdown {
    let shutdown = Shutdown::new();
    shutdown.spawn(writer.run(shutdown.stop()));
    shutdown
}

#[tokio::test(start_paused = true)]
async fn a_full_batch_is_written_at_once_and_a_single_edit_when_its_time_is_over() {
    let origin = Arc::new(Origin::default());
    let (values, writer) = behind(&origin, options());
    let shutdown = running(writer);
    values.save("key1", 1).await.unwrap();
    assert_eq!(values.get("key1").await.unwrap(), Some(1), "visible at once");
    tokio::time::sleep(MILLI * 50).await;
    assert_eq!((origin.written(), values.waiting()), (0, 1));
    values.save("key2", 2).await.unwrap();
    tokio::time::sleep(MILLI).await;
    assert_eq!((origin.written(), values.waiting()), (2, 0), "the batch was full");
    values.save("key3", 3).await.unwrap();
    tokio::time::sleep(MILLI * 99).await;
    assert_eq!(origin.written(), 2);
    tokio::time::sleep(MILLI * 2).await;
    assert_eq!(origin.written(), 3, "its time was over");
    assert_eq!(
        *origin.writes.lock(),
        [vec![Edit::save("key1", 1), Edit::save("key2", 2)], vec![Edit::save("key3", 3)],]
    );
    shutdown.close(MILLI).await;
}

#[tokio::test(start_paused = true)]
async fn of_several_edits_of_a_key_the_last_is_written_and_what_waits_is_read() {
    let origin = Arc::new(Origin::default());
    origin.values.lock().extend([("a".to_owned(), 7), ("c".to_owned(), 9)]);
    let (values, writer) = behind(&origin, options().batch(10));
    let shutdown = running(writer);
    values.save("a", 1).await.unwrap();
    values.save("b", 2).await.unwrap();
    values.delete("a").await.unwrap();
    values.save("b", 3).await.unwrap();
    values.save("d", 4).await.unwrap();
    values.delete("d").await.unwrap();
    assert_eq!(values.get("a").await.unwrap(), None, "deleted here, though the source has it");
    assert_eq!(origin.value("a"), Some(7));
    let keys = ["a", "b", "c", "d"].map(str::to_owned);
    let expected: HashMap<_, _> = [("b".to_owned(), 3), ("c".to_owned(), 9)].into();
    assert_eq!(values.get_many(&keys).await.unwrap(), expected);
    assert_eq!(*origin.loads.lock(), [["c".to_owned()]], "only what does not wait is asked for");
    tokio::time::sleep(MILLI * 101).await;
    assert_eq!(*origin.writes.lock(), [[Edit::delete("a"), Edit::save("b", 3), Edit::delete("d")]]);
    assert_eq!(values.get_many(&keys).await.unwrap(), expected);
    shutdown.close(MILLI).await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_write_is_repeated_with_what_is_newest_and_never_with_something_older() {
    let origin = Arc::new(Origin::default());
    *origin.slowness.lock() = MILLI * 5;
    origin.fail([Fault::Down, Fault::Unanswered, Fault::Panics]);
    let (values, writer) = behind(&origin, options());
    let shutdown = running(writer);
    values.save("a", 1).await.unwrap();
    values.save("b", 1).await.unwrap();
    // While the first attempt is on its way, and in the pauses after it.
    for version in 2..30 {
        tokio::time::sleep(MILLI * 3).await;
        values.save("a", version).await.unwrap();
        assert_eq!(values.get("a").await.unwrap(), Some(version));
    }
    tokio::time::sleep(MILLI * 300).await;
    assert_eq!((origin.value("a"), origin.value("b"), values.waiting()), (Some(29), Some(1), 0));
    let written = origin.writes.lock().clone();
    let of_a = written.iter().flatten().filter(|edit| edit.key == "a").map(|edit| edit.value);
    assert!(of_a.is_sorted(), "{written:?}");
    shutdown.close(MILLI).await;
}

#[tokio::test(start_paused = true)]
async fn what_the_source_refuses_for_good_is_given_up_and_told_and_stops_nobody_else() {
    let origin = Arc::new(Origin::default());
    let (values, writer) = behind(&origin, options().batch(3));
    let told: Arc<Mutex<Vec<Told>>> = Arc::default();
    let noted = Arc::clone(&told);
    values.refused(move |edit, error: &Error| {
        noted.lock().push((edit.clone(), error.kind().clone()));
    });
    let shutdown = running(writer);
    for (key, value) in [("a", 1), ("~", 2), ("b", 3)] {
        values.save(key, value).await.unwrap();
    }
    assert_eq!(values.get("~").await.unwrap(), Some(2));
    tokio::time::sleep(MILLI).await;
    assert_eq!((origin.value("a"), origin.value("b"), values.waiting()), (Some(1), Some(3), 0));
    assert_eq!(*told.lock(), [(Edit::save("~", 2), ErrorKind::Invalid)]);
    assert_eq!(values.get("~").await.unwrap(), None, "it is shown no longer");
    shutdown.close(MILLI).await;
}

#[tokio::test(start_paused = true)]
async fn a_full_buffer_makes_savers_wait_and_refuses_them_when_their_patience_is_over() {
    let origin = Arc::new(Origin::default());
    let (values, writer) = behind(&origin, options().capacity(3).patience(MILLI * 500));
    for key in ["a", "b", "c"] {
        values.save(key, 1).await.unwrap();
    }
    values.save("a", 2).await.unwrap();
    let refused = values.save("d", 1).await.unwrap_err();
    assert_eq!(*refused.kind(), ErrorKind::Overloaded, "nobody writes");
    let waiting = tokio::spawn({
        let values = values.clone();
        async move { values.save("d", 1).await }
    });
    tokio::time::sleep(MILLI * 100).await;
    assert!(!waiting.is_finished());
    let shutdown = running(writer);
    waiting.await.unwrap().unwrap();
    assert!(values.waiting() <= 3);
    shutdown.close(Duration::from_secs(1)).await;
    assert_eq!(origin.values.lock().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn many_savers_of_a_key_are_refused_within_the_patience_of_one() {
    let origin = Arc::new(Origin::default());
    let (values, _writer) = behind(&origin, options().capacity(1).patience(MILLI * 500));
    values.save("a", 1).await.unwrap();
    let mut savers = JoinSet::new();
    for value in 0..20 {
        let values = values.clone();
        savers.spawn(async move { values.save("d", value).await.unwrap_err().kind().clone() });
    }
    let refused = tokio::time::timeout(MILLI * 600, savers.join_all()).await.unwrap();
    assert_eq!(refused, [const { ErrorKind::Overloaded }; 20]);
}

#[tokio::test(start_paused = true)]
async fn at_the_end_all_that_waits_is_written_though_the_source_fails_at_first_and_nothing_more_is_taken()
 {
    let origin = Arc::new(Origin::default());
    origin.fail([Fault::Down; 5]);
    let (values, writer) = behind(&origin, options().batch(7).interval(Duration::from_hours(1)));
    let shutdown = running(writer);
    for key in 0..6 {
        values.save(&key.to_string(), key).await.unwrap();
    }
    let ended = shutdown.close(Duration::from_mins(1)).await;
    assert_eq!((ended.finished, origin.values.lock().len(), values.waiting()), (1, 6, 0));
    assert_eq!(*values.save("late", 1).await.unwrap_err().kind(), ErrorKind::Closed);
    assert!(format!("{values:?}").contains("interval"));
}

#[tokio::test(start_paused = true)]
async fn saves_are_refused_when_nobody_writes_any_more() {
    let origin = Arc::new(Origin::default());
    let (values, writer) = behind(&origin, options().capacity(1));
    assert!(format!("{writer:?}").contains("Writer"));
    values.save("a", 1).await.unwrap();
    let waiting = tokio::spawn({
        let values = values.clone();
        async move { values.save("b", 1).await.unwrap_err().kind().clone() }
    });
    tokio::time::sleep(MILLI).await;
    drop(writer);
    assert_eq!(waiting.await.unwrap(), ErrorKind::Closed);
    assert_eq!(*values.save("c", 1).await.unwrap_err().kind(), ErrorKind::Closed);
}

fn store() -> (Arc<ModelDocuments>, Collection) {
    let store = Arc::new(ModelDocuments::new(SystemClock::shared()));
    (store, Collection::new("journal").unwrap())
}

async fn open(
    origin: &Arc<Origin>,
    options: BehindOptions,
    (store, collection): &(Arc<ModelDocuments>, Collection),
) -> infra_core::Result<(WriteBehind<u64>, Writer<u64>)> {
    let clock = SystemClock::shared();
    let cache = TieredBuilder::new(Options::new(2), Arc::clone(&clock)).build();
    let journal = Journal::new(Arc::clone(store) as _, collection.clone());
    WriteBehind::open(cache, Arc::clone(origin) as _, options, clock, journal).await
}

/// Processes that end at any moment, each on the journal of the one before: what was acknowledged is
/// in the source at last, and of each key the last acknowledged value.
#[tokio::test(start_paused = true)]
async fn with_a_journal_no_acknowledged_edit_is_lost_whenever_the_process_ends() {
    for seed in Seed::each(20) {
        let mut dice = seed.dice();
        let (origin, journal) = (Arc::new(Origin::default()), store());
        *origin.slowness.lock() = MILLI * 3;
        let mut acknowledged: HashMap<String, Option<u64>> = HashMap::new();
        for life in 0..5_u64 {
            let (values, writer) = open(&origin, options().capacity(5), &journal).await.unwrap();
            let shutdown = running(writer);
            origin.fail((0..dice.random_range(0..3)).map(|_| Fault::Down));
            for step in 0..dice.random_range(5..40) {
                let key = dice.random_range(0..6).to_string();
                if dice.random_bool(0.2) {
                    values.delete(&key).await.unwrap();
                    acknowledged.insert(key, None);
                } else {
                    values.save(&key, life * 100 + step).await.unwrap();
                    acknowledged.insert(key.clone(), Some(life * 100 + step));
                }
                tokio::time::sleep(MILLI * dice.random_range(0..4)).await;
            }
            for (key, value) in &acknowledged {
                assert_eq!(values.get(key).await.unwrap(), *value, "{seed}");
            }
            // The writer is dropped in the middle of whatever it does.
            shutdown.close(Duration::ZERO).await;
        }
        let (values, writer) = open(&origin, options(), &journal).await.unwrap();
        running(writer).close(Duration::from_mins(1)).await;
        for (key, value) in acknowledged {
            assert_eq!(origin.value(&key), value, "{seed} {key}");
        }
        assert_eq!(values.waiting(), 0);
        let rest = journal.0.scan(&journal.1, Scan::prefix("", 10)).await.unwrap();
        assert!(rest.is_empty(), "{seed} {rest:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_journal_holds_is_read_before_it_is_written_and_something_else_in_it_is_refused() {
    let (origin, journal) = (Arc::new(Origin::default()), store());
    origin.values.lock().insert("a".to_owned(), 1);
    let (values, writer) = open(&origin, options(), &journal).await.unwrap();
    values.save("a", 2).await.unwrap();
    drop((values, writer));
    let (values, _writer) = open(&origin, options(), &journal).await.unwrap();
    assert_eq!((values.get("a").await.unwrap(), origin.value("a")), (Some(2), Some(1)));
    let foreign = |key: &'static [u8], payload| {
        Batch::new().put(journal.1.clone(), key, Expected::Any, payload)
    };
    for batch in [
        foreign(b"x", Payload::json(1, "no line").unwrap()),
        foreign(b"\xff", Payload::json(1, &serde_line()).unwrap()),
    ] {
        let other = store();
        other.0.commit(batch).await.unwrap();
        let error = open(&origin, options(), &other).await.unwrap_err();
        assert_eq!(*error.kind(), ErrorKind::Corrupt);
    }
}

fn serde_line() -> HashMap<&'static str, u64> {
    [("order", 1), ("value", 1)].into()
}

#[tokio::test(start_paused = true)]
async fn other_processes_are_told_once_the_source_has_it() {
    let (origin, second) = (Arc::new(Origin::default()), remote());
    origin.values.lock().insert("a".to_owned(), 1);
    let other =
        infra_cache::WriteThrough::<u64>::new(over(&second).build(), Arc::clone(&origin) as _);
    let (values, writer) = WriteBehind::<u64>::new(
        over(&second).build(),
        Arc::clone(&origin) as _,
        options(),
        SystemClock::shared(),
    );
    let shutdown = running(writer);
    values.save("a", 2).await.unwrap();
    assert_eq!(other.get("a").await.unwrap(), Some(1), "the source is behind");
    assert_eq!(values.get("a").await.unwrap(), Some(2));
    tokio::time::sleep(MILLI * 101).await;
    let third =
        infra_cache::WriteThrough::<u64>::new(over(&second).build(), Arc::clone(&origin) as _);
    assert_eq!(third.get("a").await.unwrap(), Some(2), "the second tier lost the older one");
    assert_eq!(values.get("a").await.unwrap(), Some(2));
    shutdown.close(MILLI).await;
}
