//! The log of transitions against a plain list, and what it adds up to.

use std::time::Duration;

use infra_core::{
    Clock as _, context::Context, id::CorrelationId, random::Random, version::Version,
};
use infra_persistence::state::{
    Action, Anomaly, Durable, Refusals, Transition, TransitionQuery, TransitionStatistics,
    transitions,
};

use crate::{
    game::{Command, Game, whole_game},
    stores::{World, stream},
};

/// What narrows a query, and what the same does to a list.
type Narrow = fn(TransitionQuery) -> TransitionQuery;
type Keep = fn(&Transition) -> bool;

async fn played(world: &World) -> Vec<Transition> {
    let options = world.hybrid().refusals(Refusals::Record);
    let (mut game, _) = Durable::<Game>::open(stream("g"), options.clone()).await.unwrap();
    let (mut other, _) = Durable::<Game>::open(stream("g2"), options).await.unwrap();
    for (number, command) in whole_game().into_iter().enumerate() {
        world.clock.advance(Duration::from_secs(10));
        let actor = if number % 2 == 0 { "ann" } else { "bob" };
        game.execute(&Action::new("move").by(actor), command.clone()).await.unwrap();
        other.execute(&Action::new("other").by("eve"), command).await.unwrap();
        if number == 3 {
            game.execute(&Action::new("cheat").by("bob"), Command::Start(vec![])).await.unwrap();
        }
    }
    let all =
        transitions(&*world.events, &stream("g"), &TransitionQuery::oldest(1_000)).await.unwrap();
    assert_eq!(all.past, None);
    all.transitions
}

#[tokio::test]
async fn each_step_says_what_it_did_and_machines_never_see_each_others() {
    let world = World::new();
    let all = played(&world).await;
    assert_eq!(all.len(), 10);
    assert!(all.iter().zip(1..).all(|(step, version)| step.version == Version::new(version)));
    let paths: Vec<_> = all.iter().map(|step| (step.from.as_str(), step.to.as_str())).collect();
    assert_eq!(
        paths[..4],
        [("idle", "idle"), ("idle", "playing"), ("playing", "playing"), ("playing", "playing")]
    );
    assert!(all.iter().all(|step| step.action != "other" && step.actor.as_deref() != Some("eve")));
    let refused = all.iter().find(|step| step.error.is_some()).unwrap();
    assert_eq!(
        (refused.action.as_str(), refused.error.as_deref()),
        ("cheat", Some("\"not in this phase\""))
    );
    assert_eq!(refused.from, refused.to);
}

#[tokio::test]
async fn every_query_equals_a_filter_over_the_plain_list() {
    let world = World::new();
    let all = played(&world).await;
    let middle = all[5].at;
    let queries: [(Narrow, Keep); 5] = [
        (|query| query, |_| true),
        (|query| query.action("move"), |step| step.action == "move"),
        (|query| query.actor("bob"), |step| step.actor.as_deref() == Some("bob")),
        (|query| query.state("scoring"), |step| step.from == "scoring" || step.to == "scoring"),
        (|query| query.refused(false), |step| step.error.is_none()),
    ];
    for (shape, keep) in queries {
        for limit in [0, 1, 3, 100] {
            let expected: Vec<_> = all.iter().filter(|step| keep(step)).cloned().collect();
            let oldest = shape(TransitionQuery::oldest(limit));
            let page = transitions(&*world.events, &stream("g"), &oldest).await.unwrap();
            let wanted: Vec<_> = expected.iter().take(limit).cloned().collect();
            assert_eq!(page.transitions, wanted);
            let newest = shape(TransitionQuery::newest(limit));
            let page = transitions(&*world.events, &stream("g"), &newest).await.unwrap();
            let wanted: Vec<_> = expected.iter().rev().take(limit).cloned().collect();
            assert_eq!(page.transitions, wanted);
        }
    }
    let since = TransitionQuery::oldest(100).since(middle);
    let until = TransitionQuery::oldest(100).until(middle);
    let count = async |query| {
        transitions(&*world.events, &stream("g"), &query).await.unwrap().transitions.len()
    };
    assert_eq!(count(since).await + count(until).await, all.len());
}

