//! Attacks by many clients at once: what each costs, and for how long.
//!
//! `WS_ATTACKERS` sets how many there are, `WS_SLOW_ATTACKS=1` takes the default deadlines.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use infra_core::{Clock, SystemClock};
use infra_ws::Options;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use crate::{Server, TICK, frame, text};

const KIB: usize = 1024;

/// One clock, for its instants are its own.
static CLOCK: LazyLock<Arc<dyn Clock>> = LazyLock::new(SystemClock::shared);

/// The most bytes of unfinished messages that the process may hold.
const BUDGET: usize = 2 * 1024 * KIB;

fn attackers() -> usize {
    std::env::var("WS_ATTACKERS").ok().and_then(|text| text.parse().ok()).unwrap_or(20)
}

fn is_slow() -> bool {
    std::env::var_os("WS_SLOW_ATTACKS").is_some()
}

/// A deadline as it is by default, or a short one.
fn deadline(default: u64) -> Duration {
    if is_slow() { Duration::from_secs(default) } else { TICK * 5 }
}

async fn target() -> Server {
    let many = attackers() * 2 + 10;
    Server::start(|options: Options| {
        options
            .connections(many, many)
            .handshake(deadline(5))
            .first_message(Duration::from_mins(1))
            .assembly(deadline(10))
            .budgets(BUDGET, 64 * KIB * KIB)
    })
    .await
}

/// What an attack cost.
#[derive(Debug)]
struct Cost {
    /// The most bytes of unfinished messages that the hub held.
    held: usize,
    /// By how much the process grew at most, attackers included.
    grown_kib: i64,
    /// How long it held more than its budget, as far as that was seen.
    excess: Duration,
    /// When the last attacker was gone.
    over: Duration,
}

/// Lets many attack at once, and waits until the server is rid of all of them.
///
/// An honest client is answered all the while.
#[expect(clippy::print_stdout, reason = "the figures are what the run is for")]
async fn attack<F>(what: &str, server: &Server, attacker: impl Fn(TcpStream) -> F) -> Cost
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut honest = server.client().await;
    honest.send("hello").await.unwrap();
    assert_eq!(text(&mut honest).await, "hello");
    let (before, begun) = (resident(), CLOCK.now());
    let mut attackers_at_work = JoinSet::new();
    for _ in 0..attackers() {
        attackers_at_work.spawn(attacker(TcpStream::connect(server.address).await.unwrap()));
    }
    let (mut held, mut grown, mut excess) = (0, 0, Duration::ZERO);
    let mut looked = begun;
    let gone = async {
        loop {
            honest.send("hello").await.unwrap();
            assert_eq!(text(&mut honest).await, "hello");
            let (now, holds) = (CLOCK.now(), server.hub.held_bytes().0);
            if BUDGET < holds {
                excess += now.since(looked);
            }
            looked = now;
            held = held.max(holds);
            grown = grown.max(resident() - before);
            if server.hub.count() <= 1 && attackers_at_work.is_empty() {
                return;
            }
            while attackers_at_work.try_join_next().is_some() {}
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(2), gone).await.expect("they are closed in time");
    let cost = Cost { held, grown_kib: grown, excess, over: CLOCK.now().since(begun) };
    println!(
        "{what}: {} attackers, {} bytes held, {} KiB grown, beyond the budget for {:?}, over after {:?}",
        attackers(),
        cost.held,
        cost.grown_kib,
        cost.excess,
        cost.over
    );
    drop(honest);
    server.settled().await;
    assert_eq!(server.hub.held_bytes(), (0, 0));
    cost
}

/// Returns the resident memory of this process in KiB.
fn resident() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Writes the same bytes again and again, until the server has had enough.
async fn repeat(socket: &mut TcpStream, bytes: &[u8], pause: Duration) {
    while socket.write_all(bytes).await.is_ok() {
        tokio::time::sleep(pause).await;
    }
}

/// Reads until the server closes.
async fn wait(socket: &mut TcpStream) {
    let _closed = socket.read_to_end(&mut Vec::new()).await.is_ok();
}

/// Makes the opening handshake, unless the server has had enough before.
async fn handshake(socket: &mut TcpStream) {
    let head = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let mut answer = Vec::new();
    let mut is_open = socket.write_all(head.as_bytes()).await.is_ok();
    while is_open && !answer.ends_with(b"\r\n\r\n") {
        let byte = socket.read_u8().await;
        is_open = byte.is_ok();
        answer.extend(byte);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn half_open_handshakes_and_slow_ones_end_with_the_deadline() {
    let server = target().await;
    let half_open = attack("half-open handshakes", &server, |mut socket| async move {
        let _written = socket.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nX-").await.is_ok();
        wait(&mut socket).await;
    });
    let mute = half_open.await;
    let slowloris = attack("slowloris", &server, |mut socket| async move {
        let _written = socket.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n").await.is_ok();
        repeat(&mut socket, b"X-Slow: 1\r\n", TICK / 8).await;
    });
    for cost in [mute, slowloris.await] {
        assert!(cost.held == 0 && deadline(5) / 2 <= cost.over, "{cost:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_never_end_are_bounded_in_bytes_and_time() {
    let server = target().await;
    let fragments = attack("tiny fragments", &server, |mut socket| async move {
        handshake(&mut socket).await;
        let _begun = socket.write_all(&frame(0x01, b"x")).await.is_ok();
        repeat(&mut socket, &frame(0x00, b"x"), TICK / 40).await;
    });
    let cost = fragments.await;
    assert!(cost.held <= attackers() * 64 * KIB, "{cost:?}");

    let unfinished = attack("unfinished large messages", &server, |mut socket| async move {
        handshake(&mut socket).await;
        let mut bytes = frame(0x82, &vec![7; 64 * KIB]);
        bytes.truncate(bytes.len() - 1);
        let _written = socket.write_all(&bytes).await.is_ok();
        wait(&mut socket).await;
    });
    let cost = unfinished.await;
    // Those that are beyond the budget are closed, the largest first; until they are it is exceeded.
    assert!(0 < cost.held && cost.held <= attackers() * 64 * KIB, "{cost:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_control_frames_are_cut_off() {
    let server = target().await;
    let flood = attack("control floods", &server, |mut socket| async move {
        handshake(&mut socket).await;
        let pings = frame(0x89, b"ping").repeat(100);
        let (mut reading, mut writing) = socket.split();
        let read = async {
            let mut scratch = vec![0; 4 * KIB];
            while reading.read(&mut scratch).await.is_ok_and(|count| 0 < count) {}
        };
        let write = async { while writing.write_all(&pings).await.is_ok() {} };
        tokio::join!(read, write);
    });
    let cost = flood.await;
    assert!(cost.held <= attackers() * 256, "{cost:?}");
}
