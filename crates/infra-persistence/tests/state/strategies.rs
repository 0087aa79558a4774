//! What every strategy keeps.

use infra_core::{ErrorKind, machine::StateMachine, version::Version};
use infra_persistence::state::{
    Action, Durable, DurableOptions, Machines, MachinesOptions, Outcome, Persistent, SnapshotCodec,
    SnapshotPolicy, Strategy, Target, recover,
};

use crate::{
    game::{Game, whole_game},
    stores::{World, stream},
};

/// Plays a whole game; after each command the machine that is read back equals the live one.
async fn play_and_read_back(name: &str, options: DurableOptions) {
    let (mut game, report) = Durable::<Game>::open(stream("g"), options.clone()).await.unwrap();
    assert_eq!((report.version, report.replayed), (Version::ZERO, 0), "{name}");
    for command in whole_game() {
        let outcome = game.execute(&Action::new("x").by("ann"), command.clone()).await.unwrap();
        assert!(matches!(outcome, Outcome::Accepted { .. }), "{name}: {command:?}");
        let back = recover::<Game>(&stream("g"), &options, Target::Latest).await.unwrap();
        assert_eq!(&back.machine, game.state(), "{name}: {command:?}");
        assert_eq!(back.report.version, game.version(), "{name}: {command:?}");
    }
    assert_eq!(game.state().phase(), "over", "{name}");
    game.close().await.unwrap();
    let (reopened, report) = Durable::<Game>::open(stream("g"), options).await.unwrap();
    assert_eq!(reopened.version(), Version::new(9), "{name}");
    assert!(report.skipped.is_empty() && report.lost == 0, "{name}: {report:?}");
}

#[tokio::test]
async fn what_was_acknowledged_is_read_back_under_every_strategy() {
    for strategy in 0..4 {
        for world in [World::new(), World::in_our_memory()] {
            let (name, options) = world.strategies().swap_remove(strategy);
            play_and_read_back(name, options).await;
        }
    }
}

#[tokio::test]
async fn a_reopened_disk_has_every_machine_of_every_strategy() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = folder.path().join("db");
    let mut left = Vec::new();
    for name in ["snapshot-only", "versioned"] {
        let (world, documents) = World::on_disk(&path).await;
        let options = world.strategies().into_iter().find(|(found, _)| *found == name).unwrap().1;
        let (mut game, _) = Durable::<Game>::open(stream(name), options).await.unwrap();
        for command in whole_game().into_iter().take(6) {
            game.execute(&Action::new("x"), command).await.unwrap();
        }
        left.push((name, game.state().clone()));
        documents.close().await;
    }
    let (world, documents) = World::on_disk(&path).await;
    for (name, state) in left {
        let options = world.strategies().into_iter().find(|(found, _)| *found == name).unwrap().1;
        let back = recover::<Game>(&stream(name), &options, Target::Latest).await.unwrap();
        assert_eq!(back.machine, state, "{name}");
    }
    documents.close().await;
}

#[tokio::test]
async fn every_version_of_a_versioned_machine_is_what_was_saved_as_it() {
    let world = World::new();
    let options = world.options(Strategy::Versioned(world.snapshots.clone()));
    let (mut game, _) = Durable::<Game>::open(stream("g"), options.clone()).await.unwrap();
    let mut saved = Vec::new();
    for command in whole_game() {
        game.execute(&Action::new("x"), command).await.unwrap();
        saved.push((game.version(), game.state().clone()));
    }
    for (version, state) in saved {
        let back = recover::<Game>(&stream("g"), &options, Target::Version(version)).await.unwrap();
        assert_eq!(back.machine, state, "{version}");
    }
}

#[tokio::test]
async fn a_refused_command_changes_nothing_and_one_that_needs_nothing_stores_nothing() {
    let world = World::new();
    let (mut game, _) = Durable::<Game>::open(stream("g"), world.hybrid()).await.unwrap();
    let refused = game.execute(&Action::new("finish"), crate::game::Command::Finish).await.unwrap();
    assert_eq!(refused, Outcome::Refused("not in this phase"));
    assert_eq!((game.version(), game.state()), (Version::ZERO, &Game::default()));
    for command in whole_game() {
        game.execute(&Action::new("x"), command).await.unwrap();
    }
    let before = game.version();
    let again = game.execute(&Action::new("finish"), crate::game::Command::Finish).await.unwrap();
    assert_eq!(again, Outcome::Accepted { version: before, events: vec![] });
    assert!(game.state().check().is_ok());
}

