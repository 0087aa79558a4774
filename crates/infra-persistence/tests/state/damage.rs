//! Damaged snapshots: an older one is used and that is said, or nothing is.

use std::sync::Arc;

use infra_core::{
    ErrorKind,
    codec::{CodecTag, Payload},
    durability::Durability,
    machine::StateMachine,
    snapshot::{Snapshot, SnapshotStore},
    version::Version,
};
use infra_persistence::state::{
    Action, Durable, DurableOptions, Persistent, SnapshotPolicy, Strategy, Target, recover,
};

use crate::{
    game::{Game, states_of, whole_game},
    stores::{World, stream},
};

async fn played(options: &DurableOptions) -> Game {
    let (mut game, _) = Durable::<Game>::open(stream("g"), options.clone()).await.unwrap();
    for command in whole_game() {
        game.execute(&Action::new("x"), command).await.unwrap();
        game.settle().await;
    }
    game.state().clone()
}

fn policy() -> SnapshotPolicy {
    SnapshotPolicy::never().every(2).keep(10)
}

/// Changes the newest snapshot's bytes behind the store's back.
async fn damage(snapshots: &Arc<dyn SnapshotStore>, change: impl FnOnce(&mut Vec<u8>)) -> Version {
    let newest = snapshots.latest(&stream("g"), Version::MAX).await.unwrap().unwrap();
    let version = newest.version;
    let mut body = newest.payload.body.to_vec();
    change(&mut body);
    let payload = Payload { body: body.into(), ..newest.payload.clone() };
    let snapshot = Snapshot { payload, ..newest };
    snapshots.put_snapshot(snapshot, Durability::Durable, None).await.unwrap();
    version
}

#[tokio::test]
async fn a_flip_of_any_byte_of_the_newest_snapshot_falls_back_to_the_one_before() {
    let world = World::new();
    let options = world.hybrid().policy(policy());
    let state = played(&options).await;
    let newest = world.snapshots.latest(&stream("g"), Version::MAX).await.unwrap().unwrap();
    let n_bytes = newest.payload.body.len();
    for place in 0..n_bytes {
        let damaged = damage(&world.snapshots, |body| body[place] ^= 1 << (place % 8)).await;
        let back = recover::<Game>(&stream("g"), &options, Target::Latest).await;
        match back {
            Ok(back) => {
                assert_eq!(back.machine, state, "byte {place}");
                let skipped: Vec<_> =
                    back.report.skipped.iter().map(|skipped| skipped.version).collect();
                assert_eq!(skipped, [damaged], "byte {place}");
                assert!(back.report.snapshot < Some(damaged), "byte {place}");
            }
            // A flip in the schema's number makes it look newer, and a newer version is refused.
            Err(error) => {
                assert_eq!(error.kind(), &ErrorKind::Unsupported, "byte {place}");
                assert!((5..9).contains(&place), "byte {place}");
            }
        }
        world.snapshots.put_snapshot(newest.clone(), Durability::Durable, None).await.unwrap();
    }
}

#[tokio::test]
async fn a_snapshot_cut_anywhere_is_never_taken_for_a_state() {
    let world = World::new();
    let options = world.hybrid().policy(policy());
    let state = played(&options).await;
    let newest = world.snapshots.latest(&stream("g"), Version::MAX).await.unwrap().unwrap();
    for length in 0..newest.payload.body.len() {
        damage(&world.snapshots, |body| body.truncate(length)).await;
        let back = recover::<Game>(&stream("g"), &options, Target::Latest).await.unwrap();
        assert_eq!((back.machine, back.report.skipped.len()), (state.clone(), 1), "{length} bytes");
        world.snapshots.put_snapshot(newest.clone(), Durability::Durable, None).await.unwrap();
    }
}

#[tokio::test]
async fn without_events_the_loss_behind_a_damaged_snapshot_is_counted() {
    let world = World::new();
    let options = world.options(Strategy::SnapshotOnly(world.snapshots.clone())).policy(policy());
    played(&options).await;
    let states = states_of(&whole_game());
    let damaged = damage(&world.snapshots, |body| *body.last_mut().unwrap() ^= 1).await;
    let back = recover::<Game>(&stream("g"), &options, Target::Latest).await.unwrap();
    let at = usize::try_from(back.report.version.get()).unwrap();
    assert_eq!(back.machine, states[at]);
    assert_eq!(back.report.version.plus(back.report.lost), damaged);
    let (mut resumed, _) = Durable::<Game>::open(stream("g"), options).await.unwrap();
    let last = whole_game().pop().unwrap();
    resumed.execute(&Action::new("finish"), last).await.unwrap();
    assert_eq!(resumed.state().phase(), "over", "the game goes on from the last valid point");
}

