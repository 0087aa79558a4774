//! Whole states, each version kept, and writers that meet.

use std::{collections::BTreeMap, sync::Arc};

use infra_core::{ErrorKind, version::Version};
use infra_persistence::state::{Resolution, VersionedStates};
use serde_json::{Value, json};

use crate::stores::{World, stream};

fn states(world: &World) -> VersionedStates<Value> {
    VersionedStates::new(Arc::clone(&world.events), world.shared_clock(), 1)
}

#[tokio::test]
async fn each_version_is_kept_and_named_by_what_changed() {
    let states = states(&World::new());
    let name = stream("g");
    let history = [
        (json!({"round": 1}), "1.0.0", 1),
        (json!({"round": 2}), "1.0.1", 2),
        (json!({"round": 2}), "1.0.1", 2),
        (json!({"round": 2, "bonus": true}), "1.1.0", 3),
        (json!({"round": 3, "bonus": true}), "1.1.1", 4),
    ];
    let mut base = Version::ZERO;
    for (state, version, number) in &history {
        let saved = states.save(&name, base, state, &Resolution::Manual).await.unwrap();
        assert_eq!((saved.version.to_string().as_str(), saved.number.get()), (*version, *number));
        assert_eq!(&saved.state, state);
        base = saved.number;
    }
    for (state, version, number) in &history {
        let saved = states.get(&name, Version::new(*number)).await.unwrap();
        assert_eq!((&saved.state, saved.version.to_string().as_str()), (state, *version));
    }
    let listed = states.versions(&name, 2).await.unwrap();
    assert_eq!(listed.iter().map(|(number, _)| number.get()).collect::<Vec<_>>(), [4, 3]);
    assert_eq!(states.get(&name, Version::new(9)).await.unwrap_err().kind(), &ErrorKind::NotFound);
    assert_eq!(states.latest(&stream("nobody")).await.unwrap(), None);
}

#[tokio::test]
async fn a_save_from_a_stale_base_is_resolved_as_was_said() {
    let merge: Resolution<Value> = Resolution::Merge(Arc::new(|base, theirs, mine| {
        assert_eq!(base, Some(&json!({"a": 0, "b": 0})));
        Ok(json!({"a": theirs["a"], "b": mine["b"]}))
    }));
    let (mine, theirs) = (json!({"a": 0, "b": 2}), json!({"a": 1, "b": 0}));
    let cases = [
        (Resolution::Latest, Some(theirs.clone())),
        (Resolution::Incoming, Some(mine.clone())),
        (merge, Some(json!({"a": 1, "b": 2}))),
        (Resolution::Manual, None),
    ];
    for (resolution, expected) in cases {
        let states = states(&World::new());
        let first = json!({"a": 0, "b": 0});
        let first = states.save(&stream("g"), Version::ZERO, &first, &Resolution::Manual).await;
        let base = first.unwrap().number;
        states.save(&stream("g"), base, &theirs, &Resolution::Manual).await.unwrap();
        let saved = states.save(&stream("g"), base, &mine, &resolution).await;
        if let Some(expected) = expected {
            assert_eq!(saved.unwrap().state, expected, "{resolution:?}");
            assert_eq!(states.latest(&stream("g")).await.unwrap().unwrap().state, expected);
        } else {
            let kind = saved.unwrap_err().kind().clone();
            assert!(
                matches!(kind, ErrorKind::Conflict { actual, .. } if actual == Version::new(2))
            );
        }
    }
}

#[tokio::test]
async fn a_base_that_never_was_is_a_conflict() {
    let states = states(&World::new());
    let saved = states.save(&stream("g"), Version::new(3), &json!(1), &Resolution::Incoming).await;
    assert!(matches!(saved.unwrap_err().kind(), ErrorKind::Conflict { .. }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn merged_saves_of_many_writers_lose_nothing() {
    let world = World::new();
    let states: VersionedStates<BTreeMap<String, u64>> =
        VersionedStates::new(Arc::clone(&world.events), world.shared_clock(), 1);
    let merge = Resolution::Merge(Arc::new(|_, theirs: &BTreeMap<_, _>, mine: &BTreeMap<_, _>| {
        Ok(theirs
            .iter()
            .chain(mine)
            .map(|(key, value): (&String, &u64)| (key.clone(), *value))
            .collect())
    }));
    let tasks: Vec<_> = (0..8)
        .map(|writer| {
            let (states, merge) = (states.clone(), merge.clone());
            tokio::spawn(async move {
                let mine = BTreeMap::from([(format!("writer-{writer}"), writer)]);
                states.save(&stream("g"), Version::ZERO, &mine, &merge).await.unwrap();
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(states.latest(&stream("g")).await.unwrap().unwrap().state.len(), 8);
}

#[tokio::test]
async fn a_state_of_a_newer_schema_is_refused() {
    let world = World::new();
    let newer = VersionedStates::<Value>::new(Arc::clone(&world.events), world.shared_clock(), 2);
    newer.save(&stream("g"), Version::ZERO, &json!(1), &Resolution::Manual).await.unwrap();
    let refused = states(&world).latest(&stream("g")).await.unwrap_err();
    assert_eq!(refused.kind(), &ErrorKind::Unsupported);
}
