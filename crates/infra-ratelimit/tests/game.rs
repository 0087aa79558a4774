//! The limits of a game: costs, phases, rooms, single events, connections.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "a panic is how a test fails"
)]

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use infra_core::limit::{Decision, Verdict};
use infra_ratelimit::{
    Facts, Limit, Limiter, Quota, Window,
    game::{Action, GameLimiter, Options, Phase},
};
use infra_testkit::clock::ManualClock;
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpStream},
};

fn game(options: &Options) -> (ManualClock, GameLimiter) {
    let clock = ManualClock::new();
    let rules = options.rules().unwrap();
    let limiter = options
        .limits()
        .unwrap()
        .into_iter()
        .fold(Limiter::new(Arc::new(clock.clone())), |limiter, (name, limit)| {
            limiter.limit(name, limit)
        });
    (clock, GameLimiter::new(Arc::new(rules.declare(limiter)), rules))
}

fn slow(capacity: u32) -> Limit {
    Limit::bucket(Quota::new(capacity, Duration::from_mins(1)).unwrap())
}

fn facts<'a>(player: &'a str, room: Option<&'a str>, message: &'a str) -> Facts<'a> {
    let address = "203.0.113.7".parse().unwrap();
    Facts { address, connection: "c1", player: Some(player), room, tier: "", message }
}

async fn act(game: &GameLimiter, player: &str, message: &str, action: Action) -> Decision {
    game.act(&facts(player, None, message), action, None).await.unwrap()
}

const COSTS: [(Action, u32, [u32; 5]); 13] = [
    (Action::CreateRoom, 5, [10, 5, 4, 3, 5]),
    (Action::JoinRoom, 2, [4, 2, 2, 1, 2]),
    (Action::LeaveRoom, 1, [2, 1, 1, 1, 1]),
    (Action::StartGame, 3, [6, 3, 2, 2, 3]),
    (Action::Play, 1, [2, 1, 1, 1, 1]),
    (Action::Declare, 1, [2, 1, 1, 1, 1]),
    (Action::AcceptRedeal, 2, [4, 2, 2, 1, 2]),
    (Action::DeclineRedeal, 2, [4, 2, 2, 1, 2]),
    (Action::Chat, 1, [2, 1, 1, 1, 1]),
    (Action::Emoji, 1, [2, 1, 1, 1, 1]),
    (Action::Replay, 10, [20, 10, 7, 5, 10]),
    (Action::Statistics, 5, [10, 5, 4, 3, 5]),
    (Action::Unknown, 1, [2, 1, 1, 1, 1]),
];

#[tokio::test]
async fn every_action_takes_its_cost_from_the_player() {
    let (_clock, game) = game(&Options::new().unwrap().player(slow(100)));
    for (idx, (action, cost, _)) in COSTS.into_iter().enumerate() {
        let player = format!("player {idx}");
        assert!(act(&game, &player, "ack", action).await.is_admitted(), "{action:?}");
        assert_eq!(left(&game, &player).await, 100 - cost, "{action:?}");
    }
}

/// Spends what is left of a player's tokens and returns how many they were.
async fn left(game: &GameLimiter, player: &str) -> u32 {
    let mut left = 0;
    loop {
        let decision = act(game, player, "ack", Action::Unknown).await;
        if !decision.is_admitted() {
            assert_eq!(decision.limit, "player");
            return left;
        }
        left += 1;
    }
}

#[test]
fn every_phase_divides_the_cost_and_never_below_one() {
    let phases =
        [Phase::Lobby, Phase::Preparation, Phase::Declaration, Phase::Turn, Phase::Scoring];
    for (action, cost, in_phases) in COSTS {
        assert_eq!(action.cost(), NonZeroU32::new(cost).unwrap());
        for (phase, wanted) in phases.into_iter().zip(in_phases) {
            assert_eq!(action.cost_in(phase).get(), wanted, "{action:?} in {phase:?}");
        }
    }
}

