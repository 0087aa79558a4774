//! Every way to come back equals a plain fold over the same events.

use std::{sync::Arc, time::Duration};

use infra_core::{ErrorKind, event::Direction, machine::StateMachine as _, version::Version};
use infra_persistence::state::{
    Action, Durable, DurableOptions, Refusals, SnapshotPolicy, Strategy, Target, recover,
    recover_all,
};
use infra_testkit::model::ModelSnapshots;

use crate::{
    game::{Command, Game, states_of, whole_game},
    stores::{World, stream},
};

/// Plays the game, a minute for each command, with snapshots every `every` events.
async fn played(world: &World, every: u64) -> DurableOptions {
    let policy = SnapshotPolicy::never().every(every).keep(100);
    let options = world.hybrid().policy(policy);
    let (mut game, _) = Durable::<Game>::open(stream("g"), options.clone()).await.unwrap();
    for command in whole_game() {
        world.clock.advance(Duration::from_secs(60));
        game.execute(&Action::new("x"), command).await.unwrap();
        game.settle().await;
    }
    options
}

#[tokio::test]
async fn the_state_of_any_version_is_the_fold_up_to_it_whatever_the_snapshots() {
    let states = states_of(&whole_game());
    for every in [0, 1, 2, 3, 5] {
        let world = World::new();
        let options = played(&world, every).await;
        for (version, state) in (0..).map(Version::new).zip(&states) {
            let back =
                recover::<Game>(&stream("g"), &options, Target::Version(version)).await.unwrap();
            assert_eq!(&back.machine, state, "every {every}, version {version}");
            let from = back.report.snapshot.unwrap_or(Version::ZERO);
            assert_eq!(from.plus(back.report.replayed), version, "{:?}", back.report);
            assert_eq!(back.report.broken, None);
        }
        let beyond =
            recover::<Game>(&stream("g"), &options, Target::Version(Version::new(10))).await;
        assert_eq!(beyond.unwrap_err().kind(), &ErrorKind::NotFound);
    }
}

#[tokio::test]
async fn the_state_at_any_time_is_the_fold_of_what_was_stored_by_then() {
    let world = World::new();
    let start = infra_core::Clock::wall(&world.clock);
    let options = played(&world, 2).await;
    let recorded = world
        .events
        .read_stream(&stream("g"), Version::new(1), Direction::Forward, 100)
        .await
        .unwrap();
    let states = states_of(&whole_game());
    for seconds in (0..=9 * 60).step_by(30) {
        let time = start.plus(Duration::from_secs(seconds));
        let n_stored = recorded.iter().filter(|event| event.recorded <= time).count();
        let back = recover::<Game>(&stream("g"), &options, Target::At(time)).await.unwrap();
        assert_eq!(back.machine, states[n_stored], "{seconds} s");
    }
}

#[tokio::test]
async fn a_snapshot_alone_can_be_asked_for_and_one_of_another_machine_cannot() {
    let world = World::new();
    let options = played(&world, 2).await;
    let states = states_of(&whole_game());
    let versions = world.snapshots.versions(&stream("g")).await.unwrap();
    assert!(3 <= versions.len(), "{versions:?}");
    for version in versions {
        let back =
            recover::<Game>(&stream("g"), &options, Target::Snapshot(version)).await.unwrap();
        assert_eq!(back.machine, states[usize::try_from(version.get()).unwrap()]);
        assert_eq!(back.report.replayed, 0);
    }
    let missing = recover::<Game>(&stream("g"), &options, Target::Snapshot(Version::new(1))).await;
    assert_eq!(missing.unwrap_err().kind(), &ErrorKind::NotFound);
    let other = recover::<Game>(&stream("h"), &options, Target::Snapshot(Version::new(2))).await;
    assert_eq!(other.unwrap_err().kind(), &ErrorKind::NotFound);
}

#[tokio::test]
async fn the_state_before_the_last_error_is_the_one_that_refused() {
    let world = World::new();
    let options = world.hybrid().refusals(Refusals::Record);
    let (mut game, _) = Durable::<Game>::open(stream("g"), options.clone()).await.unwrap();
    let none = recover::<Game>(&stream("g"), &options, Target::BeforeLastError).await;
    assert_eq!(none.unwrap_err().kind(), &ErrorKind::NotFound);
    let commands = whole_game();
    game.execute(&Action::new("start"), commands[0].clone()).await.unwrap();
    game.execute(&Action::new("finish"), Command::Finish).await.unwrap();
    game.execute(&Action::new("play"), commands[1].clone()).await.unwrap();
    let when_refused = game.state().clone();
    game.execute(&Action::new("finish"), Command::Finish).await.unwrap();
    game.execute(&Action::new("play"), commands[2].clone()).await.unwrap();
    let back = recover::<Game>(&stream("g"), &options, Target::BeforeLastError).await.unwrap();
    assert_eq!(back.machine, when_refused);
    let latest = recover::<Game>(&stream("g"), &options, Target::Latest).await.unwrap();
    assert_eq!(&latest.machine, game.state(), "a remembered refusal changes no state");
}

#[tokio::test]
async fn more_events_than_may_be_replayed_are_an_error_and_never_a_part_of_them() {
    let world = World::new();
    let options = played(&world, 0).await;
    for (max_replay, fits) in [(9, true), (8, false)] {
        let options = options.clone().max_replay(max_replay);
        let back = recover::<Game>(&stream("g"), &options, Target::Latest).await;
        match back {
            Ok(back) => assert!(fits && back.machine.check().is_ok()),
            Err(error) => assert!(!fits && error.kind() == &ErrorKind::Overloaded, "{error}"),
        }
    }
}

