//! Many machines, few of them in memory.

use std::sync::Arc;

use infra_core::ErrorKind;
use infra_persistence::state::{Action, Machines, MachinesOptions, Target, recover};
use tokio::sync::Semaphore;

use crate::{
    game::{Game, states_of, whole_game},
    stores::{Shaky, World, stream},
};

/// Each stream of the model is looked for among the events of all.
const N_GAMES: usize = 200;

#[tokio::test]
async fn hits_and_misses_are_exact_and_what_left_memory_comes_back_equal() {
    let world = World::new();
    let options = MachinesOptions::new(world.hybrid()).capacity(2);
    let machines = Machines::<Game>::new(options);
    let commands = whole_game();
    for name in ["a", "b", "c"] {
        let game = machines.get(&stream(name)).await.unwrap();
        game.lock().await.execute(&Action::new("x"), commands[0].clone()).await.unwrap();
    }
    let tally = machines.tally();
    assert_eq!((tally.hits, tally.misses, tally.resident), (0, 3, 2));
    for _ in 0..10 {
        machines.get(&stream("c")).await.unwrap();
    }
    assert_eq!(machines.tally().hits, 10);
    let back = machines.get(&stream("a")).await.unwrap();
    assert_eq!(back.lock().await.state(), states_of(&commands[..1]).last().unwrap());
    assert_eq!(machines.tally().misses, 4);
}

#[tokio::test]
async fn machines_in_use_never_leave_and_one_more_is_refused() {
    let world = World::new();
    let machines = Machines::<Game>::new(MachinesOptions::new(world.hybrid()).capacity(2));
    let held =
        [machines.get(&stream("a")).await.unwrap(), machines.get(&stream("b")).await.unwrap()];
    let refused = machines.get(&stream("c")).await.unwrap_err();
    assert_eq!(refused.kind(), &ErrorKind::Overloaded);
    drop(held);
    machines.get(&stream("c")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_is_recovered_once_however_many_ask() {
    let world = World::new();
    let shaky = World { events: Arc::new(Shaky::new(Arc::clone(&world.events))), ..world };
    let machines = Arc::new(Machines::<Game>::new(MachinesOptions::new(shaky.hybrid())));
    let tasks: Vec<_> = (0..64)
        .map(|_| {
            let machines = Arc::clone(&machines);
            tokio::spawn(async move { machines.get(&stream("g")).await.unwrap() })
        })
        .collect();
    let mut found = Vec::new();
    for task in tasks {
        found.push(task.await.unwrap());
    }
    assert!(found.iter().all(|machine| Arc::ptr_eq(machine, &found[0])));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_games_played_at_once_never_mix_and_survive_a_restart() {
    let world = World::new();
    let machines =
        Arc::new(Machines::<Game>::new(MachinesOptions::new(world.hybrid()).capacity(32)));
    let places = Arc::new(Semaphore::new(16));
    let tasks: Vec<_> = (0..N_GAMES)
        .map(|number| {
            let (machines, places) = (Arc::clone(&machines), Arc::clone(&places));
            tokio::spawn(async move {
                for command in whole_game().into_iter().take(1 + number % 8) {
                    // As many as hold a machine at once fit into memory, so none is refused.
                    let _place = places.acquire().await.unwrap();
                    let game = machines.get(&stream(&format!("g-{number}"))).await.unwrap();
                    game.lock().await.execute(&Action::new("x"), command).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    machines.close_idle().await.unwrap();
    assert_eq!(machines.tally().resident, 0);
    for number in 0..N_GAMES {
        let name = stream(&format!("g-{number}"));
        let back = recover::<Game>(&name, &world.hybrid(), Target::Latest).await.unwrap();
        let commands = &whole_game()[..=number % 8];
        assert_eq!(&back.machine, states_of(commands).last().unwrap(), "{name}");
    }
}