#[tokio::test]
async fn pages_follow_each_other_without_gap_or_repeat_either_way() {
    let world = World::new();
    let all = played(&world).await;
    for limit in 1..5 {
        for is_newest in [false, true] {
            let (mut seen, mut past) = (Vec::new(), None);
            loop {
                let query = if is_newest {
                    TransitionQuery::newest(limit)
                } else {
                    TransitionQuery::oldest(limit)
                };
                let query = past.map_or(query.clone(), |past| query.past(past));
                let page = transitions(&*world.events, &stream("g"), &query).await.unwrap();
                seen.extend(page.transitions);
                past = page.past;
                if past.is_none() {
                    break;
                }
            }
            if is_newest {
                seen.reverse();
            }
            assert_eq!(seen, all, "limit {limit}");
        }
    }
    let none =
        transitions(&*world.events, &stream("nobody"), &TransitionQuery::newest(5)).await.unwrap();
    assert!(none.transitions.is_empty());
}

#[tokio::test]
async fn a_step_carries_the_correlation_id_of_what_asked_for_it() {
    let world = World::new();
    let (mut game, _) = Durable::<Game>::open(stream("g"), world.hybrid()).await.unwrap();
    let id = CorrelationId::generate(world.clock.wall(), &Random::seeded(3));
    let context = Context::default().correlation(id);
    let start = Command::Start(vec!["ann".to_owned()]);
    context.scope(game.execute(&Action::new("start"), start)).await.unwrap();
    let page =
        transitions(&*world.events, &stream("g"), &TransitionQuery::newest(1)).await.unwrap();
    assert_eq!(page.transitions[0].correlation, Some(id));
    assert_eq!(game.recorder().transitions().last().unwrap().correlation, Some(id));
}

fn step(from: &str, to: &str, version: u64, millis: u64) -> Transition {
    Transition {
        version: Version::new(version),
        kind: "moved".to_owned(),
        from: from.to_owned(),
        to: to.to_owned(),
        action: "move".to_owned(),
        actor: None,
        at: infra_core::clock::Timestamp::EPOCH,
        took: Duration::from_millis(millis),
        error: None,
        correlation: None,
    }
}

#[test]
fn statistics_are_exact_and_loops_are_noticed_at_the_fourth_time() {
    let steps: Vec<_> = (1..=10)
        .map(|version| {
            step("playing", if version % 2 == 0 { "scoring" } else { "playing" }, version, 50)
        })
        .collect();
    let statistics: TransitionStatistics = steps.iter().collect();
    assert_eq!((statistics.total(), statistics.phases()), (10, 2));
    assert!(statistics.paths().values().all(|count| *count == 5), "{:?}", statistics.paths());
    assert_eq!(statistics.paths().len(), 2);
    let durations = statistics.durations();
    for duration in [durations.mean, durations.p50, durations.p99] {
        let micros = duration.as_micros();
        assert!((49_500..=50_500).contains(&micros), "{micros}");
    }
    let Some(Anomaly::Loop { version, .. }) = statistics.anomalies().next() else {
        panic!("no loop")
    };
    assert_eq!(*version, Version::new(7), "the fourth of the same steps");
    assert_eq!(statistics.n_anomalies(), 4);
}

#[test]
fn three_of_ten_are_no_loop_and_refusals_are_counted_apart() {
    let mut steps: Vec<_> =
        (0..50).map(|number| step(&format!("p{}", number % 4), "next", number, 1)).collect();
    steps[7].error = Some("no".to_owned());
    let statistics: TransitionStatistics = steps.iter().collect();
    assert_eq!((statistics.total(), statistics.refused(), statistics.n_anomalies()), (49, 1, 0));
}

#[test]
fn paths_and_anomalies_are_bounded() {
    let mut statistics = TransitionStatistics::default();
    for number in 0..3_000 {
        statistics.take(&step(&format!("p{number}"), "next", number, 1));
    }
    assert_eq!((statistics.paths().len(), statistics.other_paths()), (1_000, 2_000));
    for number in 0..500 {
        statistics.take(&step("same", "same", number, 1));
    }
    assert_eq!((statistics.anomalies().len(), statistics.n_anomalies()), (100, 497));
    assert_eq!(TransitionStatistics::default().durations().mean, Duration::ZERO);
}

#[tokio::test]
async fn the_flight_recorder_holds_the_newest_and_no_more() {
    let world = World::new();
    for (capacity, held) in [(3, 3), (0, 0), (100, 9)] {
        let name = stream(&format!("g-{capacity}"));
        let (mut game, _) =
            Durable::<Game>::open(name, world.hybrid().recorded(capacity)).await.unwrap();
        for command in whole_game() {
            game.execute(&Action::new("x"), command).await.unwrap();
        }
        let recorded: Vec<_> =
            game.recorder().transitions().map(|step| step.version.get()).collect();
        assert_eq!(recorded, (10 - held..10).collect::<Vec<_>>());
    }
}
