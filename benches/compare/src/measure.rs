//! How two systems are compared: the same work, one after the other, again and again.

use std::time::Instant;

use serde_json::json;

/// How many pairs are measured; on a noisy machine one says nothing.
const PAIRS: usize = 5;

/// A piece of work for two systems. Each side does it once and returns how many operations it did.
pub struct Workload {
    pub name: &'static str,
    pub peer: &'static str,
    pub ours: fn() -> u64,
    pub theirs: fn() -> u64,
}

fn rate(side: fn() -> u64) -> f64 {
    let start = Instant::now();
    let operations = side();
    operations as f64 / start.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Measures a workload and returns a line of JSON.
pub fn compare(workload: &Workload) -> String {
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        let (one, other) = (rate(workload.ours), rate(workload.theirs));
        ours.push(one);
        theirs.push(other);
        ratios.push(one / other);
    }
    json!({
        "workload": workload.name,
        "peer": workload.peer,
        "ours": median(ours),
        "theirs": median(theirs),
        "ratio": median(ratios),
    })
    .to_string()
}

/// Runs a future on both cores.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}
