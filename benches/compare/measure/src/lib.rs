//! How systems are compared: the same work, one after the other, again and again, in one run.
//!
//! A package of `benches/compare` is one component beside what a user would pick instead. Its `main`
//! hands a list of workloads to [`main`], which prints one line of JSON for each peer of each workload:
//! the median of both sides and of their ratios over interleaved rounds. `cargo xtask bench` reads them.

pub mod held;

use std::{process::ExitCode, time::Instant};

use serde_json::json;

/// How often each side does its work; on a noisy machine once says nothing.
const ROUNDS: usize = 5;

/// One side's work, done once; it returns the figure in the workload's unit.
pub type Side = Box<dyn Fn() -> f64>;

/// Whether a larger figure is the better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// Rates, hit ratios.
    Higher,
    /// Times, bytes.
    Lower,
}

/// A piece of work for our side and for any number of peers.
pub struct Workload {
    name: &'static str,
    unit: &'static str,
    better: Better,
    rounds: usize,
    ours: Side,
    peers: Vec<(&'static str, Side)>,
}

impl Workload {
    /// Creates a workload whose sides return how many operations they did; what is compared is the
    /// rate, in operations per second.
    pub fn rate(name: &'static str, ours: impl Fn() -> u64 + 'static) -> Self {
        Self::figure(name, "/s", Better::Higher, rated(ours))
    }

    /// Creates a workload whose sides return a figure that they measured themselves.
    pub fn figure(
        name: &'static str,
        unit: &'static str,
        better: Better,
        ours: impl Fn() -> f64 + 'static,
    ) -> Self {
        Self { name, unit, better, rounds: ROUNDS, ours: Box::new(ours), peers: Vec::new() }
    }

    /// Adds a peer whose side returns how many operations it did.
    #[must_use]
    pub fn against(self, peer: &'static str, side: impl Fn() -> u64 + 'static) -> Self {
        self.beside(peer, rated(side))
    }

    /// Adds a peer whose side returns a figure that it measured itself.
    #[must_use]
    pub fn beside(mut self, peer: &'static str, side: impl Fn() -> f64 + 'static) -> Self {
        self.peers.push((peer, Box::new(side)));
        self
    }

    /// Sets how often each side does its work, instead of five times.
    #[must_use]
    pub fn rounds(mut self, rounds: usize) -> Self {
        self.rounds = rounds.max(1);
        self
    }

    /// Measures all sides, interleaved, and returns a line of JSON for each peer, or one without a
    /// peer where there is none. A ratio above one is in our favour, whatever the unit.
    fn measure(&self) -> Vec<String> {
        let mut ours = Vec::new();
        let mut theirs = vec![Vec::new(); self.peers.len()];
        for _ in 0..self.rounds {
            ours.push((self.ours)());
            for (figures, (_, side)) in theirs.iter_mut().zip(&self.peers) {
                figures.push(side());
            }
        }
        let line = |peer: Option<&str>, theirs: Option<&[f64]>| {
            let ratios = theirs.map(|theirs| median(self.ratios(&ours, theirs)));
            json!({
                "workload": self.name,
                "unit": self.unit,
                "lower_is_better": self.better == Better::Lower,
                "peer": peer,
                "ours": median(ours.clone()),
                "theirs": theirs.map(|theirs| median(theirs.to_vec())),
                "ratio": ratios,
            })
            .to_string()
        };
        if self.peers.is_empty() {
            return vec![line(None, None)];
        }
        self.peers
            .iter()
            .zip(&theirs)
            .map(|((peer, _), theirs)| line(Some(peer), Some(theirs)))
            .collect()
    }

    fn ratios(&self, ours: &[f64], theirs: &[f64]) -> Vec<f64> {
        let ratio = |(ours, theirs): (&f64, &f64)| match self.better {
            Better::Higher => ours / theirs,
            Better::Lower => theirs / ours,
        };
        ours.iter().zip(theirs).map(ratio).collect()
    }
}

fn rated(side: impl Fn() -> u64 + 'static) -> impl Fn() -> f64 {
    move || {
        let start = Instant::now();
        let operations = side();
        operations as f64 / start.elapsed().as_secs_f64()
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Measures the workloads that the arguments name, or all, and prints their lines.
pub fn main(workloads: Vec<Workload>) -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    if let Some(unknown) =
        wanted.iter().find(|name| !workloads.iter().any(|workload| workload.name == **name))
    {
        let names: Vec<_> = workloads.iter().map(|workload| workload.name).collect();
        eprintln!("there is no workload `{unknown}`; there are {}", names.join(", "));
        return ExitCode::from(2);
    }
    let is_wanted =
        |workload: &Workload| wanted.is_empty() || wanted.iter().any(|name| name == workload.name);
    // What a workload holds in memory goes with it.
    for workload in workloads.into_iter().filter(is_wanted) {
        workload.measure().iter().for_each(|line| println!("{line}"));
    }
    ExitCode::SUCCESS
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
