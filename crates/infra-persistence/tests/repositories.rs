//! Rooms and statistics against plain lists: random histories, many tasks, callers that give up.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "a panic is how a test fails"
)]

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use infra_core::{
    ErrorKind, SystemClock,
    clock::Timestamp,
    store::DocumentStore,
    version::{Expected, Version},
};
use infra_persistence::{
    GameResult, Options, Order, PlayerResult, PlayerStatistics, RoomRecord, RoomStatus, Rooms,
    Statistics, Window, embedded, memory,
};
use proptest::prelude::*;
use tokio::task::JoinSet;

/// Fewer than there are, so that most are pushed out of memory again and again.
const IN_MEMORY: usize = 2;

fn run<T>(future: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap().block_on(future)
}

fn documents() -> Arc<dyn DocumentStore> {
    Arc::new(memory(SystemClock::shared()).unwrap())
}

fn room(id: u8, code: u8, status: u8, players: &[u8], active: u64) -> RoomRecord {
    let statuses = [RoomStatus::Open, RoomStatus::Playing, RoomStatus::Finished];
    RoomRecord {
        id: format!("room-{id}"),
        code: format!("CODE{code}"),
        status: statuses[usize::from(status)],
        players: players.iter().map(|player| format!("player-{player}")).collect(),
        active: Timestamp::from_millis(active),
    }
}

