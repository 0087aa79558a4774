//! Snapshots are taken when the policy says so, and as many are kept.

use std::{sync::Arc, time::Duration};

use infra_core::{durability::Durability, version::Version};
use infra_persistence::state::{Action, Durable, SnapshotPolicy, Strategy, Target, recover};

use crate::{
    game::{Game, states_of, whole_game},
    stores::{Shaky, World, stream},
};

/// Plays the game, ten seconds for each command, and returns the versions of which snapshots are there.
async fn taken(policy: SnapshotPolicy, is_closed: bool) -> Vec<u64> {
    let world = World::new();
    let options = world.hybrid().policy(policy.keep(100));
    let (mut game, _) = Durable::<Game>::open(stream("g"), options).await.unwrap();
    for command in whole_game() {
        world.clock.advance(Duration::from_secs(10));
        game.execute(&Action::new("x"), command).await.unwrap();
        game.settle().await;
    }
    if is_closed {
        game.close().await.unwrap();
    }
    let mut versions: Vec<_> = world.snapshots.versions(&stream("g")).await.unwrap();
    versions.reverse();
    versions.into_iter().map(Version::get).collect()
}

#[tokio::test]
async fn snapshots_are_taken_exactly_when_they_are_due() {
    let never = SnapshotPolicy::never;
    // The commands end at the versions 2, 3, 4, 5, 6, 7, 8 and 9.
    let cases = [
        (never(), false, vec![]),
        (never().on_shutdown(), false, vec![]),
        (never().on_shutdown(), true, vec![9]),
        (never().every(3), false, vec![3, 6, 9]),
        (never().every(3).on_shutdown(), true, vec![3, 6, 9]),
        (never().every(4).on_shutdown(), true, vec![4, 8, 9]),
        (never().on_phase_change(), false, vec![2, 5, 6, 8, 9]),
        (never().older_than(Duration::from_secs(30)), false, vec![4, 7]),
        (never().when(|_, to| to == "over"), false, vec![9]),
        (never().bytes(1), false, vec![2, 3, 4, 5, 6, 7, 8, 9]),
    ];
    for (policy, is_closed, expected) in cases {
        assert_eq!(taken(policy.clone(), is_closed).await, expected, "{policy:?}");
    }
}

#[tokio::test]
async fn beside_events_a_snapshot_waits_for_no_disk_unless_it_is_asked_for() {
    let world = World::new();
    let shaky = Arc::new(Shaky::new(Arc::clone(&world.snapshots)));
    let snapshots = Arc::<Shaky<_>>::clone(&shaky);
    let hybrid = Strategy::Hybrid { events: Arc::clone(&world.events), snapshots };
    let policy = SnapshotPolicy::never().every(3).on_shutdown();
    let options = world.options(hybrid).policy(policy);
    let (mut game, _) = Durable::<Game>::open(stream("g"), options).await.unwrap();
    for command in whole_game().into_iter().take(3) {
        game.execute(&Action::new("x"), command).await.unwrap();
    }
    game.snapshot().await.unwrap();
    game.execute(&Action::new("x"), whole_game().remove(3)).await.unwrap();
    game.close().await.unwrap();
    let asked = [Durability::Buffered, Durability::Durable, Durability::Buffered];
    assert_eq!(*shaky.durabilities.lock(), asked, "by count, by hand, at the close");

    // Where they are all that is kept, they are the truth.
    let alone = Arc::new(Shaky::new(Arc::clone(&world.snapshots)));
    let snapshots = Arc::<Shaky<_>>::clone(&alone);
    let options = world.options(Strategy::SnapshotOnly(snapshots));
    let (mut game, _) = Durable::<Game>::open(stream("alone"), options).await.unwrap();
    game.execute(&Action::new("x"), whole_game().remove(0)).await.unwrap();
    assert_eq!(*alone.durabilities.lock(), [Durability::Durable]);
}

#[tokio::test]
async fn a_snapshot_that_is_asked_for_is_there_and_shortens_the_replay() {
    let world = World::new();
    let options = world.hybrid().policy(SnapshotPolicy::never());
    let (mut game, _) = Durable::<Game>::open(stream("g"), options.clone()).await.unwrap();
    for (number, command) in whole_game().into_iter().enumerate() {
        game.execute(&Action::new("x"), command).await.unwrap();
        if number == 4 {
            assert_eq!(game.snapshot().await.unwrap(), Version::new(6));
        }
    }
    let back = recover::<Game>(&stream("g"), &options, Target::Latest).await.unwrap();
    assert_eq!((back.report.snapshot, back.report.replayed), (Some(Version::new(6)), 3));
    assert_eq!(&back.machine, states_of(&whole_game()).last().unwrap());
    let sourced = world.strategies().swap_remove(1).1;
    let (mut game, _) = Durable::<Game>::open(stream("g"), sourced).await.unwrap();
    let refused = game.snapshot().await.unwrap_err();
    assert_eq!(refused.kind(), &infra_core::ErrorKind::Unsupported);
}