#[tokio::test]
async fn an_event_that_was_stored_in_another_phase_is_reported() {
    use infra_core::{
        codec::Payload,
        event::{Append, NewEvent},
        id::{EventId, EventType},
        random::Random,
        version::Expected,
    };
    let world = World::new();
    let options = played(&world, 0).await;
    let id = EventId::generate(infra_core::Clock::wall(&world.clock), &Random::seeded(99));
    let payload = Payload::json(2, &crate::game::Event::Finished).unwrap();
    let event =
        NewEvent::new(id, EventType::new("finished").unwrap(), payload).with("state-from", "idle");
    world.events.append(Append::to(stream("g"), Expected::Any, vec![event])).await.unwrap();
    let back = recover::<Game>(&stream("g"), &options, Target::Latest).await.unwrap();
    assert_eq!(back.report.broken, Some(Version::new(10)));
}

#[tokio::test]
async fn a_truncated_stream_needs_its_snapshot_and_says_so() {
    let world = World::new();
    let options = played(&world, 4).await;
    let newest = world.snapshots.versions(&stream("g")).await.unwrap()[0];
    world.events.truncate_before(&stream("g"), newest.next()).await.unwrap();
    let back = recover::<Game>(&stream("g"), &options, Target::Latest).await.unwrap();
    assert_eq!(&back.machine, states_of(&whole_game()).last().unwrap());
    let without = DurableOptions::new(
        Strategy::Hybrid {
            events: world.events.clone(),
            snapshots: Arc::new(ModelSnapshots::new()),
        },
        world.shared_clock(),
    );
    let lost = recover::<Game>(&stream("g"), &without, Target::Latest).await.unwrap_err();
    assert_eq!(lost.kind(), &ErrorKind::Corrupt);
    assert!(lost.to_string().contains("event 1"), "{lost}");
}

#[tokio::test]
async fn strategies_without_events_say_what_they_cannot_come_back_to() {
    let world = World::new();
    let options = world.options(Strategy::SnapshotOnly(world.snapshots.clone()));
    let asked = recover::<Game>(&stream("g"), &options, Target::BeforeLastError).await;
    assert_eq!(asked.unwrap_err().kind(), &ErrorKind::Unsupported);
    let asked = recover::<Game>(&stream("g"), &options, Target::Latest).await.unwrap();
    assert_eq!((asked.report.version, asked.report.snapshot), (Version::ZERO, None));
    let sourced = world.options(Strategy::EventSourced(world.events.clone()));
    let asked = recover::<Game>(&stream("g"), &sourced, Target::Snapshot(Version::new(1))).await;
    assert_eq!(asked.unwrap_err().kind(), &ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_come_back_in_parallel_and_progress_is_told() {
    let world = World::new();
    let options = world.hybrid();
    let commands = whole_game();
    let streams: Vec<_> = (0..200).map(|number| stream(&format!("g-{number}"))).collect();
    for (number, name) in streams.iter().enumerate() {
        let (mut game, _) = Durable::<Game>::open(name.clone(), options.clone()).await.unwrap();
        for command in &commands[..=number % commands.len()] {
            game.execute(&Action::new("x"), command.clone()).await.unwrap();
        }
    }
    let told = std::sync::Mutex::new(Vec::new());
    let progress = |done, all| told.lock().unwrap().push((done, all));
    let back = recover_all::<Game>(streams.clone(), &options, 8, progress).await;
    for (number, ((name, recovered), asked)) in back.into_iter().zip(&streams).enumerate() {
        let states = states_of(&commands[..=number % commands.len()]);
        assert_eq!((&name, &recovered.unwrap().machine), (asked, states.last().unwrap()));
    }
    let told = told.into_inner().unwrap();
    assert_eq!((told.len(), told.last()), (200, Some(&(200, 200))));
}

#[tokio::test]
async fn what_came_back_in_bulk_is_gone_on_with_and_a_stream_that_has_gone_on_is_noticed() {
    let world = World::new();
    let options = played(&world, 3).await;
    let name = stream("h");
    let (mut first, _) = Durable::<Game>::open(name.clone(), options.clone()).await.unwrap();
    let start = Command::Start(vec!["ann".to_owned()]);
    first.execute(&Action::new("start"), start).await.unwrap();
    let mut back = recover_all::<Game>(vec![name.clone()], &options, 4, |_, _| {}).await;
    let recovered = back.pop().unwrap().1.unwrap();
    let resume = || Durable::resume(name.clone(), options.clone(), recovered.clone());
    let mut game = resume().unwrap();
    game.execute(&Action::new("end"), Command::EndRound).await.unwrap();
    let mut late = resume().unwrap();
    let conflict = late.execute(&Action::new("end"), Command::EndRound).await.unwrap_err();
    assert!(matches!(conflict.kind(), ErrorKind::Conflict { .. }), "{conflict}");
    late.refresh().await.unwrap();
    assert_eq!((late.state(), late.version()), (game.state(), game.version()));
    let refused = late.execute(&Action::new("end"), Command::EndRound).await.unwrap();
    assert_eq!(refused, infra_persistence::state::Outcome::Refused("not in this phase"));

    let earlier = recover::<Game>(&name, &options, Target::Version(Version::new(1))).await.unwrap();
    let refused = Durable::resume(name.clone(), options.clone(), earlier).unwrap_err();
    assert_eq!(refused.kind(), &ErrorKind::Invalid);
    let fence = infra_core::lease::Fence {
        scope: infra_core::id::Scope::new("h").unwrap(),
        token: infra_core::version::FencingToken::new(1),
    };
    let refused = Durable::resume(name, options.fence(fence), recovered).unwrap_err();
    assert_eq!(refused.kind(), &ErrorKind::Invalid);
}
