//! Every way to come back, from stores that were opened anew.

use infra_core::version::Version;
use infra_persistence::state::{
    Action, Audit, Durable, Refusals, Target, TransitionQuery, audit, recover, recover_all,
    transitions,
};

use super::{
    counter::{Counter, counted},
    places::{Place, Stores, stream},
};

const LAST: u64 = 30;

/// Counts in one life of the stores, and looks at it in the next one.
async fn played(place: &Place) -> Stores {
    let stores = place.open().await;
    let options = stores.hybrid().refusals(Refusals::Record);
    let (mut counter, _) = Durable::<Counter>::open(stream("c"), options).await.unwrap();
    for number in 1..=LAST {
        counter.execute(&Action::new("count").by("ann"), number).await.unwrap();
        counter.settle().await;
    }
    counter.execute(&Action::new("count").by("bob"), 99).await.unwrap();
    counter.close().await.unwrap();
    stores.close().await;
    place.open().await
}

async fn every_mode_equals_a_fold(place: &Place) {
    let stores = played(place).await;
    let options = stores.hybrid();
    for number in 0..=LAST {
        let target = Target::Version(Version::new(number));
        let back = recover::<Counter>(&stream("c"), &options, target).await.unwrap();
        assert_eq!(back.machine, counted(number));
        let begun = back.report.snapshot.unwrap_or(Version::ZERO);
        assert_eq!(begun.plus(back.report.replayed), Version::new(number), "{:?}", back.report);
    }
    let asked = recover::<Counter>(&stream("c"), &options, Target::BeforeLastError).await.unwrap();
    assert_eq!(asked.report.version, Version::new(LAST));
    let latest = recover_all::<Counter>(vec![stream("c")], &options, 2, |_, _| {}).await;
    let latest = latest[0].1.as_ref().unwrap();
    // The refusal that is remembered is event 31, and the snapshot of the close is newer than all.
    assert_eq!((latest.machine.count, latest.report.version), (LAST, Version::new(LAST + 1)));
    assert!(latest.report.snapshot.is_some());
    let sound = audit::<Counter>(&stream("c"), &options).await.unwrap();
    assert!(matches!(sound, Audit::Sound { compared: 3, passed_over: 0 }), "{sound:?}");
    let query = TransitionQuery::newest(5).actor("ann").state("odd");
    let page = transitions(&*stores.events, &stream("c"), &query).await.unwrap();
    let versions: Vec<_> = page.transitions.iter().map(|step| step.version.get()).collect();
    assert_eq!(versions, [30, 29, 28, 27, 26]);
    let refused = TransitionQuery::newest(5).refused(true);
    let page = transitions(&*stores.events, &stream("c"), &refused).await.unwrap();
    assert_eq!(page.transitions[0].error.as_deref(), Some("\"not the next one\""));
    stores.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_disk_every_recovery_equals_a_fold_over_the_same_events() {
    let folder = tempfile::tempdir().unwrap();
    every_mode_equals_a_fold(&Place::Folder(folder.path().to_owned())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_postgresql_every_recovery_equals_a_fold_over_the_same_events() {
    every_mode_equals_a_fold(&Place::on_postgres()).await;
}