async fn check_rooms(rooms: &Rooms, model: &BTreeMap<String, RoomRecord>) {
    assert!(rooms.in_memory() <= IN_MEMORY);
    assert_eq!(rooms.count().await.unwrap(), model.len() as u64);
    for number in 0..12_u8 {
        let id = format!("room-{number}");
        let found = rooms.get(&id).await.unwrap().map(|stored| stored.entity.as_ref().clone());
        assert_eq!(found.as_ref(), model.get(&id));
        let code = format!("CODE{number}");
        let found = rooms.by_code(&code).await.unwrap().map(|stored| stored.entity.id.clone());
        let wanted = model.values().find(|room| room.code == code).map(|room| room.id.clone());
        assert_eq!(found, wanted, "{code}");
        let player = format!("player-{number}");
        let found = rooms.of_player(&player, 99).await.unwrap();
        let found: Vec<_> = found.iter().map(|stored| stored.entity.id.as_str()).collect();
        let wanted: Vec<_> = model
            .values()
            .filter(|room| room.players.contains(&player))
            .map(|room| room.id.as_str())
            .collect();
        assert_eq!(found, wanted, "{player}");
    }
    let mut wanted: Vec<_> = model
        .values()
        .filter(|room| room.status != RoomStatus::Finished)
        .map(|room| (Reverse(room.active), Reverse(room.id.clone())))
        .collect();
    wanted.sort();
    let wanted: Vec<_> = wanted.into_iter().map(|(_, id)| id.0).collect();
    for limit in [0, 3, 99] {
        let found = rooms.active(limit).await.unwrap();
        let found: Vec<_> = found.iter().map(|stored| stored.entity.id.clone()).collect();
        assert_eq!(found, wanted[..limit.min(wanted.len())]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn rooms_are_found_by_id_code_player_and_activity_as_in_a_list(
        steps in proptest::collection::vec(
            (
                0..6_u8,
                proptest::option::weighted(0.8, (0..8_u8, 0..3_u8, proptest::collection::vec(0..5_u8, 0..4))),
            ),
            1..30,
        ),
    ) {
        run(async {
            let rooms = Rooms::new(documents(), IN_MEMORY).unwrap();
            let mut model: BTreeMap<String, RoomRecord> = BTreeMap::new();
            for (time, (id, change)) in (1..).zip(steps) {
                let name = format!("room-{id}");
                let Some((code, status, players)) = change else {
                    rooms.remove(&name, Expected::Any).await.unwrap();
                    model.remove(&name);
                    check_rooms(&rooms, &model).await;
                    continue;
                };
                let room = room(id, code, status, &players, time % 7);
                let is_taken =
                    model.values().any(|other| other.code == room.code && other.id != name);
                let playing = model
                    .values()
                    .filter(|other| other.status == RoomStatus::Playing && other.id != name)
                    .count();
                let said = rooms.save(room.clone(), Expected::Any).await;
                if room.status == RoomStatus::Playing && IN_MEMORY <= playing {
                    // Memory is full of rooms that are played in, and none of them may leave.
                    assert_eq!(*said.unwrap_err().kind(), ErrorKind::Overloaded);
                    check_rooms(&rooms, &model).await;
                    continue;
                }
                let is_refused = said
                    .is_err_and(|error| matches!(error.kind(), ErrorKind::Conflict { .. }));
                assert_eq!(is_refused, is_taken, "a code belongs to one room");
                if !is_taken {
                    model.insert(name, room);
                }
                check_rooms(&rooms, &model).await;
            }
        });
    }

    #[test]
    fn statistics_and_leaderboards_are_the_fold_of_the_results_each_counted_once(
        games in proptest::collection::vec(
            (0..40_u8, proptest::collection::btree_map(0..5_u8, (-30..60_i64, any::<bool>()), 1..5)),
            1..60,
        ),
    ) {
        run(async {
            let statistics = PlayerStatistics::new(documents(), IN_MEMORY).unwrap();
            let mut counted = HashSet::new();
            let mut histories: BTreeMap<String, Vec<PlayerResult>> = BTreeMap::new();
            for (game, players) in games {
                let players: Vec<_> = players.iter().map(|(id, (score, has_won))| PlayerResult {
                    player: format!("p{id}"),
                    name: format!("name {id} in {game}"),
                    score: *score,
                    has_won: *has_won,
                }).collect();
                let ended = Timestamp::from_millis(u64::from(game));
                let result = GameResult { game: game.to_string(), ended, players: players.clone() };
                let is_new = counted.insert(game);
                assert_eq!(statistics.record(&result).await.unwrap(), is_new);
                for player in players.into_iter().filter(|_| is_new) {
                    histories.entry(player.player.clone()).or_default().push(player);
                }
            }
            check_statistics(&statistics, &histories).await;
        });
    }
}

/// The statistics of a player, each from the whole history.
fn fold(history: &[PlayerResult]) -> (u64, u64, i64, i64, u64, u64) {
    let won = history.iter().filter(|result| result.has_won).count() as u64;
    let total = history.iter().map(|result| result.score).sum();
    let highest = history.iter().map(|result| result.score).max().unwrap();
    let rows: Vec<u64> =
        history.split(|result| !result.has_won).map(|row| row.len() as u64).collect();
    (history.len() as u64, won, total, highest, *rows.last().unwrap(), *rows.iter().max().unwrap())
}

async fn check_statistics(
    statistics: &PlayerStatistics,
    histories: &BTreeMap<String, Vec<PlayerResult>>,
) {
    assert_eq!(statistics.count().await.unwrap(), histories.len() as u64);
    for (player, history) in histories {
        let found = statistics.of(player).await.unwrap().unwrap().entity;
        let Statistics { played, won, total_score, highest_score, streak, best_streak, .. } =
            found.as_ref().clone();
        let found_row = (played, won, total_score, highest_score, streak, best_streak);
        assert_eq!(found_row, fold(history), "{player}");
        assert_eq!(found.name, history.last().unwrap().name);
    }
    for order in [Order::Wins, Order::Score, Order::WinRate] {
        let mut wanted: Vec<_> = histories
            .iter()
            .map(|(player, history)| {
                let (played, won, total, ..) = fold(history);
                let rate = won * 1_000_000 / played;
                let (first, second) = match order {
                    Order::Wins => (i128::from(won), rate),
                    Order::Score => (i128::from(total), 0),
                    Order::WinRate => (i128::from(rate), won),
                };
                (Reverse((first, second)), player.clone(), played)
            })
            .filter(|(_, _, played)| order != Order::WinRate || 10 <= *played)
            .collect();
        wanted.sort();
        let wanted: Vec<_> = wanted.into_iter().map(|(_, player, _)| player).collect();
        for limit in [0, 2, 99] {
            let found = statistics.leaderboard(order, limit).await.unwrap();
            let found: Vec<_> = found.iter().map(|row| row.player.clone()).collect();
            assert_eq!(found, wanted[..limit.min(wanted.len())], "{order:?}");
        }
    }
}

#[test]
fn results_that_come_at_once_and_twice_are_counted_once_each() {
    run(async {
        let statistics = PlayerStatistics::new(documents(), 100).unwrap();
        let mut tasks = JoinSet::new();
        for task in 0..8_u64 {
            let statistics = statistics.clone();
            tasks.spawn(async move {
                let mut new = 0;
                for number in 0..20_u64 {
                    // Each result comes from two tasks, and every game has the same player.
                    let game = (number * 4 + task % 4).to_string();
                    let one = |player: &str, has_won| PlayerResult {
                        player: player.to_owned(),
                        name: player.to_owned(),
                        score: 1,
                        has_won,
                    };
                    let players = vec![one("everybody", true), one(&format!("p{number}"), false)];
                    let result = GameResult { game, ended: Timestamp::EPOCH, players };
                    new += u32::from(statistics.record(&result).await.unwrap());
                }
                new
            });
        }
        let counted: u32 = tasks.join_all().await.iter().sum();
        assert_eq!(counted, 80);
        let everybody = statistics.of("everybody").await.unwrap().unwrap().entity;
        assert_eq!((everybody.played, everybody.won, everybody.best_streak), (80, 80, 80));
    });
}

#[test]
fn memory_never_shows_less_than_what_a_save_returned() {
    run(async {
        let rooms = Rooms::new(documents(), IN_MEMORY).unwrap();
        let mut tasks = JoinSet::new();
        for task in 0..6_u8 {
            let rooms = rooms.clone();
            tasks.spawn(async move {
                let mut last = Version::ZERO;
                for step in 0..300_u64 {
                    let id = task % 3;
                    if step % 3 == 0 {
                        let saved = rooms.save(room(id, id, 0, &[], step), Expected::Any).await;
                        last = saved.unwrap();
                    }
                    let seen = rooms.get(&format!("room-{id}")).await.unwrap().unwrap().version;
                    assert!(last <= seen, "version {seen} is seen after {last} was saved");
                    last = seen;
                }
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
    });
}

#[test]
fn a_save_whose_caller_gives_up_leaves_memory_and_store_alike() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn DocumentStore> =
            Arc::new(embedded(Options::new(folder.path())).await.unwrap().0);
        let rooms = Rooms::new(Arc::clone(&store), 100).unwrap();
        for step in 0..60_u64 {
            let save = rooms.save(room(1, 1, 0, &[], step), Expected::Any);
            // Polled once: the write is on its way, and nobody waits for it.
            let given_up = tokio::time::timeout(std::time::Duration::ZERO, save).await;
            rooms.get("room-1").await.unwrap();
            drop(given_up);
        }
        // A last write comes after all others in the store's order.
        let last = rooms.save(room(1, 1, 0, &[], 999), Expected::Any).await.unwrap();
        let seen = rooms.get("room-1").await.unwrap().unwrap();
        let stored = Rooms::new(store, 1).unwrap().get("room-1").await.unwrap().unwrap();
        assert_eq!((seen.version, seen.entity.active), (last, Timestamp::from_millis(999)));
        assert_eq!((stored.version, &stored.entity), (seen.version, &seen.entity));
    });
}

#[test]
fn what_cannot_be_a_room_or_result_is_refused_by_name() {
    run(async {
        let rooms = Rooms::new(documents(), 1).unwrap();
        let nameless = RoomRecord { code: String::new(), ..room(1, 1, 0, &[], 1) };
        let said = rooms.save(nameless, Expected::Any).await.unwrap_err();
        assert!(said.to_string().contains("room-1"), "{said}");
        let statistics = PlayerStatistics::new(documents(), 1).unwrap();
        let ann = PlayerResult { player: "p1".into(), name: "Ann".into(), score: 1, has_won: true };
        let players = vec![ann.clone(), ann];
        let twice = GameResult { game: "g".into(), ended: Timestamp::EPOCH, players };
        let said = statistics.record(&twice).await.unwrap_err();
        assert_eq!(*said.kind(), ErrorKind::Invalid);
        assert!(said.to_string().contains("p1"), "{said}");
    });
}

const DAY: u64 = 86_400_000;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    #[test]
    fn windows_and_ranks_are_those_of_a_naive_count_for_every_order(
        games in proptest::collection::vec(
            (0..70_u64, proptest::collection::btree_map(0..6_u8, (-3..4_i64, any::<bool>()), 1..5)),
            1..50,
        ),
    ) {
        run(async {
            let statistics = PlayerStatistics::new(documents(), 100).unwrap();
            // The second half finds boards in memory, and must keep them right.
            let half = games.len() / 2;
            let mut results: Vec<(u64, PlayerResult)> = Vec::new();
            for (number, (day, players)) in games.iter().enumerate() {
                let players: Vec<_> = players.iter().map(|(id, (score, has_won))| PlayerResult {
                    player: format!("p{id}"),
                    name: format!("p{id}"),
                    score: *score,
                    has_won: *has_won,
                }).collect();
                let ended = Timestamp::from_millis(day * DAY + 7);
                let result = GameResult { game: number.to_string(), ended, players: players.clone() };
                statistics.record(&result).await.unwrap();
                results.extend(players.into_iter().map(|player| (*day, player)));
                if number + 1 == half || number + 1 == games.len() {
                    check_boards(&statistics, &results).await;
                }
            }
        });
    }
}

async fn check_boards(statistics: &PlayerStatistics, results: &[(u64, PlayerResult)]) {
    let at = |day: u64| Timestamp::from_millis(day * DAY + DAY - 1);
    for window in [Window::Day, Window::Week, Window::Month, Window::AllTime] {
        for day in [0, 30, 31, results[0].0] {
            let mut players: BTreeMap<&str, (u64, u64, i64)> = BTreeMap::new();
            let within = |other: &u64| window.part(at(*other)) == window.part(at(day));
            for (_, result) in results.iter().filter(|(other, _)| within(other)) {
                let own = players.entry(&result.player).or_default();
                *own = (own.0 + 1, own.1 + u64::from(result.has_won), own.2 + result.score);
            }
            for order in [Order::Wins, Order::Score, Order::WinRate] {
                let worth = |(played, won, total): (u64, u64, i64)| {
                    let rate = won * 1_000_000 / played;
                    match order {
                        Order::Wins => (i128::from(won), rate),
                        Order::Score => (i128::from(total), 0),
                        Order::WinRate => (i128::from(rate), won),
                    }
                };
                let rated = |played: u64| order != Order::WinRate || 10 <= played;
                for number in 0..7 {
                    let player = format!("p{number}");
                    let own = players.get(player.as_str()).filter(|own| rated(own.0));
                    let wanted = own.map(|own| {
                        let better =
                            players.values().filter(|p| rated(p.0) && worth(*own) < worth(**p));
                        1 + better.count() as u64
                    });
                    let rank = statistics.rank(order, (window, at(day)), &player).await.unwrap();
                    assert_eq!(rank, wanted, "{order:?} {window:?} {day} {player}");
                }
                let mut wanted: Vec<_> = players.iter().filter(|(_, own)| rated(own.0)).collect();
                wanted.sort_by_key(|(player, own)| (Reverse(worth(**own)), **player));
                let wanted: Vec<_> =
                    wanted.into_iter().map(|(player, _)| (*player).to_owned()).collect();
                for limit in [0, 2, 99] {
                    let found =
                        statistics.leaderboard_of(order, (window, at(day)), limit).await.unwrap();
                    let found: Vec<_> = found.into_iter().map(|own| own.player).collect();
                    assert_eq!(
                        found,
                        wanted[..limit.min(wanted.len())],
                        "{order:?} {window:?} {day}"
                    );
                }
            }
        }
    }
}

#[test]
fn ranks_exports_and_counts_are_exact_for_a_known_sequence() {
    run(async {
        let clock = Arc::new(infra_testkit::clock::ManualClock::new());
        let shared: Arc<dyn infra_core::Clock> =
            Arc::<infra_testkit::clock::ManualClock>::clone(&clock);
        let statistics = PlayerStatistics::with_clock(documents(), 100, shared).unwrap();
        assert!(statistics.of("p1").await.unwrap().is_none());
        let now = Timestamp::from_millis(5);
        let mut number = 0;
        let mut record = async |player: &str, score: i64, has_won: bool| {
            number += 1;
            let (name, player) = (player.to_owned(), player.to_owned());
            let players = vec![PlayerResult { player, name, score, has_won }];
            let result = GameResult { game: number.to_string(), ended: now, players };
            assert!(statistics.record(&result).await.unwrap());
        };
        for (player, score, wins) in [("p1", 10, 5), ("p2", 10, 3), ("p3", 10, 1), ("p4", 10, 1)] {
            for game in 0..5 {
                record(player, score, game < wins).await;
            }
        }
        assert_eq!(statistics.of("p1").await.unwrap().unwrap().entity.won, 5);
        let all = (Window::AllTime, now);
        for (player, rank) in
            [("p1", Some(1)), ("p2", Some(2)), ("p3", Some(3)), ("p4", Some(3)), ("p5", None)]
        {
            assert_eq!(statistics.rank(Order::Wins, all, player).await.unwrap(), rank, "{player}");
        }
        let export = statistics.export(Order::Wins, all, 3).await.unwrap();
        let rows: Vec<_> =
            export.players.iter().map(|row| (row.rank, row.statistics.player.as_str())).collect();
        assert_eq!(rows, [(1, "p1"), (2, "p2"), (3, "p3")]);
        assert_eq!(export.exported, infra_core::Clock::wall(clock.as_ref()));
        let tied = statistics.export(Order::Score, all, 1_000).await.unwrap();
        let rows: Vec<_> =
            tied.players.iter().map(|row| (row.rank, row.statistics.player.as_str())).collect();
        assert_eq!(
            rows,
            [(1, "p1"), (1, "p2"), (1, "p3"), (1, "p4")],
            "ties are in the order of ids"
        );
        let usage = statistics.usage();
        assert_eq!((usage.found, usage.unknown, usage.results), (1, 1, 20));
        assert_eq!((usage.leaderboards, usage.boards_built, usage.ranks), (2, 1, 5));
    });
}
