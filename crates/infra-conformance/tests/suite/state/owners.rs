//! Two owners of one machine in PostgreSQL, under a fault proxy: the old one's lease has ended, its clock is
//! off by an hour, its process was stopped beyond the lease; it knows nothing of all that and goes on writing.

use std::{path::PathBuf, sync::Arc, time::Duration};

use infra_core::{
    Clock, ErrorKind, SystemClock,
    clock::{Instant, Timestamp},
    event::Direction,
    id::Scope,
    lease::{Lease, Leases},
    version::Version,
};
use infra_persistence::state::{Action, Durable, Outcome, Target, recover};
use infra_testkit::proxy::{FaultProxy, Faults};

use super::{
    children::{Process, run, said, told},
    counter::{Counter, counted},
    places::{Place, Stores, stream},
};

const TTL: Duration = Duration::from_secs(1);

fn scope() -> Scope {
    Scope::new("counter").unwrap()
}

/// A clock that is an hour ahead.
#[derive(Debug)]
struct HourAhead(SystemClock);

impl Clock for HourAhead {
    fn now(&self) -> Instant {
        self.0.now()
    }

    fn wall(&self) -> Timestamp {
        self.0.wall().plus(Duration::from_hours(1))
    }
}

/// Counts as the owner by one lease, which it never renews and never looks at again, until the store has
/// refused it as fenced three times. As a test of its own it has nothing to do.
#[test]
fn child_that_owns() {
    let Some(told) = told() else { return };
    run(async {
        let clock: Arc<dyn Clock> = match told.words.as_str() {
            "ahead" => Arc::new(HourAhead(SystemClock::new())),
            _ => SystemClock::shared(),
        };
        let stores = told.place.open_with(clock).await;
        let lease = told.place.leases().await.acquire(&scope(), "old", TTL).await.unwrap();
        let options = stores.hybrid().fence(lease.unwrap().fence());
        let (mut counter, _) = Durable::<Counter>::open(stream("c"), options).await.unwrap();
        let mut n_fenced = 0;
        while n_fenced < 3 {
            // Also after a failure of which it is not known what it did.
            let next = counter.state().count + 1;
            match counter.execute(&Action::new("count").by("old"), next).await {
                Ok(Outcome::Accepted { version, .. }) => told.say(&format!("counted {version}")),
                // What the store has since been found to hold is further on.
                Ok(Outcome::Refused(_)) => told.say("refused"),
                Err(error) if error.kind() == &ErrorKind::Fenced => n_fenced += 1,
                Err(error) => told.say(&format!("failed {error}")),
            }
        }
        told.say("fenced");
    });
}

/// Takes the lease as soon as the server says that the old one's has ended.
async fn take_over(leases: &impl Leases) -> Lease {
    loop {
        if let Some(lease) = leases.acquire(&scope(), "new", TTL * 60).await.unwrap() {
            return lease;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What is done to the old owner.
#[derive(Clone, Copy)]
struct Case {
    clock: &'static str,
    is_stopped: bool,
    faults: Faults,
}

async fn two_owners(case: Case) {
    let folder = tempfile::tempdir().unwrap();
    let lines: PathBuf = folder.path().join("lines");
    let place = Place::on_postgres();
    // The tables are made before connections are spoilt.
    place.open().await.close().await;
    let leases = place.leases().await;
    let proxy = FaultProxy::start(place.addr()).await.unwrap();
    proxy.set(case.faults);
    let through = place.through(proxy.addr());
    let mut old = Process::start("state::owners::child_that_owns", &through, &lines, case.clock);
    let waited = lines.clone();
    let counted_some =
        |lines: &[String]| 5 < lines.iter().filter(|line| line.starts_with("counted")).count();
    let mut old = tokio::task::spawn_blocking(move || {
        old.wait_until(&waited, counted_some);
        old
    })
    .await
    .unwrap();
    if case.is_stopped {
        old.signal("-STOP");
    }
    proxy.cut();
    let lease = take_over(&leases).await;
    let stores = place.open().await;
    let options = stores.hybrid().fence(lease.fence());
    let (mut new, report) = Durable::<Counter>::open(stream("c"), options).await.unwrap();
    let said_before = said(&lines).len();
    if case.is_stopped {
        old.signal("-CONT");
    }
    let taken_over = report.version;
    for _ in 0..40 {
        let next = new.state().count + 1;
        new.execute(&Action::new("count").by("new"), next).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let ended = tokio::task::spawn_blocking(move || old.join(Duration::from_mins(1)));
    ended.await.unwrap();
    // The new one goes on, whatever the old one tried.
    let next = new.state().count + 1;
    new.execute(&Action::new("count").by("new"), next).await.unwrap();

    let lines = said(&lines);
    audit(&stores, taken_over, &lines).await;
    let back = recover::<Counter>(&stream("c"), &stores.hybrid(), Target::Latest).await.unwrap();
    assert_eq!((&back.machine, new.state()), (&counted(new.state().count), &back.machine));
    let n_lines = lines.len();
    println!("{n_lines} lines of the old owner, {said_before} before the new one had committed");
}

/// Holds the stream and what the old owner was told against the version at which the new one took over.
async fn audit(stores: &Stores, taken_over: Version, lines: &[String]) {
    assert_eq!(lines.last().map(String::as_str), Some("fenced"));
    let (name, first) = (stream("c"), Version::new(1));
    let recorded = stores.events.read_stream(&name, first, Direction::Forward, 10_000).await;
    let recorded = recorded.unwrap();
    assert_eq!(
        recorded[usize::try_from(taken_over.get()).unwrap() - 1].event.event_type.as_str(),
        "state.owned"
    );
    for event in &recorded {
        let by = event.event.metadata.get("state-actor").map(String::as_str);
        let is_after = taken_over < event.version;
        assert_ne!(by, Some(if is_after { "old" } else { "new" }), "event {}", event.version);
    }
    for line in lines {
        let Some(version) = line.strip_prefix("counted ") else { continue };
        let version: u64 = version.parse().unwrap();
        assert!(version < taken_over.get(), "acknowledged after {taken_over}: {version}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_was_stopped_beyond_its_lease_writes_nothing_any_more() {
    let faults = Faults { delay: Duration::from_millis(2), ..Faults::default() };
    two_owners(Case { clock: "right", is_stopped: true, faults }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_whose_clock_is_an_hour_ahead_writes_nothing_any_more() {
    // Each of its connections is cut in the middle of what it hears, again and again.
    let faults =
        Faults { cut_after: Some(20_000), delay: Duration::from_millis(1), ..Faults::default() };
    two_owners(Case { clock: "ahead", is_stopped: false, faults }).await;
}
