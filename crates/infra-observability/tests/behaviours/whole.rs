//! Everything together: one call for span, metrics, event, record and picture.

use std::{sync::Arc, time::Duration};

use infra_core::{SystemClock, random::Random};
use infra_observability::{
    collect::Process,
    exporter::Exporter,
    game::{Actor, GameResult, Seats},
    live::Filter,
    log,
    telemetry::{Options, Place, Telemetry},
    trace::{Buffer, Sampler, Spans, Status},
};
use serde_json::{Value, json};
use tracing_subscriber::{Registry, layer::SubscriberExt};

use crate::{
    collectors::fake_proc,
    support::{MACHINE, Phase, clock, sample},
};

const PLACE: Place<'_> = Place { game: "game123", room: "room456", version: 7 };
const SEATS: Seats = Seats { people: 4, bots: 0 };

fn telemetry() -> Telemetry<Phase> {
    Telemetry::new("test", MACHINE, Options::default(), SystemClock::shared())
}

fn kinds(telemetry: &Telemetry<Phase>) -> Vec<&'static str> {
    let history = telemetry.stream().history(&Filter::default(), 0, 100);
    history.iter().map(|event| event.kind).collect()
}

fn active(telemetry: &Telemetry<Phase>) -> Vec<u64> {
    telemetry.diagram().view().nodes.iter().map(|node| node.active).collect()
}

async fn later<E>(result: Result<(), E>) -> Result<(), E> {
    tokio::time::sleep(Duration::from_millis(10)).await;
    result
}

#[tokio::test(start_paused = true)]
async fn a_transition_moves_the_game_only_if_it_succeeds_and_is_one_span_either_way() {
    let telemetry = telemetry();
    let buffer = Buffer::new(100);
    let random = Arc::new(Random::seeded(1));
    let spans = Spans::new(Sampler::all(), SystemClock::shared(), random, buffer.clone());
    let _default = tracing::subscriber::set_default(Registry::default().with(spans));
    telemetry.game_started(PLACE, SEATS, Phase::Preparation);
    let (from, to) = (Phase::Preparation, Phase::Declaration);
    let failed = later(Err(std::io::Error::other("refused")));
    assert!(telemetry.transition(PLACE, from, to, failed).await.is_err());
    assert_eq!(active(&telemetry), [0, 1, 0, 0, 0, 0], "it stays where it was");
    telemetry.transition(PLACE, from, to, later(Ok::<(), std::io::Error>(()))).await.unwrap();
    assert_eq!(active(&telemetry), [0, 0, 1, 0, 0, 0]);
    let wanted = ["game.started", "state.transition.failed", "state.transition"];
    assert_eq!(kinds(&telemetry), wanted, "a success has no failure before it");
    let cancelled = telemetry.transition(
        PLACE,
        to,
        Phase::Turn,
        std::future::pending::<Result<(), std::io::Error>>(),
    );
    assert!(tokio::time::timeout(Duration::from_millis(1), cancelled).await.is_err());
    assert_eq!(active(&telemetry), [0, 0, 1, 0, 0, 0]);
    let spans = buffer.take(9);
    assert_eq!(spans.len(), 3);
    let done = &spans[1];
    assert_eq!((done.name.as_str(), done.status.clone()), ("state.transition", Status::Ok));
    assert_eq!(done.duration, Duration::from_millis(10));
    for (name, value) in
        [("game.id", "game123"), ("state.from", "preparation"), ("state.to", "declaration")]
    {
        assert_eq!(done.attribute(name).as_deref(), Some(value));
    }
    assert_eq!(spans[0].status, Status::Error("refused".to_owned()));
    assert_eq!(spans[2].status, Status::Error("cancelled".to_owned()));
    assert_eq!(telemetry.flights().tape("room456").len(), 4);
    assert_eq!(telemetry.board().rows()[0].errors, 2);
}

#[tokio::test(start_paused = true)]
async fn an_action_is_counted_once_with_its_latency_and_its_way_is_told() {
    let telemetry = telemetry();
    let exporter = Exporter::new(&Telemetry::<Phase>::declarations());
    let buffer = Buffer::new(100);
    let random = Arc::new(Random::seeded(1));
    let spans = Spans::new(Sampler::all(), SystemClock::shared(), random, buffer.clone());
    let _default = tracing::subscriber::set_default(Registry::default().with(spans));
    let done =
        telemetry.action(PLACE, "player1", "play_piece", later(Ok::<(), std::io::Error>(())));
    assert!(done.await.is_ok());
    let failed =
        telemetry.action(PLACE, "player1", "play_piece", later(Err(std::io::Error::other("no"))));
    assert!(failed.await.is_err());
    assert_eq!(telemetry.games().player("player1").unwrap().actions, 1);
    let wanted = [
        "action.queued",
        "action.processing",
        "action.completed",
        "action.queued",
        "action.processing",
        "action.failed",
    ];
    assert_eq!(kinds(&telemetry), wanted);
    let [done, failed] = buffer.take(9).try_into().unwrap();
    assert_eq!((done.name.as_str(), done.duration), ("action.process", Duration::from_millis(10)));
    assert_eq!(done.attribute("player.id").as_deref(), Some("player1"));
    assert_eq!(done.attribute("action.type").as_deref(), Some("play_piece"));
    assert_eq!((done.status, failed.status), (Status::Ok, Status::Error("no".to_owned())));
    // The same once more, with a recorder on this thread.
    let recorder = exporter.clone();
    let guard = metrics::set_default_local_recorder(&recorder);
    let again = telemetry.action(PLACE, "bot_1", "declare", later(Ok::<(), std::io::Error>(())));
    assert!(again.await.is_ok());
    drop(guard);
    let labels = "actor=\"bot\",outcome=\"done\"";
    assert_eq!(
        sample(&exporter, &format!("infra_game_action_seconds_count{{{labels}}}")),
        Some(1.0)
    );
    assert_eq!(
        sample(&exporter, &format!("infra_game_action_seconds_sum{{{labels}}}")),
        Some(0.01)
    );
}

