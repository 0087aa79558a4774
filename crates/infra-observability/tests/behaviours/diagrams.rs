//! Pictures of state machines and the board of rooms.

use std::time::Duration;

use infra_observability::diagram::{Health, LiveDiagram, Picture, RoomBoard, SCHEMA};
use proptest::prelude::*;
use serde_json::Value;

use crate::support::{MACHINE, clock};

#[test]
fn a_state_averages_with_a_tenth_of_the_newest_and_counts_who_is_there() {
    let diagram = LiveDiagram::new(MACHINE);
    (0..5).for_each(|_| diagram.enter("preparation").unwrap());
    diagram.leave("preparation", Duration::from_secs(30)).unwrap();
    let node = |place: usize| diagram.view().nodes[place].clone();
    assert_eq!((node(1).active, node(1).average_seconds), (4, Some(30.0)));
    diagram.leave("preparation", Duration::from_secs(40)).unwrap();
    assert_eq!((node(1).active, node(1).average_seconds), (3, Some(31.0)));
    assert!(diagram.enter("nowhere").is_err() && diagram.leave("nowhere", Duration::ZERO).is_err());
    assert_eq!(MACHINE.state("turn"), Some("turn"));
}

proptest! {
    #[test]
    fn nobody_is_ever_counted_below_zero_and_the_error_rate_is_exact(
        steps in proptest::collection::vec((0..7_usize, any::<bool>()), 0..60),
    ) {
        let diagram = LiveDiagram::new(MACHINE);
        let mut model = [(0_u64, 0_u64); 7];
        for (way, is_done) in steps {
            let (from, to) = MACHINE.ways[way];
            diagram.pass(from, to, Duration::from_millis(5), is_done).unwrap();
            if is_done { model[way].0 += 1 } else { model[way].1 += 1 }
        }
        let view = diagram.view();
        for (edge, (succeeded, failed)) in view.edges.iter().zip(model) {
            prop_assert_eq!((edge.succeeded, edge.failed), (succeeded, failed));
            let share = if failed == 0 { 0.0 } else { failed as f64 / (failed + succeeded) as f64 };
            prop_assert_eq!(edge.error_rate, share);
        }
        for node in &view.nodes {
            let into: u64 = view.edges.iter().filter(|e| e.to == node.id).map(|e| e.succeeded).sum();
            let out: u64 = view.edges.iter().filter(|e| e.from == node.id).map(|e| e.succeeded).sum();
            prop_assert_eq!((node.entered, node.left), (into, out));
            prop_assert!(node.active <= node.entered);
        }
    }
}

#[test]
fn a_way_keeps_exact_counts_of_success_and_failure() {
    let diagram = LiveDiagram::new(MACHINE);
    let pass = |millis, is_done| {
        diagram.pass("preparation", "declaration", Duration::from_millis(millis), is_done).unwrap();
    };
    pass(500, true);
    let edge = diagram.view().edges[1].clone();
    assert_eq!((edge.succeeded, edge.failed, edge.average_ms), (1, 0, Some(500.0)));
    pass(1_500, false);
    let edge = diagram.view().edges[1].clone();
    assert_eq!((edge.succeeded, edge.failed, edge.error_rate), (1, 1, 0.5));
    assert_eq!(edge.average_ms, Some(600.0));
    assert!(diagram.pass("turn", "waiting", Duration::ZERO, true).is_err());
}

#[test]
fn a_room_is_judged_at_the_edges_and_a_dead_one_leaves_the_board() {
    let (hands, time) = clock();
    let board = RoomBoard::new(2, Duration::from_hours(1), time);
    board.update("room123", "game456", "turn", 4);
    let row = || board.rows().remove(0);
    assert_eq!((row().game.as_str(), row().state, row().players), ("game456", "turn", 4));
    let levels: Vec<Health> = (0..=11)
        .map(|errors| {
            if 0 < errors {
                board.error("room123");
            }
            row().health
        })
        .collect();
    assert!(levels[..=5].iter().all(|level| *level == Health::Healthy));
    assert!(levels[6..=10].iter().all(|level| *level == Health::Warning));
    assert_eq!(levels[11], Health::Critical);
    hands.advance(Duration::from_secs(300));
    assert_eq!(row().health, Health::Critical, "errors count for five minutes");
    hands.advance(Duration::from_millis(1));
    assert_eq!(row().health, Health::Idle, "more than 300 s without activity");
    board.moved("room123", "scoring");
    assert_eq!((row().health, row().state), (Health::Healthy, "scoring"));
    hands.advance(Duration::from_hours(1));
    board.sweep();
    assert_eq!(board.rows().len(), 1);
    hands.advance(Duration::from_millis(1));
    board.sweep();
    assert!(board.rows().is_empty());
    for room in ["a", "b", "c"] {
        board.update(room, "g", "turn", 4);
        hands.advance(Duration::from_secs(1));
    }
    let names: Vec<String> = board.rows().into_iter().map(|row| row.room).collect();
    assert_eq!(names, ["b", "c"], "the idlest leaves a full board");
    board.remove("b");
    assert_eq!(format!("{board:?}"), "RoomBoard { rooms: 1, .. }");
}

