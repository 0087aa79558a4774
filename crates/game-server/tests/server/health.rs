//! Health over HTTP: the answer is what the checks found last, and waits for none of them.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use game_server::server::Backends;
use infra_core::{
    Clock as _, SystemClock,
    health::{Finding, HealthCheck},
};
use infra_observability::health::check::from_fn;
use serde_json::Value;

use crate::{
    raw,
    support::{eventually, options, start_changed},
};

const HANGING: [&str; 3] = ["hangs 1", "hangs 2", "hangs 3"];
const FAILING: [&str; 3] = ["fails 1", "fails 2", "fails 3"];
const WORKING: [&str; 14] = [
    "works 1", "works 2", "works 3", "works 4", "works 5", "works 6", "works 7", "works 8",
    "works 9", "works 10", "works 11", "works 12", "works 13", "works 14",
];

/// Adds twenty checks, which count how often they are asked.
fn with_checks(mut backends: Backends, asked: &Arc<AtomicU32>) -> Backends {
    let mut add = |name, answer: Option<Finding>| {
        let asked = Arc::clone(asked);
        let look = move || {
            asked.fetch_add(1, Ordering::SeqCst);
            let answer = answer.clone();
            async move {
                match answer {
                    Some(finding) => finding,
                    None => std::future::pending().await,
                }
            }
        };
        backends.checks.push(Arc::new(from_fn(name, look)) as Arc<dyn HealthCheck>);
    };
    for name in HANGING {
        add(name, None);
    }
    for name in FAILING {
        add(name, Some(Finding::down("broken")));
    }
    for name in WORKING {
        add(name, Some(Finding::up()));
    }
    backends
}

/// Asks so often, each time through a connection of its own; returns the median of the times.
async fn median_of(addr: SocketAddr, path: &str, times: usize) -> Duration {
    let clock = SystemClock::new();
    let mut took = Vec::new();
    for _ in 0..times {
        let begun = clock.now();
        raw::get(addr, path, &[]).await;
        took.push(clock.now().since(begun));
    }
    took.sort_unstable();
    took[times / 2]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_checks_of_which_three_hang_and_three_fail_are_answered_at_once_with_their_ages() {
    let asked = Arc::new(AtomicU32::new(0));
    let change = |backends| with_checks(backends, &asked);
    let host = start_changed(options(), SystemClock::shared(), change).await;
    eventually("every check has spoken", || async {
        !host.get("/health").await.2.contains("not checked yet")
    })
    .await;
    let (clock, before) = (SystemClock::new(), asked.load(Ordering::SeqCst));
    let begun = clock.now();
    let median = median_of(host.server.admin_addr(), "/health", 101).await;
    let passed = clock.now().since(begun);
    let asked = asked.load(Ordering::SeqCst) - before;
    let bare = median_of(host.server.addr(), "/health/live", 101).await;
    println!(
        "median of /health {median:?}, of /health/live {bare:?}; {asked} checks in {passed:?}"
    );
    assert!(median < Duration::from_millis(10).max(bare * 5), "{median:?} against {bare:?}");
    // Each is asked every two seconds, however often somebody asks the server.
    let rounds = passed.as_secs() / 2 + 1;
    assert!(u64::from(asked) <= 20 * rounds, "{asked} in {passed:?}");

    let (status, _, body) = host.get("/health").await;
    assert_eq!(status, 503, "{body}");
    let body: Value = serde_json::from_str(&body).unwrap();
    let check = |name: &str| {
        let found = body["checks"].as_array().unwrap().iter().find(|check| check["name"] == name);
        found.unwrap_or_else(|| panic!("no `{name}` in {body}"))
    };
    for name in HANGING {
        assert_eq!(check(name)["detail"], "no answer within 1000 ms");
        assert!(1_000.0 <= check(name)["duration_ms"].as_f64().unwrap(), "{body}");
    }
    for name in FAILING {
        assert_eq!(check(name)["detail"], "broken");
    }
    for name in WORKING {
        assert_eq!(check(name)["status"], "up");
    }
    for name in HANGING.iter().chain(&FAILING).chain(&WORKING) {
        // Three rounds of two seconds and a second of patience; then a word would be too old.
        assert!(check(name)["age_ms"].as_f64().unwrap() < 9_000.0, "{body}");
    }
    let (_, _, ready) = raw::get(host.server.addr(), "/health/ready", &[]).await;
    assert!(
        ready.contains("not ready") && !ready.contains("hangs"),
        "strangers see no name: {ready}"
    );
}
