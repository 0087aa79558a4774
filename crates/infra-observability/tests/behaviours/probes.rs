//! Checks of hosts and servers.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use infra_core::{
    SystemClock,
    health::{CheckReport, Finding, HealthCheck, HealthReport, Status},
    lifecycle::Shutdown,
};
use infra_observability::{
    collect::{Cgroup, Process},
    health::{
        Group, Monitor, Options, Readiness, Thresholds,
        check::{Cpu, Disk, Http, Memory, Space, Tcp, from_fn},
    },
};
use infra_testkit::server::{Kind, Server};
use proptest::prelude::*;

use crate::{
    collectors::{fake_cgroup, fake_proc},
    support::clock,
};

const GB: u64 = 1 << 30;

#[tokio::test]
async fn a_disk_is_judged_at_the_edges_of_its_bands() {
    let judged = async |free| {
        let read = move || Ok(Space { free, total: 2_000 * GB });
        Disk::reading(read, 1_000 * GB, 500 * GB).check().await
    };
    assert_eq!(judged(500 * GB - 1).await.status, Status::Down);
    assert_eq!(judged(500 * GB).await.status, Status::Degraded);
    assert_eq!(judged(1_000 * GB - 1).await.status, Status::Degraded);
    assert_eq!(judged(1_000 * GB).await.status, Status::Up);
    assert!(judged(0).await.detail.contains("0 of 2048000 MiB free"));
    let broken = Disk::reading(|| Err(io::Error::other("gone")), 1, 1).check().await;
    assert_eq!((broken.status, broken.detail.as_str()), (Status::Down, "cannot be read: gone"));
    assert_eq!(Disk::new("/", 1, 0).check().await, Finding::up());
}

#[tokio::test]
async fn memory_is_judged_strictly_above_its_edges_within_the_limit_of_the_cgroup() {
    let folder = tempfile::tempdir().unwrap();
    let judged = async |used: u64| {
        let cgroup = fake_cgroup(folder.path(), used + 100, "1000");
        Memory::reading(cgroup, "/nowhere", 0.8, 0.9).check().await.status
    };
    assert_eq!(judged(800).await, Status::Up);
    assert_eq!(judged(801).await, Status::Degraded);
    assert_eq!(judged(900).await, Status::Degraded);
    assert_eq!(judged(901).await, Status::Down);
    let meminfo = "MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: 150 kB\n";
    std::fs::write(folder.path().join("meminfo"), meminfo).unwrap();
    let host = Memory::reading(Cgroup::at("/nowhere"), folder.path(), 0.8, 0.9);
    assert_eq!(host.usage(), Some((850 * 1_024, 1_000 * 1_024)));
    assert!(host.check().await.detail.starts_with("85.0 %"));
    let silent = Memory::reading(Cgroup::at("/nowhere"), "/nowhere", 0.8, 0.9);
    assert_eq!(silent.check().await.status, Status::Degraded);
    assert!(Memory::new(0.99, 0.999).usage().is_some());
}

#[tokio::test]
async fn a_processor_is_judged_by_its_share_since_the_last_look() {
    let folder = tempfile::tempdir().unwrap();
    let (hands, time) = clock();
    fake_proc(folder.path(), 0);
    let cpu = Cpu::reading(time, Process::at(folder.path()), 2.0, 0.5, 0.9);
    assert_eq!(cpu.check().await, Finding::up(), "nothing to compare with");
    let mut ticks = 0;
    let mut judged = async |spent| {
        ticks += spent;
        fake_proc(folder.path(), ticks);
        hands.advance(Duration::from_secs(1));
        cpu.check().await.status
    };
    assert_eq!(judged(100).await, Status::Up, "half of two processors");
    assert_eq!(judged(101).await, Status::Degraded);
    assert_eq!(judged(181).await, Status::Down);
    assert!(format!("{:?}", Cpu::new(clock().1, 0.5, 0.9)).starts_with("Cpu"));
}