/// Holds a value against a schema; the words that ours uses.
fn validate(schema: &Value, value: &Value, path: &str) {
    for (word, rule) in schema.as_object().unwrap() {
        match word.as_str() {
            "type" => {
                let is = match value {
                    Value::Object(_) => "object",
                    Value::Array(_) => "array",
                    Value::String(_) => "string",
                    Value::Number(number) if number.is_u64() => "integer",
                    Value::Number(_) => "number",
                    Value::Null => "null",
                    Value::Bool(_) => "boolean",
                };
                let names: Vec<&str> = match rule {
                    Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
                    other => other.as_str().into_iter().collect(),
                };
                let fits = names.contains(&is) || (is == "integer" && names.contains(&"number"));
                assert!(fits, "{path}: {is}, not {names:?}");
            }
            "required" => {
                for name in rule.as_array().unwrap() {
                    assert!(value.get(name.as_str().unwrap()).is_some(), "{path}: no {name}");
                }
            }
            "properties" => {
                for (name, value) in value.as_object().unwrap() {
                    validate(rule.get(name).unwrap(), value, &format!("{path}.{name}"));
                }
            }
            "items" => value.as_array().unwrap().iter().for_each(|item| validate(rule, item, path)),
            "enum" => assert!(rule.as_array().unwrap().contains(value), "{path}"),
            "minimum" if value.is_number() => assert!(rule.as_f64() <= value.as_f64(), "{path}"),
            "maximum" if value.is_number() => assert!(value.as_f64() <= rule.as_f64(), "{path}"),
            "minimum" | "maximum" | "additionalProperties" | "$schema" | "title" => {}
            unknown => panic!("{unknown} is not understood"),
        }
    }
}

#[test]
fn the_view_of_a_machine_follows_the_published_schema() {
    let diagram = LiveDiagram::new(MACHINE);
    diagram.enter("waiting").unwrap();
    diagram.pass("waiting", "preparation", Duration::from_millis(2), true).unwrap();
    diagram.leave("preparation", Duration::from_secs(1)).unwrap();
    let view = serde_json::to_value(diagram.view()).unwrap();
    validate(&serde_json::from_str(SCHEMA).unwrap(), &view, "view");
    assert_eq!(view["type"], "state_diagram");
    assert_eq!(view["nodes"].as_array().unwrap().len(), 6);
    assert_eq!(view["edges"].as_array().unwrap().len(), 7);
    let first = serde_json::json!({
        "from": "waiting", "to": "preparation", "succeeded": 1, "failed": 0,
        "error_rate": 0.0, "average_ms": 2.0,
    });
    assert_eq!(view["edges"][0], first);
}

#[test]
fn a_machine_is_drawn_for_mermaid_and_graphviz() {
    let diagram = LiveDiagram::new(MACHINE);
    diagram.enter("turn").unwrap();
    diagram.pass("turn", "scoring", Duration::ZERO, false).unwrap();
    let mermaid = Picture::Mermaid.draw(&diagram.view());
    assert!(mermaid.starts_with("stateDiagram-v2\n") && mermaid.contains("[*] --> waiting"));
    assert!(mermaid.contains("turn --> scoring : 0, 1 failed"), "{mermaid}");
    let dot = Picture::Dot.draw(&diagram.view());
    assert!(
        dot.starts_with("digraph \"room\" {") && dot.contains("\"turn\\n1 active\"")
            || dot.contains("turn\\n1 active")
    );
    assert!(dot.contains("color=\"0.000 1.000 1.000\""), "all of it failed: {dot}");
}
