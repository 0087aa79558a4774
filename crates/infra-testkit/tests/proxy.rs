//! The fault proxy in front of a server that repeats what it hears.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "a panic is how a test fails"
)]

use std::{net::SocketAddr, time::Duration};

use infra_core::{Clock, SystemClock};
use infra_testkit::proxy::{FaultProxy, Faults, Weather};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Repeats to each client what it says.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reader, mut writer) = socket.split();
                tokio::io::copy(&mut reader, &mut writer).await
            });
        }
    });
    addr
}

/// Says a thousand bytes and returns what comes back within a moment, and whether that was the end.
async fn say(addr: SocketAddr, patience: Duration) -> (usize, bool) {
    let mut socket = TcpStream::connect(addr).await.unwrap();
    socket.write_all(&[7; 1_000]).await.unwrap();
    let (mut heard, mut bytes) = (0, [0; 1_000]);
    loop {
        match tokio::time::timeout(patience, socket.read(&mut bytes)).await {
            Ok(Ok(0) | Err(_)) => return (heard, true),
            Ok(Ok(read)) => {
                assert!(bytes[..read].iter().all(|byte| *byte == 7));
                heard += read;
            }
            Err(_) => return (heard, false),
        }
        if heard == 1_000 {
            return (heard, false);
        }
    }
}

const SOON: Duration = Duration::from_millis(300);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_faults_everything_passes() {
    let proxy = FaultProxy::start(echo().await).await.unwrap();
    assert_eq!(say(proxy.addr(), SOON * 10).await, (1_000, false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_comes_after_exactly_so_many_bytes() {
    let proxy = FaultProxy::start(echo().await).await.unwrap();
    proxy.set(Faults { cut_after: Some(123), ..Faults::default() });
    assert_eq!(say(proxy.addr(), SOON * 10).await, (123, true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_of_what_goes_up_comes_after_exactly_so_many_bytes_too() {
    let proxy = FaultProxy::start(echo().await).await.unwrap();
    proxy.set(Faults { cut_up_after: Some(0), ..Faults::default() });
    assert_eq!(say(proxy.addr(), SOON * 10).await, (0, true));
    proxy.set(Faults { cut_up_after: Some(1_000), ..Faults::default() });
    assert_eq!(say(proxy.addr(), SOON * 10).await, (1_000, false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_swallowed_never_comes_and_the_connection_stays_open() {
    let proxy = FaultProxy::start(echo().await).await.unwrap();
    proxy.set(Faults { swallow_after: Some(5), ..Faults::default() });
    assert_eq!(say(proxy.addr(), SOON).await, (5, false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_open_connection_is_never_answered() {
    let proxy = FaultProxy::start(echo().await).await.unwrap();
    proxy.set(Faults { half_open: true, ..Faults::default() });
    assert_eq!(say(proxy.addr(), SOON).await, (0, false));
    proxy.set(Faults::default());
    assert_eq!(say(proxy.addr(), SOON * 10).await, (1_000, false), "others are served again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_narrow_or_slow_line_takes_its_time() {
    let proxy = FaultProxy::start(echo().await).await.unwrap();
    let clock = SystemClock::new();
    let begun = clock.now();
    proxy.set(Faults { bytes_per_second: Some(4_000), ..Faults::default() });
    assert_eq!(say(proxy.addr(), SOON * 30).await, (1_000, false));
    proxy.set(Faults { delay: Duration::from_millis(100), ..Faults::default() });
    assert_eq!(say(proxy.addr(), SOON * 30).await, (1_000, false));
    let took = clock.now().since(begun);
    // A quarter of a second up and down, then a tenth up and down: never less.
    assert!(Duration::from_millis(650) <= took, "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_connections_can_be_cut_at_will() {
    let proxy = FaultProxy::start(echo().await).await.unwrap();
    let mut socket = TcpStream::connect(proxy.addr()).await.unwrap();
    socket.write_all(b"x").await.unwrap();
    assert_eq!(socket.read_u8().await.unwrap(), b'x');
    proxy.cut();
    assert!(!matches!(socket.read(&mut [0; 8]).await, Ok(1..)));
    assert_eq!(say(proxy.addr(), SOON * 10).await, (1_000, false), "new ones are served");
}

/// Says a byte and returns what comes back within a moment.
async fn say_byte(socket: &mut TcpStream) -> Option<usize> {
    socket.write_all(b"x").await.unwrap();
    let read = tokio::time::timeout(SOON, socket.read(&mut [0; 8])).await;
    read.ok().map(|read| read.unwrap_or(0))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_during_an_outage_kills_its_connection_and_others_live() {
    let proxy = FaultProxy::start(echo().await).await.unwrap();
    let mut open = [const { None }; 2];
    for socket in &mut open {
        let socket = socket.insert(TcpStream::connect(proxy.addr()).await.unwrap());
        assert_eq!(say_byte(socket).await, Some(1));
    }
    let [Some(mut silent), Some(mut talking)] = open else { panic!("both are open") };
    proxy.weather(Weather::Outage);
    assert_eq!(
        say_byte(&mut talking).await,
        None,
        "nobody answers, and nobody says that it is over"
    );
    let mut fates = Vec::new();
    for _ in 0..20 {
        let (heard, is_over) = say(proxy.addr(), SOON / 10).await;
        assert_eq!(heard, 0);
        fates.push(is_over);
    }
    assert!(fates.contains(&true) && fates.contains(&false), "some are cut, some dead: {fates:?}");
    proxy.weather(Weather::Calm);
    assert_eq!(say_byte(&mut talking).await, None, "it stays dead");
    assert_eq!(say_byte(&mut silent).await, Some(1), "who was silent is none the wiser");
    assert_eq!(say(proxy.addr(), SOON * 10).await, (1_000, false));
    assert_eq!(proxy.struck(), 21);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_rough_weather_chunks_of_open_connections_are_late_or_cut() {
    let proxy = FaultProxy::seeded(echo().await, 3).await.unwrap();
    let mut socket = TcpStream::connect(proxy.addr()).await.unwrap();
    assert_eq!(say_byte(&mut socket).await, Some(1));
    let clock = SystemClock::new();
    let begun = clock.now();
    proxy.weather(Weather::Rough { cut: 0, stalled: 1_000, stall: SOON / 10 });
    assert_eq!(say_byte(&mut socket).await, Some(1));
    assert!(SOON / 5 <= clock.now().since(begun), "late up and down");
    proxy.weather(Weather::Rough { cut: 1_000, stalled: 0, stall: SOON });
    assert_eq!(say_byte(&mut socket).await, Some(0));
    assert_eq!(proxy.struck(), 1);
}