#[tokio::test]
async fn a_killed_redis_is_noticed_and_so_is_its_return() {
    let mut server = Server::start(Kind::Redis).await.unwrap();
    let address = server.addr().to_string();
    let check = Tcp::redis(address.clone());
    assert_eq!(check.check().await, Finding::up());
    let other = Tcp::postgres(address.clone());
    let other = tokio::time::timeout(Duration::from_millis(200), other.check()).await;
    assert!(other.is_err(), "it waits for a PostgreSQL to speak; the monitor bounds that");
    let http = Http::new("http", address, "/health").check().await;
    assert_eq!(http.status, Status::Down);
    server.kill().unwrap();
    assert_eq!(check.check().await.status, Status::Down);
    server.restart().await.unwrap();
    assert_eq!(check.check().await, Finding::up());
    assert_eq!(Tcp::nats("127.0.0.1:1").check().await.status, Status::Down);
    assert_eq!(Tcp::new("any", "127.0.0.1:1").check().await.status, Status::Down);
}

/// Waits until the readiness is as wanted, and fails if that does not come about.
async fn becomes(monitor: &Monitor, wanted: impl Fn(&Readiness) -> bool) {
    let patience = tokio::time::timeout(Duration::from_secs(60), async {
        while !wanted(&monitor.readiness()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(patience.await.is_ok(), "{:?}", monitor.readiness());
}

#[tokio::test]
async fn a_postgres_and_a_nats_are_named_when_killed_or_frozen_and_healthy_again_when_back() {
    let started = tokio::join!(Server::start(Kind::Postgres), Server::start(Kind::Nats));
    let mut servers = [("postgres", started.0.unwrap()), ("nats", started.1.unwrap())];
    let [postgres, nats] = servers.each_ref().map(|(_, server)| server.addr().to_string());
    let checks: Vec<Arc<dyn HealthCheck>> =
        vec![Arc::new(Tcp::postgres(postgres)), Arc::new(Tcp::nats(nats))];
    let options = Options::default().interval(Duration::from_millis(50));
    let shutdown = Shutdown::new();
    let monitor = Monitor::start(options, SystemClock::shared(), checks, &shutdown);
    becomes(&monitor, Readiness::is_ready).await;
    for (name, server) in &mut servers {
        let is_named = |readiness: &Readiness| match readiness {
            Readiness::Unready(why) => why.starts_with(&format!("{name}: ")),
            Readiness::Ready => false,
        };
        server.kill().unwrap();
        becomes(&monitor, is_named).await;
        let others = monitor.report().checks.into_iter().filter(|check| check.name != *name);
        assert!(others.map(|check| check.finding.status).all(|status| status == Status::Up));
        server.restart().await.unwrap();
        becomes(&monitor, Readiness::is_ready).await;
        // It takes connections, and nobody answers: the check hangs, the monitor does not.
        server.freeze().unwrap();
        becomes(&monitor, is_named).await;
        let Readiness::Unready(why) = monitor.readiness() else { panic!("it is frozen") };
        assert_eq!(why, format!("{name}: no answer within 1000 ms"));
        server.thaw().unwrap();
        becomes(&monitor, Readiness::is_ready).await;
    }
    assert_eq!(shutdown.close(Duration::from_secs(5)).await.finished, 2);
}

#[tokio::test]
async fn an_http_server_must_answer_the_status_that_is_expected() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut head = [0; 64];
            let _read = socket.read(&mut head).await.unwrap();
            let _sent = socket.write_all(b"HTTP/1.1 204 None\r\n\r\n").await;
        }
    });
    let check = Http::new("site", address, "/live");
    assert_eq!(check.check().await.detail, "status 204, expected 200");
    assert_eq!(check.status(204).check().await, Finding::up());
    assert_eq!(Http::new("site", "x", "/a b").check().await.status, Status::Down);
}

proptest! {
    #[test]
    fn the_whole_is_as_bad_as_the_worst_part(parts in proptest::collection::vec(0..3_usize, 0..8)) {
        let statuses = [Status::Up, Status::Degraded, Status::Down];
        let check = |status: Status| CheckReport {
            name: "part".to_owned(),
            finding: Finding { status, detail: String::new() },
            age: Duration::ZERO,
            duration: Duration::ZERO,
            failures: 0,
            changes: Vec::new(),
        };
        let worst = parts.iter().max().copied().unwrap_or(0);
        let report = HealthReport::of(parts.iter().map(|part| check(statuses[*part])).collect());
        prop_assert_eq!(report.status, statuses[worst]);
    }
}

