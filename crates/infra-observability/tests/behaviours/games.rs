//! Games on a clock that is moved by hand.

use std::time::Duration;

use infra_core::clock::Timestamp;
use infra_observability::{
    exporter::Exporter,
    game::{Actor, GameResult, Games, Hour, Options, Outcome, Pace, Seats},
    window::Window,
};

use crate::support::{Phase, clock, sample};

const SEATS: Seats = Seats { people: 2, bots: 2 };
const HOUR: Duration = Duration::from_hours(1);

fn exporter() -> Exporter {
    Exporter::new(&Games::<Phase>::declarations())
}

#[test]
fn a_game_is_counted_once_however_often_its_end_is_told() {
    let (hands, time) = clock();
    let exporter = exporter();
    metrics::with_local_recorder(&exporter, || {
        let games = Games::<Phase>::new(Options::default(), time);
        assert!(games.start("a", SEATS) && games.start("b", SEATS) && !games.start("a", SEATS));
        assert_eq!(games.active(), ["a", "b"]);
        hands.advance(Duration::from_mins(30));
        assert!(games.end("a", GameResult::Completed(Some(Actor::Person))));
        assert!(!games.end("a", GameResult::Completed(None)), "it ended before");
        assert!(!games.end("x", GameResult::Abandoned), "it was never started");
        assert!(games.end("b", GameResult::Abandoned));
    });
    let is = |series: &str| sample(&exporter, series).unwrap();
    assert_eq!(is("infra_game_started_total"), 2.0);
    assert_eq!(is("infra_game_active_games"), 0.0);
    assert_eq!(is("infra_game_ended_total{ending=\"completed\"}"), 1.0);
    assert_eq!(is("infra_game_ended_total{ending=\"abandoned\"}"), 1.0);
    assert_eq!(is("infra_game_unknown_total"), 2.0);
    assert_eq!(is("infra_game_duration_seconds_sum{ending=\"completed\"}"), 1_800.0);
}

#[test]
fn actions_go_into_a_histogram_by_actor_and_players_are_bounded() {
    let (_, time) = clock();
    let exporter = exporter();
    metrics::with_local_recorder(&exporter, || {
        let games = Games::<Phase>::new(Options::default().players(10), time);
        let act = |player: &str, outcome, millis: u64| {
            games.act(player, Actor::of(player), outcome, Duration::from_millis(millis));
        };
        act("player1", Outcome::Done, 150);
        act("bot_1", Outcome::Done, 50);
        act("bot_1", Outcome::Failed, 50);
        assert_eq!(games.player("player1").unwrap().actions, 1);
        assert_eq!(games.player("bot_1").unwrap().actions, 1, "what failed is no action");
        (0..1_000).for_each(|n| act(&format!("p{n}"), Outcome::Done, 1));
        assert_eq!(games.players(), 10);
        assert!(games.player("player1").is_none() && games.player("p999").is_some());
    });
    let bucket = |actor, le| {
        let labels = format!("actor=\"{actor}\",outcome=\"done\",le=\"{le}\"");
        sample(&exporter, &format!("infra_game_action_seconds_bucket{{{labels}}}")).unwrap()
    };
    assert_eq!((bucket("bot", "0.025"), bucket("bot", "0.05")), (0.0, 1.0));
    assert_eq!((bucket("person", "0.1"), bucket("person", "0.25")), (1_000.0, 1_001.0));
}

#[test]
fn many_samples_of_a_phase_fall_into_their_buckets_and_quantiles_are_near() {
    let (_, time) = clock();
    let exporter = exporter();
    let window = Window::new(Duration::from_hours(10), time.clone());
    metrics::with_local_recorder(&exporter, || {
        let games = Games::<Phase>::new(Options::default(), time);
        for second in 1..=100 {
            let took = Duration::from_secs(second);
            games.phase(Phase::Preparation, took);
            window.record(took, false);
        }
    });
    for (le, wanted) in [("10", 10.0), ("30", 30.0), ("60", 60.0), ("120", 100.0), ("+Inf", 100.0)]
    {
        let series =
            format!("infra_game_phase_seconds_bucket{{phase=\"preparation\",le=\"{le}\"}}");
        assert_eq!(sample(&exporter, &series), Some(wanted));
    }
    let figures = window.figures();
    assert_eq!((figures.least.as_secs(), figures.most.as_secs()), (1, 100));
    for (is, wanted) in [(figures.p50, 50.0), (figures.p95, 95.0), (figures.p99, 99.0)] {
        assert!((is.as_secs_f64() / wanted - 1.0).abs() <= 0.05, "{is:?} {wanted}");
    }
}