#[tokio::test]
async fn when_no_snapshot_is_valid_nothing_is_made_up() {
    let world = World::new();
    let options =
        world.options(Strategy::SnapshotOnly(world.snapshots.clone())).policy(policy().keep(1));
    played(&options).await;
    damage(&world.snapshots, Vec::clear).await;
    let lost = recover::<Game>(&stream("g"), &options, Target::Latest).await.unwrap_err();
    assert_eq!(lost.kind(), &ErrorKind::Corrupt);
}

#[tokio::test]
async fn a_snapshot_that_breaks_an_invariant_is_passed_over() {
    let world = World::new();
    let options = world.hybrid().policy(policy());
    let state = played(&options).await;
    let mut broken = state.clone();
    broken.total += 1;
    // Sealed by a machine that does not check itself, under the same name.
    let sealer = world.options(Strategy::SnapshotOnly(world.snapshots.clone()));
    let (mut liar, _) = Durable::<Liar>::open(stream("liar"), sealer).await.unwrap();
    liar.execute(&Action::new("lie"), broken).await.unwrap();
    let lie = world.snapshots.latest(&stream("liar"), Version::MAX).await.unwrap().unwrap();
    let newest = world.snapshots.versions(&stream("g")).await.unwrap()[0];
    let planted = Snapshot { stream: stream("g"), version: newest, ..lie };
    world.snapshots.put_snapshot(planted, Durability::Durable, None).await.unwrap();
    let back = recover::<Game>(&stream("g"), &options, Target::Latest).await.unwrap();
    assert_eq!(back.machine, state);
    assert!(back.report.skipped[0].why.contains("invariant"), "{:?}", back.report.skipped);
}

/// A game that does not check itself.
#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
struct Liar(Game);

impl StateMachine for Liar {
    type Command = Game;
    type Event = Game;
    type Refusal = ();
    const NAME: &'static str = Game::NAME;
    const SCHEMA_VERSION: u32 = Game::SCHEMA_VERSION;

    fn decide(&self, game: Game) -> Result<Vec<Game>, ()> {
        Ok(vec![game])
    }

    fn evolve(&mut self, game: &Game) {
        self.0 = game.clone();
    }
}

impl Persistent for Liar {
    fn kind(_: &Game) -> &'static str {
        "lied"
    }

    fn phase(&self) -> &'static str {
        "any"
    }
}

#[tokio::test]
async fn random_bytes_for_a_snapshot_never_panic_and_never_become_a_state() {
    use proptest::{
        strategy::{Strategy as _, ValueTree as _},
        test_runner::TestRunner,
    };
    let world = World::new();
    let options = world.options(Strategy::SnapshotOnly(world.snapshots.clone()));
    let mut runner = TestRunner::deterministic();
    let bytes = proptest::collection::vec(proptest::num::u8::ANY, 0..128);
    for round in 0..256 {
        let mut body = bytes.new_tree(&mut runner).unwrap().current();
        if round % 2 == 0 {
            body.splice(0..0, *b"SNP2\x01\x02\0\0\0\x04game");
        }
        let payload = Payload { codec: CodecTag::Raw, schema: 2, body: body.into() };
        let taken = infra_core::Clock::wall(&world.clock);
        let snapshot = Snapshot { stream: stream("g"), version: Version::new(1), payload, taken };
        world.snapshots.put_snapshot(snapshot, Durability::Durable, None).await.unwrap();
        let back = recover::<Game>(&stream("g"), &options, Target::Latest).await;
        assert!(back.is_err(), "round {round}");
    }
}

#[tokio::test]
async fn a_snapshot_of_another_history_of_the_stream_is_not_used() {
    let old = World::new();
    played(&old.hybrid().policy(policy())).await;
    // The same name, the same snapshots, but the events were lost and others were made.
    let new = World { snapshots: old.snapshots.clone(), ..World::new() };
    let options = new.hybrid().policy(SnapshotPolicy::never());
    let (mut game, report) = Durable::<Game>::open(stream("g"), options.clone()).await.unwrap();
    assert_eq!((game.state(), report.skipped.len()), (&Game::default(), 0), "none is so old");
    let start = crate::game::Command::Start(["cid", "dan"].map(str::to_owned).to_vec());
    game.execute(&Action::new("start"), start).await.unwrap();
    let play = |points| crate::game::Command::Play { player: "cid".to_owned(), points };
    for points in 1..=8 {
        game.execute(&Action::new("play"), play(points)).await.unwrap();
    }
    let back = recover::<Game>(&stream("g"), &options, Target::Latest).await.unwrap();
    assert_eq!(&back.machine, game.state());
    assert_eq!(back.report.snapshot, None);
    assert!(!back.report.skipped.is_empty());
    for skipped in &back.report.skipped {
        assert!(skipped.why.contains("another history"), "{skipped:?}");
        let one = recover::<Game>(&stream("g"), &options, Target::Snapshot(skipped.version)).await;
        assert_eq!(one.unwrap_err().kind(), &ErrorKind::Corrupt);
    }
}
