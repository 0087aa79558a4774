//! Crashes: a command that is dropped at any await, and answers that are lost.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{Arc, atomic::Ordering},
    task::Poll,
};

use infra_core::{ErrorKind, machine::StateMachine};
use infra_persistence::state::{
    Action, Durable, DurableOptions, SnapshotPolicy, Strategy as Keep, Target, recover,
};
use proptest::prelude::*;

use crate::{
    game::{Command, Game},
    stores::{Shaky, World, stream},
};

/// Polls a future at most `n_polls` times; `None` if it was dropped before its end.
async fn cut_after<F: Future>(future: F, n_polls: usize) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = n_polls;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
        }
    })
    .await
}

fn shaky(world: &World) -> Vec<(&'static str, DurableOptions)> {
    let events = Arc::new(Shaky::new(Arc::clone(&world.events)));
    let snapshots = Arc::new(Shaky::new(Arc::clone(&world.snapshots)));
    let strategies = [
        ("event-sourced", Keep::EventSourced(events.clone())),
        ("hybrid", Keep::Hybrid { events, snapshots: snapshots.clone() }),
        ("snapshot-only", Keep::SnapshotOnly(snapshots.clone())),
        ("versioned", Keep::Versioned(snapshots)),
    ];
    let policy = || SnapshotPolicy::never().every(3).keep(2).on_shutdown();
    strategies.map(|(name, strategy)| (name, world.options(strategy).policy(policy()))).to_vec()
}

fn command() -> impl Strategy<Value = Command> {
    let player = prop_oneof![Just("ann"), Just("bob"), Just("eve")];
    prop_oneof![
        2 => Just(Command::Start(vec!["ann".to_owned(), "bob".to_owned()])),
        6 => (player, 0_u64..9).prop_map(|(player, points)| Command::Play { player: player.to_owned(), points }),
        2 => Just(Command::EndRound),
        2 => Just(Command::NextRound),
        1 => Just(Command::Finish),
    ]
}

/// What happens to one command.
#[derive(Debug, Clone)]
struct Step {
    command: Command,
    /// Dropped after that many polls.
    cut: Option<usize>,
    /// The machine is dropped and opened again afterwards.
    is_reopened: bool,
}

fn step() -> impl Strategy<Value = Step> {
    (command(), proptest::option::weighted(0.4, 0_usize..8), prop::bool::weighted(0.3))
        .prop_map(|(command, cut, is_reopened)| Step { command, cut, is_reopened })
}

/// After each command the machine that is read back is the one before it or the one after it; after an
/// acknowledged one, the one after it.
async fn crash(name: &str, options: DurableOptions, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let open = || Durable::<Game>::open(stream("g"), options.clone());
    let (mut durable, _) = open().await.unwrap();
    let mut model = Game::default();
    for step in steps {
        let mut after = model.clone();
        for event in model.decide(step.command.clone()).unwrap_or_default() {
            after.evolve(&event);
        }
        let cut = step.cut.unwrap_or(usize::MAX);
        let done = cut_after(durable.execute(&Action::new("x"), step.command.clone()), cut).await;
        let back = recover::<Game>(&stream("g"), &options, Target::Latest).await.unwrap().machine;
        match done {
            Some(outcome) => {
                outcome.unwrap();
                prop_assert_eq!(&back, &after, "{}: an acknowledged command", name);
                prop_assert_eq!(durable.state(), &after, "{}", name);
            }
            None => {
                prop_assert!(back == model || back == after, "{}: neither before nor after", name);
            }
        }
        model = back;
        if step.is_reopened {
            drop(durable);
            durable = open().await.unwrap().0;
            prop_assert_eq!(durable.state(), &model, "{}", name);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn a_machine_that_crashes_at_any_await_equals_one_that_never_did(
        steps in proptest::collection::vec(step(), 1..25),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            for index in 0..4 {
                let (name, options) = shaky(&World::new()).swap_remove(index);
                crash(name, options, steps.clone()).await?;
            }
            Ok::<(), TestCaseError>(())
        })?;
    }
}

#[tokio::test]
async fn a_lost_answer_is_indeterminate_and_the_next_command_finds_out() {
    for is_event_sourced in [true, false] {
        let world = World::new();
        let events = Arc::new(Shaky::new(Arc::clone(&world.events)));
        let snapshots = Arc::new(Shaky::new(Arc::clone(&world.snapshots)));
        let (counter, strategy) = if is_event_sourced {
            (&events.until_lost_answer, Keep::EventSourced(events.clone()))
        } else {
            (&snapshots.until_lost_answer, Keep::SnapshotOnly(snapshots.clone()))
        };
        let (mut game, _) =
            Durable::<Game>::open(stream("g"), world.options(strategy)).await.unwrap();
        counter.store(1, Ordering::SeqCst);
        let start = Command::Start(vec!["ann".to_owned()]);
        let lost = game.execute(&Action::new("start"), start.clone()).await.unwrap_err();
        assert_eq!(lost.kind(), &ErrorKind::Indeterminate);
        assert_eq!(game.state(), &Game::default(), "nothing is believed that is not known");
        let again = game.execute(&Action::new("start"), start).await.unwrap();
        let refused = infra_persistence::state::Outcome::Refused("not in this phase");
        assert_eq!(again, refused, "it had been stored, so it is not done twice");
        assert_eq!(game.state().round, 1);
    }
}