#[test]
fn hours_roll_over_at_the_full_hour_and_are_kept_for_a_day() {
    let (hands, time) = clock();
    let full = time.wall().as_millis().div_ceil(3_600_000) * 3_600_000;
    hands.skew(Timestamp::from_millis(full + 59 * 60_000));
    let games = Games::<Phase>::new(Options::default(), time);
    games.start("a", SEATS);
    games.act("p", Actor::Person, Outcome::Done, Duration::ZERO);
    hands.advance(Duration::from_mins(2));
    games.end("a", GameResult::Completed(None));
    games.start("b", SEATS);
    games.end("b", GameResult::Abandoned);
    let first = full / 3_600_000;
    let one = Hour { hour: first, started: 1, players: 4, actions: 1, ..Hour::default() };
    let two = Hour {
        hour: first + 1,
        started: 1,
        completed: 1,
        abandoned: 1,
        players: 4,
        ..Hour::default()
    };
    assert_eq!(games.hours(1), [two]);
    assert_eq!(games.hours(24), [one, two]);
    hands.advance(HOUR * 23);
    assert_eq!(games.hours(24), [two], "the first hour is over for a day");
    games.forget_hours();
    hands.advance(HOUR);
    assert_eq!(games.hours(24), []);
}

#[test]
fn analytics_are_exact_on_a_clock_that_is_moved_by_hand() {
    let (hands, time) = clock();
    let games = Games::<Phase>::new(Options::default(), time);
    assert_eq!(games.analytics(), infra_observability::game::Analytics::default());
    for game in ["a", "b", "c", "d"] {
        games.start(game, SEATS);
    }
    hands.advance(Duration::from_mins(30));
    games.end("a", GameResult::Completed(Some(Actor::Bot)));
    games.end("b", GameResult::Completed(Some(Actor::Person)));
    games.end("c", GameResult::Abandoned);
    let analytics = games.analytics();
    assert_eq!(analytics.average_minutes, 30.0);
    let counts = (analytics.started, analytics.active, analytics.completed, analytics.abandoned);
    assert_eq!(counts, (4, 1, 2, 1));
    assert!((analytics.completion_rate - 2.0 / 3.0).abs() < 1e-12);
    assert_eq!((analytics.people.rate, analytics.bots.rate), (0.25, 0.25));
    assert!(0.0 < analytics.games_per_hour);
}

#[test]
fn a_window_forgets_what_is_older_than_itself() {
    let (hands, time) = clock();
    let window = Window::new(Duration::from_mins(1), time);
    for (millis, has_failed) in [(50, false), (100, false), (150, true)] {
        window.record(Duration::from_millis(millis), has_failed);
        hands.advance(Duration::from_secs(10));
    }
    let figures = window.figures();
    assert_eq!((figures.count, figures.errors), (3, 1));
    assert!((figures.error_rate - 1.0 / 3.0).abs() < 1e-12);
    assert_eq!(figures.average, Duration::from_millis(100));
    assert!((figures.p50.as_secs_f64() / 0.1 - 1.0).abs() <= 0.05);
    hands.advance(Duration::from_secs(31));
    assert_eq!(window.figures().count, 2, "the first is 61 s old");
    hands.advance(Duration::from_secs(60));
    assert_eq!(window.figures().count, 0);
}

#[test]
fn bots_are_within_their_target_at_both_its_edges_and_the_pace_forgets() {
    let (hands, time) = clock();
    let pace = Pace::new(time);
    pace.turn(Duration::from_millis(45));
    pace.turn(Duration::from_millis(55));
    [499, 500, 1_500, 1_501].into_iter().for_each(|ms| pace.bot(Duration::from_millis(ms)));
    assert_eq!((pace.turns().count, pace.turns().average), (2, Duration::from_millis(50)));
    assert_eq!((pace.bots().count, pace.bots().within_target), (4, 0.5));
    assert!((pace.bots().p99.as_secs_f64() / 1.501 - 1.0).abs() <= 0.05);
    hands.advance(Duration::from_secs(301));
    assert_eq!((pace.turns().count, pace.bots().count), (0, 0));
}
