//! A process that is killed again and again: the next one finds what it acknowledged, with every strategy.
//!
//! `STATE_KILLS` sets how often; 4 by default.

use std::{env, path::Path, sync::Arc};

use infra_persistence::state::{Action, Durable, Outcome, Target, recover};

use super::{
    children::{Process, run, said, told},
    counter::{Counter, counted},
    places::{Place, stream},
};

/// Counts with all four strategies at once, until it is killed. As a test of its own it has nothing to do.
#[test]
fn child_that_counts() {
    let Some(told) = told() else { return };
    run(async {
        let stores = told.place.open().await;
        let told = Arc::new(told);
        let mut counters = tokio::task::JoinSet::new();
        for (name, options) in stores.strategies() {
            let told = told.clone();
            counters.spawn(async move {
                let (mut counter, _) =
                    Durable::<Counter>::open(stream(name), options).await.unwrap();
                loop {
                    let next = counter.state().count + 1;
                    let outcome = counter.execute(&Action::new("count"), next).await.unwrap();
                    assert!(matches!(outcome, Outcome::Accepted { .. }), "{outcome:?}");
                    told.say(&format!("{name} {next}"));
                }
            });
        }
        counters.join_next().await.unwrap().unwrap();
    });
}

/// The last number that was acknowledged with a strategy.
fn acknowledged(lines: &[String], name: &str) -> u64 {
    let of = |line: &String| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
    lines.iter().rev().find_map(of).unwrap_or(0)
}

fn kill_again_and_again(place: &Place, lines: &Path) {
    let kills = env::var("STATE_KILLS").map_or(4, |kills| kills.parse().unwrap());
    let names = ["event-sourced", "hybrid", "snapshot-only", "versioned"];
    for kill in 1..=kills {
        let before = said(lines);
        let mut child = Process::start("state::kills::child_that_counts", place, lines, "");
        child.wait_until(lines, |lines| {
            let more = |name| acknowledged(&before, name) + 5 <= acknowledged(lines, name);
            names.into_iter().all(more)
        });
        child.kill();
        let lines = said(lines);
        run(async {
            let stores = place.open().await;
            for (name, options) in stores.strategies() {
                let back =
                    recover::<Counter>(&stream(name), &options, Target::Latest).await.unwrap();
                let (last, count) = (acknowledged(&lines, name), back.machine.count);
                assert!((last..=last + 1).contains(&count), "kill {kill}, {name}: {last} {count}");
                assert_eq!(back.machine, counted(count), "kill {kill}, {name}");
                assert_eq!(back.report.broken, None);
            }
            stores.close().await;
        });
    }
    println!("{kills} kills, {} acknowledged", said(lines).len());
}

#[test]
fn what_a_killed_process_acknowledged_on_disk_is_there_in_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::Folder(folder.path().join("stores"));
    kill_again_and_again(&place, &folder.path().join("lines"));
}

#[test]
fn what_a_killed_process_acknowledged_in_postgresql_is_there_in_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    kill_again_and_again(&Place::on_postgres(), &folder.path().join("lines"));
}