#[tokio::test(start_paused = true)]
async fn twenty_checks_of_which_three_hang_three_fail_and_one_panics_are_answered_at_once() {
    let shutdown = Shutdown::new();
    let checks: Vec<(Group, Arc<dyn HealthCheck>)> = (0..20)
        .map(|number| {
            let check: Arc<dyn HealthCheck> = match number {
                0..3 => Arc::new(from_fn("hangs", std::future::pending::<Finding>)),
                3..6 => Arc::new(from_fn("fails", async || Finding::down("broken"))),
                6 => Arc::new(from_fn("panics", async || -> Finding { panic!("as planned") })),
                _ => Arc::new(from_fn("works", async || Finding::up())),
            };
            (Group::Info, check)
        })
        .collect();
    let clock = SystemClock::shared();
    let options = Options::default().timeout(Duration::from_secs(5));
    let monitor = Monitor::start_grouped(options, clock, checks, &shutdown);
    tokio::time::sleep(Duration::from_millis(6_500)).await;
    #[allow(clippy::disallowed_methods, reason = "the answer's own time is real")]
    let begun = std::time::Instant::now();
    let report = (0..100).map(|_| monitor.report()).last().unwrap();
    let each = begun.elapsed() / 100;
    assert!(each < Duration::from_millis(10), "{each:?}");
    let details: Vec<&str> = report.checks.iter().map(|c| c.finding.detail.as_str()).collect();
    assert!(details[..3].iter().all(|detail| *detail == "no answer within 5000 ms"));
    assert!(details[3..6].iter().all(|detail| *detail == "broken"));
    assert_eq!((details[6], details[7]), ("the check panicked", ""));
    assert_eq!(report.checks[0].age, Duration::from_millis(1_500));
    assert_eq!(report.checks[0].duration, Duration::from_secs(5));
    assert_eq!(report.checks[7].age, Duration::from_millis(500));
    assert!(monitor.readiness().is_ready(), "what only informs holds nobody up");
    assert_eq!(shutdown.close(Duration::from_secs(1)).await.finished, 20);
}

#[tokio::test(start_paused = true)]
async fn states_are_published_with_hysteresis_history_and_groups() {
    let broken = Arc::new(AtomicBool::new(false));
    let look = broken.clone();
    let part = from_fn("part", move || {
        let is_broken = look.load(Ordering::SeqCst);
        async move { if is_broken { Finding::down("broken") } else { Finding::up() } }
    });
    let options = Options::default()
        .interval(Duration::from_secs(1))
        .thresholds(Thresholds::default().failures(3).successes(2));
    let shutdown = Shutdown::new();
    let monitor = Monitor::start(options, SystemClock::shared(), vec![Arc::new(part)], &shutdown);
    assert!(!monitor.has_started());
    let status = async || {
        tokio::time::sleep(Duration::from_secs(1)).await;
        monitor.report_of(Group::Ready).status
    };
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(monitor.has_started() && monitor.failure().is_none());
    broken.store(true, Ordering::SeqCst);
    let falling = [status().await, status().await, status().await];
    assert_eq!(falling, [Status::Degraded, Status::Degraded, Status::Down]);
    assert_eq!(monitor.report().checks[0].failures, 3);
    broken.store(false, Ordering::SeqCst);
    assert_eq!([status().await, status().await], [Status::Down, Status::Up]);
    let report = monitor.report();
    let changes: Vec<Status> = report.checks[0].changes.iter().map(|c| c.finding.status).collect();
    assert_eq!(changes, [Status::Up, Status::Down, Status::Degraded, Status::Up]);
    assert_eq!(report.checks[0].changes[1].age, Duration::from_millis(2_500));
    assert!(monitor.has_started());
    monitor.fail("the log is poisoned");
    assert_eq!(monitor.failure().as_deref(), Some("the log is poisoned"));
    assert!(monitor.readiness().is_ready(), "liveness is a state of its own");
}
