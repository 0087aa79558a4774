//! The law of resuming, held against the room server: on pipes in paused time, and on real sockets.

mod broken;
mod browser;
mod bus;
mod clients;
mod site;

use std::time::Duration;

use infra_ws::suite::{Plan, Tally, Violation, run};

use self::{
    broken::{Fault, Spoilt},
    site::{Nodes, REPLAY, Way},
};

/// Returns how many seeds are run: those of the environment for the full run, or a few.
fn seeds(variable: &str, few: u64) -> std::ops::Range<u64> {
    if let Some(seed) = std::env::var("TEST_SEED").ok().and_then(|text| text.parse().ok()) {
        return seed..seed + 1;
    }
    0..std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(few)
}

/// Runs a site in a runtime of its own whose time stands still unless everybody waits.
fn in_paused_time<T>(work: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().start_paused(true).build().unwrap().block_on(work)
}

#[test]
fn whatever_happens_a_viewer_gets_everything_in_order_or_is_told_in_paused_time() {
    let mut sum = Tally::default();
    let seeds = seeds("WS_LAW_SEEDS", 100);
    let count = seeds.end - seeds.start;
    for seed in seeds {
        let run = async {
            let mut site = Nodes::start(Way::Pipe).await;
            let tally = run(seed, &mut site, &Plan::new(REPLAY)).await;
            site.end().await;
            tally
        };
        match in_paused_time(run) {
            Ok(tally) => sum.add(&tally),
            Err(violation) => panic!("{violation} (repeat with TEST_SEED={seed})"),
        }
    }
    say(count, &sum);
    assert!(count < 100 || has_everything(&sum), "{sum:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_a_viewer_gets_everything_in_order_or_is_told_on_real_sockets() {
    let mut sum = Tally::default();
    let seeds = seeds("WS_SOCKET_SEEDS", 5);
    let count = seeds.end - seeds.start;
    for seed in seeds {
        let mut site = Nodes::start(Way::Proxy).await;
        let times = (Duration::from_millis(4), Duration::from_millis(30));
        let plan = Plan::new(REPLAY).times(times.0, times.1);
        match run(seed, &mut site, &plan).await {
            Ok(tally) => sum.add(&tally),
            Err(violation) => panic!("{violation} (repeat with TEST_SEED={seed})"),
        }
        site.end().await;
    }
    say(count, &sum);
    assert!(0 < sum.recovered && 0 < sum.cuts, "{sum:?}");
}

fn say(seeds: u64, sum: &Tally) {
    println!("{seeds} seeds: {sum:?}");
}

/// A run that does not come across something says nothing about it.
const fn has_everything(sum: &Tally) -> bool {
    0 < sum.recovered
        && 0 < sum.epoch_changed
        && 0 < sum.too_old
        && 0 < sum.ahead
        && 0 < sum.told
        && 0 < sum.doubles
        && 0 < sum.ended
        && 0 < sum.kills
}

#[test]
fn every_planted_bug_is_caught_by_the_law() {
    for fault in Fault::ALL {
        let mut other = None;
        let caught = (0..60).any(|seed| {
            let violation: Option<Violation> = in_paused_time(async {
                let mut site = Spoilt::start(fault).await;
                let violation = run(seed, &mut site, &Plan::new(REPLAY)).await.err();
                site.end().await;
                violation
            });
            let is_meant = violation.as_ref().is_some_and(|it| fault.is_meant(&it.breach));
            other = violation.or(other.take());
            is_meant
        });
        assert!(caught, "{fault:?} shows as {other:?}");
    }
}
