//! The infra crates and what a user would pick instead, on the same work in one run.
//!
//! `compare [WORKLOAD ...]` prints a line of JSON for each workload: operations per second of both,
//! and their ratio, as the median of five interleaved pairs. `cargo xtask bench` reads them.

mod cache;
mod documents;
mod events;
mod limits;
mod measure;
mod queue;

use measure::Workload;

fn main() {
    let workloads: Vec<Workload> =
        [events::workloads(), documents::workloads(), cache::workloads(), limits::workloads(), queue::workloads()]
            .into_iter()
            .flatten()
            .collect();
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    for name in &wanted {
        if !workloads.iter().any(|workload| workload.name == name) {
            let names: Vec<_> = workloads.iter().map(|workload| workload.name).collect();
            eprintln!("there is no workload `{name}`; there are {}", names.join(", "));
            std::process::exit(2);
        }
    }
    for workload in workloads {
        if wanted.is_empty() || wanted.iter().any(|name| name == workload.name) {
            println!("{}", measure::compare(&workload));
        }
    }
}