#[tokio::test]
async fn the_phase_is_that_of_the_players_own_room_and_changes_what_is_paid() {
    let (_clock, game) = game(&Options::new().unwrap().player(slow(30)));
    for (phase, wanted) in [(Phase::Lobby, 20), (Phase::Turn, 17), (Phase::Scoring, 12)] {
        let facts = facts("ann", None, "ack");
        let decision = game.act(&facts, Action::CreateRoom, Some(phase)).await.unwrap();
        assert_eq!((decision.limit, decision.remaining), ("player", wanted), "{phase:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_room_binds_its_players_together_and_its_refusals_cost_them_nothing() {
    let room = Limit::log(Window::per_minute(50).unwrap());
    let (_clock, game) = game(&Options::new().unwrap().player(slow(100)).room(room));
    let tasks: Vec<_> = (0..10)
        .map(|player| {
            let game = game.clone();
            tokio::spawn(async move {
                let player = format!("player {player}");
                let mut n_moves = 0;
                for _ in 0..10 {
                    let facts = facts(&player, Some("room 1"), "play");
                    let decision = game.act(&facts, Action::Play, None).await.unwrap();
                    if decision.is_admitted() {
                        n_moves += 1;
                    } else {
                        assert_eq!(decision.limit, "room");
                    }
                    tokio::task::yield_now().await;
                }
                (player, n_moves)
            })
        })
        .collect();
    let mut all = 0;
    for task in tasks {
        let (player, n_moves) = task.await.unwrap();
        assert_eq!(left(&game, &player).await, 100 - n_moves, "{player} paid what it n_moves");
        all += n_moves;
    }
    assert_eq!(all, 50);
}

#[tokio::test]
async fn events_have_limits_of_their_own_and_none_passes_unseen() {
    let (clock, game) = game(&Options::new().unwrap().player(slow(10_000)).room(slow(10_000)));
    for (message, most, limit) in [
        ("ping", 120, "event ping"),
        ("ack", 200, "event ack"),
        ("sync_request", 10, "event sync"),
        ("get_rooms", 30, "event rooms"),
        ("create_room", 5, "event create"),
        ("start_game", 3, "event start"),
        ("declare", 6, "event declare"),
        ("play_pieces", 20, "event play"),
        ("timeout_action", 60, "event other"),
    ] {
        for _ in 0..most {
            assert!(act(&game, "ann", message, Action::Unknown).await.is_admitted(), "{message}");
        }
        let refused = act(&game, "ann", message, Action::Unknown).await;
        assert_eq!((refused.limit, refused.is_admitted()), (limit, false), "{message}");
    }
    let other = act(&game, "ann", "disconnect_cleanup", Action::Unknown).await;
    assert_eq!(other.limit, "event other", "events without a row share one");
    clock.advance(Duration::from_secs(200));
    assert!(act(&game, "ann", "ping", Action::Unknown).await.is_admitted());
    let blocked = act(&game, "ann", "create_room", Action::CreateRoom).await;
    assert_eq!(blocked.verdict, Verdict::RetryAfter(Duration::from_secs(100)));
    assert!(act(&game, "bob", "create_room", Action::CreateRoom).await.is_admitted());
    clock.advance(Duration::from_secs(100));
    assert!(act(&game, "ann", "create_room", Action::CreateRoom).await.is_admitted());
    let blocked = act(&game, "ann", "start_game", Action::StartGame).await;
    assert_eq!(blocked.verdict, Verdict::RetryAfter(Duration::from_mins(5)));
}

#[tokio::test]
async fn nobody_shares_the_budget_of_all_who_are_not_signed_in() {
    let (_clock, game) = game(&Options::new().unwrap().player(slow(1)));
    let from = |address: &str| Facts {
        address: address.parse().unwrap(),
        player: None,
        ..facts("", None, "ping")
    };
    for address in ["203.0.113.7", "203.0.113.8", "2001:db8::1"] {
        let facts = from(address);
        assert!(game.act(&facts, Action::Unknown, None).await.unwrap().is_admitted(), "{address}");
        assert!(!game.act(&facts, Action::Unknown, None).await.unwrap().is_admitted());
    }
}

/// Accepts connections, counts them by their address and a player, and serves until they end.
async fn serve(listener: TcpListener, game: GameLimiter) {
    while let Ok((mut socket, peer)) = listener.accept().await {
        let game = game.clone();
        tokio::spawn(async move {
            let (_, counted) = game.connect(peer.ip(), Some("ann")).await.unwrap();
            let Some(_counted) = counted else { return };
            let (_, _in_room) = game.enter("room 1").await.unwrap();
            let mut ends = [0];
            drop(socket.read(&mut ends).await);
        });
    }
}

/// Waits until ann and the room have so many connections.
async fn until(game: &GameLimiter, wanted: u32) {
    loop {
        let counts =
            (game.connections("ann").await.unwrap(), game.in_room("room 1").await.unwrap());
        if counts == (wanted, wanted) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn sockets_are_counted_while_they_are_open_and_no_more_than_there_may_be() {
    let (_clock, game) = game(&Options::new().unwrap().connections(10, 2, 5));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, game.clone()));
    let first = TcpStream::connect(server).await.unwrap();
    until(&game, 1).await;
    let second = TcpStream::connect(server).await.unwrap();
    until(&game, 2).await;
    let mut third = TcpStream::connect(server).await.unwrap();
    assert_eq!(third.read(&mut [0]).await.unwrap(), 0, "it is closed");
    until(&game, 2).await;
    drop(first);
    until(&game, 1).await;
    let fourth = TcpStream::connect(server).await.unwrap();
    until(&game, 2).await;
    drop((second, fourth));
    until(&game, 0).await;
}

#[tokio::test]
async fn to_come_and_go_is_not_free() {
    let (_clock, game) = game(&Options::new().unwrap().arrivals(slow(3)));
    let address = "203.0.113.7".parse().unwrap();
    for _ in 0..3 {
        assert!(game.connect(address, None).await.unwrap().1.is_some());
    }
    let (refused, none) = game.connect(address, None).await.unwrap();
    assert_eq!((refused.limit, none.is_none()), ("arrivals", true));
    assert!(Options::new().unwrap().connections(0, 1, 1).limits().is_err());
}