#[tokio::test]
async fn a_second_writer_gets_a_conflict_and_then_reads_what_the_first_stored() {
    let world = World::new();
    let (mut one, _) = Durable::<Game>::open(stream("g"), world.hybrid()).await.unwrap();
    let (mut other, _) = Durable::<Game>::open(stream("g"), world.hybrid()).await.unwrap();
    let commands = whole_game();
    one.execute(&Action::new("start"), commands[0].clone()).await.unwrap();
    let late = other.execute(&Action::new("start"), commands[0].clone()).await.unwrap_err();
    assert!(matches!(late.kind(), ErrorKind::Conflict { .. }), "{late}");
    other.execute(&Action::new("play"), commands[1].clone()).await.unwrap();
    assert_eq!(other.version(), Version::new(3));
}

#[tokio::test]
async fn bincode_is_refused_where_snapshots_are_all_there_is() {
    let world = World::new();
    for (name, options) in world.strategies() {
        let opened =
            Durable::<Game>::open(stream("g"), options.codec(SnapshotCodec::Bincode)).await;
        let is_whole_state = matches!(name, "snapshot-only" | "versioned");
        assert_eq!(opened.is_err(), is_whole_state, "{name}");
    }
    let options = world.hybrid().codec(SnapshotCodec::Bincode);
    let (mut game, _) = Durable::<Game>::open(stream("b"), options.clone()).await.unwrap();
    for command in whole_game() {
        game.execute(&Action::new("x"), command).await.unwrap();
    }
    game.snapshot().await.unwrap();
    let back = recover::<Game>(&stream("b"), &options, Target::Latest).await.unwrap();
    assert_eq!((back.report.snapshot, &back.machine), (Some(Version::new(9)), game.state()));
}

#[tokio::test]
async fn a_machine_whose_kinds_take_this_crates_names_is_refused() {
    #[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
    struct Thief;
    impl StateMachine for Thief {
        type Command = ();
        type Event = ();
        type Refusal = ();
        const NAME: &'static str = "thief";
        const SCHEMA_VERSION: u32 = 1;
        fn decide(&self, (): ()) -> Result<Vec<()>, ()> {
            Ok(vec![()])
        }
        fn evolve(&mut self, (): &()) {}
    }
    impl Persistent for Thief {
        fn kind((): &()) -> &'static str {
            "state.owned"
        }
        fn phase(&self) -> &'static str {
            "any"
        }
    }
    let world = World::new();
    let (mut thief, _) = Durable::<Thief>::open(stream("t"), world.hybrid()).await.unwrap();
    let refused = thief.execute(&Action::new("steal"), ()).await.unwrap_err();
    assert_eq!(refused.kind(), &ErrorKind::Invalid);
}

#[tokio::test]
async fn a_policy_of_ten_snapshots_never_shows_more_than_it_keeps() {
    let world = World::new();
    let policy = SnapshotPolicy::never().keep(3);
    let options = world.options(Strategy::SnapshotOnly(world.snapshots.clone())).policy(policy);
    let machines = Machines::<Game>::new(MachinesOptions::new(options));
    for name in ["game-1", "game-10"] {
        let game = machines.get(&stream(name)).await.unwrap();
        let mut game = game.lock().await;
        for (n_done, command) in (1..).zip(whole_game()) {
            game.execute(&Action::new("x"), command).await.unwrap();
            let versions = world.snapshots.versions(&stream(name)).await.unwrap();
            assert!(versions.is_sorted_by(|one, other| other < one), "newest first: {versions:?}");
            assert_eq!(versions.len(), n_done.min(3), "{versions:?}");
            assert_eq!(versions[0], game.version());
        }
    }
}
