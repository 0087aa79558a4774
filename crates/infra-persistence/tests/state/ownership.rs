//! Two owners of one machine: the newer one wins, whatever the older one believes.

use infra_core::{
    Clock as _, ErrorKind,
    id::Scope,
    lease::Fence,
    version::{FencingToken, Version},
};
use infra_persistence::state::{Action, Durable, DurableOptions, Target, recover};

use crate::{
    game::{Command, Game, whole_game},
    stores::{World, stream},
};

fn fenced(options: &DurableOptions, token: u64) -> DurableOptions {
    let fence = Fence { scope: Scope::new("room-g").unwrap(), token: FencingToken::new(token) };
    options.clone().fence(fence)
}

#[tokio::test]
async fn once_a_new_owner_has_committed_its_token_the_old_one_is_refused() {
    for index in 0..4 {
        let world = World::in_our_memory();
        let (name, options) = world.strategies().swap_remove(index);
        let commands = whole_game();
        let (mut old, _) = Durable::<Game>::open(stream("g"), fenced(&options, 1)).await.unwrap();
        old.execute(&Action::new("start"), commands[0].clone()).await.unwrap();
        // The old owner's clock goes wrong by an hour and its process sleeps; neither matters.
        world.clock.skew(world.clock.wall().plus(std::time::Duration::from_secs(3_600)));
        let (mut new, _) = Durable::<Game>::open(stream("g"), fenced(&options, 2)).await.unwrap();
        assert_eq!(new.state(), old.state(), "{name}");
        for _ in 0..3 {
            let late = old.execute(&Action::new("play"), commands[1].clone()).await.unwrap_err();
            let is_refused = matches!(late.kind(), ErrorKind::Fenced | ErrorKind::Conflict { .. });
            assert!(is_refused, "{name}: {late}");
        }
        for command in &commands[1..] {
            new.execute(&Action::new("x"), command.clone()).await.unwrap();
        }
        let back = recover::<Game>(&stream("g"), &options, Target::Latest).await.unwrap();
        assert_eq!(&back.machine, new.state(), "{name}");
        let older = Durable::<Game>::open(stream("g"), fenced(&options, 1)).await.unwrap_err();
        assert_eq!(older.kind(), &ErrorKind::Fenced, "{name}");
    }
}

#[tokio::test]
async fn the_mark_of_a_new_owner_changes_no_state() {
    let world = World::new();
    let options = world.hybrid();
    let start = Command::Start(vec!["ann".to_owned()]);
    let (mut game, _) = Durable::<Game>::open(stream("g"), fenced(&options, 1)).await.unwrap();
    assert_eq!((game.version(), game.state()), (Version::new(1), &Game::default()));
    game.execute(&Action::new("start"), start).await.unwrap();
    let (next, report) = Durable::<Game>::open(stream("g"), fenced(&options, 2)).await.unwrap();
    assert_eq!((next.state(), report.version), (game.state(), Version::new(4)));
}
