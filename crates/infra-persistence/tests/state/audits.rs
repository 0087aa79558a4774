//! Snapshots that do not tell the truth are found.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use infra_core::{lifecycle::Shutdown, machine::StateMachine, random::Random, version::Version};
use infra_persistence::state::{
    Action, Audit, Auditor, Durable, Persistent, SnapshotPolicy, audit,
};
use serde::{Deserialize, Serialize};

use crate::{
    game::{Game, whole_game},
    stores::{World, stream},
};

/// A machine whose fifth event depends on something outside of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Moody {
    sum: u64,
    n_events: u64,
}

static MOOD: AtomicU64 = AtomicU64::new(0);

impl StateMachine for Moody {
    type Command = u64;
    type Event = u64;
    type Refusal = ();
    const NAME: &'static str = "moody";
    const SCHEMA_VERSION: u32 = 1;

    fn decide(&self, command: u64) -> Result<Vec<u64>, ()> {
        Ok(vec![command])
    }

    fn evolve(&mut self, event: &u64) {
        self.n_events += 1;
        self.sum += event;
        if self.n_events == 5 {
            self.sum += MOOD.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Persistent for Moody {
    fn kind(_: &u64) -> &'static str {
        "added"
    }

    fn phase(&self) -> &'static str {
        "moody"
    }
}

fn policy() -> SnapshotPolicy {
    SnapshotPolicy::never().every(2).keep(100)
}

#[tokio::test]
async fn a_machine_that_folds_at_random_is_named_with_its_first_differing_event() {
    let world = World::new();
    let options = world.hybrid().policy(policy());
    let (mut moody, _) = Durable::<Moody>::open(stream("m"), options.clone()).await.unwrap();
    for number in 0..8 {
        moody.execute(&Action::new("add"), number).await.unwrap();
        moody.settle().await;
    }
    let Audit::Differs(finding) = audit::<Moody>(&stream("m"), &options).await.unwrap() else {
        panic!("nothing was found")
    };
    assert_eq!((finding.machine, finding.version), ("moody", Version::new(6)));
    assert_eq!((finding.first_differing, finding.is_random), (Version::new(5), true));
}

#[tokio::test]
async fn a_pure_machine_is_sound_and_a_planted_state_is_found() {
    let world = World::new();
    let options = world.hybrid().policy(policy());
    let (mut game, _) = Durable::<Game>::open(stream("g"), options.clone()).await.unwrap();
    for command in whole_game() {
        game.execute(&Action::new("x"), command).await.unwrap();
        game.settle().await;
    }
    let sound = audit::<Game>(&stream("g"), &options).await.unwrap();
    assert!(matches!(sound, Audit::Sound { compared: 4, passed_over: 0 }), "{sound:?}");
    // The state of version 4 in the snapshot of version 6, with its event's id: valid in itself, and wrong.
    let versions = world.snapshots.versions(&stream("g")).await.unwrap();
    let older = world.snapshots.latest(&stream("g"), versions[2]).await.unwrap().unwrap();
    let newer = world.snapshots.latest(&stream("g"), versions[1]).await.unwrap().unwrap();
    let mut body = older.payload.body.to_vec();
    body[50..66].copy_from_slice(&newer.payload.body[50..66]);
    let payload = infra_core::codec::Payload { body: body.into(), ..older.payload };
    let planted = infra_core::snapshot::Snapshot { payload, ..newer };
    world
        .snapshots
        .put_snapshot(planted, infra_core::durability::Durability::Durable, None)
        .await
        .unwrap();
    let Audit::Differs(finding) = audit::<Game>(&stream("g"), &options).await.unwrap() else {
        panic!("nothing was found")
    };
    assert_eq!((finding.version, finding.is_random), (versions[1], false));
    assert_eq!(finding.first_differing, versions[2].next());
    world.events.truncate_before(&stream("g"), Version::new(3)).await.unwrap();
    assert_eq!(audit::<Game>(&stream("g"), &options).await.unwrap(), Audit::NoBeginning);
    let nobody = audit::<Game>(&stream("nobody"), &options).await.unwrap();
    assert_eq!(nobody, Audit::Sound { compared: 0, passed_over: 0 });
}

#[tokio::test(start_paused = true)]
async fn the_auditor_looks_at_a_sample_each_round_until_it_is_stopped() {
    let world = World::new();
    let options = world.hybrid().policy(policy());
    for name in ["a", "b", "c"] {
        let (mut game, _) = Durable::<Game>::open(stream(name), options.clone()).await.unwrap();
        game.execute(&Action::new("x"), whole_game().swap_remove(0)).await.unwrap();
    }
    let seen = Arc::new(Mutex::new(Vec::new()));
    let shutdown = Shutdown::new();
    let auditor = Auditor::new(options, Duration::from_mins(1), 2, Random::seeded(1));
    let reported = Arc::clone(&seen);
    shutdown.spawn(auditor.run::<Game>(
        || ["a", "b", "c"].map(stream).to_vec(),
        move |name, _| reported.lock().unwrap().push(name.clone()),
        shutdown.stop(),
    ));
    tokio::time::sleep(Duration::from_secs(601)).await;
    let ended = shutdown.close(Duration::from_secs(1)).await;
    assert_eq!((ended.finished, ended.aborted), (1, 0));
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 20, "two of three, ten times");
    assert!(["a", "b", "c"].into_iter().all(|name| seen.contains(&stream(name))));
}
