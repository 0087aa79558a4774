//! Pictures of a machine.

use infra_persistence::state::{
    Action, Diagram, Durable, Persistent as _, TransitionQuery, TransitionStatistics, transitions,
};

use crate::{
    game::{Game, whole_game},
    stores::{World, stream},
};

#[tokio::test]
async fn a_picture_shows_each_declared_transition_with_its_live_count() {
    let world = World::new();
    let (mut game, _) = Durable::<Game>::open(stream("g"), world.hybrid()).await.unwrap();
    for command in whole_game() {
        game.execute(&Action::new("x"), command).await.unwrap();
    }
    let log =
        transitions(&*world.events, &stream("g"), &TransitionQuery::oldest(100)).await.unwrap();
    let statistics: TransitionStatistics = log.transitions.iter().collect();
    let declared: std::collections::BTreeSet<_> =
        Game::EDGES.iter().map(|edge| (edge.from, edge.to)).collect();
    assert!(
        statistics
            .paths()
            .keys()
            .all(|path| declared.contains(&(path.from.as_str(), path.to.as_str())))
    );
    let diagram = Diagram::of::<Game>().counted(&statistics);
    let mermaid = diagram.mermaid();
    assert!(mermaid.starts_with("stateDiagram-v2\n"), "{mermaid}");
    assert!(mermaid.contains("    playing --> playing: played (3)\n"), "{mermaid}");
    assert!(mermaid.contains("    scoring --> over: finished (1)\n"), "{mermaid}");
    assert_eq!(mermaid.lines().count(), 1 + declared.len());
    assert!(
        diagram.dot().contains("\"idle\" -> \"playing\" [label=\"round-begun (1)\", style=solid];")
    );
    assert_eq!(diagram.json()["arrows"].as_array().unwrap().len(), declared.len());
}

#[test]
fn a_transition_that_is_not_declared_stands_out() {
    let mut statistics = TransitionStatistics::default();
    let step = infra_persistence::state::Transition {
        version: infra_core::version::Version::new(1),
        kind: "jumped".to_owned(),
        from: "over \"it\"".to_owned(),
        to: "idle".to_owned(),
        action: "jump".to_owned(),
        actor: None,
        at: infra_core::clock::Timestamp::EPOCH,
        took: std::time::Duration::ZERO,
        error: None,
        correlation: None,
    };
    statistics.take(&step);
    let diagram = Diagram::of::<Game>().counted(&statistics);
    assert!(
        diagram.mermaid().contains("over__it_ --> idle: not declared (1)"),
        "{}",
        diagram.mermaid()
    );
    assert!(
        diagram
            .dot()
            .contains(r#""over \"it\"" -> "idle" [label="not declared (1)", style=dashed];"#)
    );
}