#[tokio::test(start_paused = true)]
async fn a_game_is_seen_from_start_to_end_in_events_rooms_and_one_scrape() {
    let telemetry = telemetry();
    let exporter = Exporter::new(&Telemetry::<Phase>::declarations());
    let recorder = exporter.clone();
    let guard = metrics::set_default_local_recorder(&recorder);
    telemetry.game_started(PLACE, SEATS, Phase::Waiting);
    telemetry.game_started(PLACE, SEATS, Phase::Waiting);
    assert_eq!(telemetry.board().rows()[0].players, 4);
    let stayed = Duration::from_secs(40);
    let won = GameResult::Completed(Some(Actor::Person));
    telemetry.game_ended(PLACE, won, Phase::Waiting, stayed);
    telemetry.game_ended(PLACE, won, Phase::Waiting, stayed);
    let other = Place { game: "g2", room: "r2", version: 1 };
    telemetry.game_started(other, SEATS, Phase::Waiting);
    telemetry.game_ended(other, GameResult::Abandoned, Phase::Waiting, stayed);
    drop(guard);
    assert_eq!(kinds(&telemetry), ["game.started", "game.ended", "game.started", "game.abandoned"]);
    assert!(telemetry.board().rows().is_empty());
    assert_eq!(active(&telemetry), [0; 6]);
    assert_eq!(sample(&exporter, "infra_game_ended_total{ending=\"completed\"}"), Some(1.0));
    assert_eq!(sample(&exporter, "infra_game_ended_total{ending=\"abandoned\"}"), Some(1.0));
    assert_eq!(sample(&exporter, "infra_game_phase_seconds_sum{phase=\"waiting\"}"), Some(80.0));
}

#[test]
fn the_status_is_one_whole_document() {
    let (hands, time) = clock();
    let telemetry = Telemetry::<Phase>::new("test", MACHINE, Options::default(), time.clone());
    telemetry.game_started(PLACE, SEATS, Phase::Waiting);
    hands.advance(Duration::from_millis(2_500));
    let nodes: Vec<Value> = MACHINE
        .states
        .iter()
        .map(|id| {
            let there = u64::from(*id == "waiting");
            json!({"id": id, "active": there, "entered": there, "left": 0, "average_seconds": null})
        })
        .collect();
    let edges: Vec<Value> = MACHINE
        .ways
        .iter()
        .map(|(from, to)| {
            json!({
                "from": from, "to": to, "succeeded": 0, "failed": 0,
                "error_rate": 0.0, "average_ms": null,
            })
        })
        .collect();
    let nobody = json!({"seats": 0, "wins": 0, "rate": 0.0});
    let wanted = json!({
        "service": "test",
        "at": log::rfc3339(time.wall()),
        "games": {
            "started": 1, "active": 1, "completed": 0, "abandoned": 0,
            "completion_rate": 0.0, "average_minutes": 0.0, "games_per_hour": 0.0,
            "people": nobody, "bots": nobody,
        },
        "stream": {"published": 1, "by_kind": {"game.started": 1}, "subscribers": []},
        "diagram": {"type": "state_diagram", "name": "room", "nodes": nodes, "edges": edges},
        "rooms": [{
            "room": "room456", "game": "game123", "state": "waiting", "players": 4,
            "health": "healthy", "errors": 0, "idle": {"secs": 2, "nanos": 500_000_000},
        }],
        "tasks": [],
    });
    assert_eq!(serde_json::to_value(telemetry.status()).unwrap(), wanted);
}

#[tokio::test(start_paused = true)]
async fn exactly_two_tasks_run_between_start_and_stop_and_tick_on_the_clock() {
    let folder = tempfile::tempdir().unwrap();
    fake_proc(folder.path(), 0);
    let status = "VmSize: 1 kB\nVmRSS: 2000000 kB\nThreads: 1\n";
    std::fs::write(folder.path().join("self/status"), status).unwrap();
    let process = Process::at(folder.path());
    let telemetry = Telemetry::<Phase>::reading(
        "test",
        MACHINE,
        Options::default(),
        SystemClock::shared(),
        process,
    );
    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = alive();
    telemetry.start();
    telemetry.start();
    assert_eq!(alive(), before + 2);
    assert_eq!(telemetry.status().tasks, ["cleanup", "memory_watch"]);
    tokio::time::sleep(Duration::from_millis(90_500)).await;
    assert_eq!(kinds(&telemetry), ["system.memory_high"; 3]);
    tokio::time::sleep(Duration::from_secs(3_510)).await;
    assert_eq!(telemetry.stream().stats().by_kind["telemetry.cleaned"], 1);
    assert_eq!(telemetry.stop().await.finished, 2);
    assert_eq!((telemetry.stop().await.finished, alive()), (0, before));
    assert!(telemetry.status().tasks.is_empty());
    telemetry.start();
    assert_eq!(telemetry.stop().await.finished, 2, "it can be started again");
    assert_eq!(format!("{telemetry:?}"), "Telemetry { service: \"test\", .. }");
}
