//! A small seeded discrete-event simulator of clients, a limiter and a backend; it compares limit
//! rules and budgets of retries.
//!
//! The simulator itself is held against the formulas of M/M/c queues. Scenarios and seeds are in
//! `scenario.rs`, and were there before any rule was tuned.

#![allow(
    unreachable_pub,
    clippy::needless_pass_by_value,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::print_stdout,
    clippy::allow_attributes,
    reason = "a panic is how a test fails, and figures are printed"
)]

mod engine;
mod scenario;

use std::sync::Arc;

use infra_core::clock::Instant;
use infra_resilience::{
    RetryBudget,
    shed::{Aimd, Gradient2, Rule, Sampler, Windows},
};
use infra_testkit::clock::ManualClock;

use engine::{Limit, Retries, Run, Simulation};
use scenario::{DEADLINE, FIXED, SEEDS, Scenario, brown_out, stalls, step_overload, storm};

/// The mean wait of an M/M/c queue, by Erlang's C formula.
fn erlang_wait(servers: u32, load: f64, service: f64) -> f64 {
    let offered = load * f64::from(servers);
    let mut term = 1.0;
    let mut sum = 1.0;
    for k in 1..servers {
        term *= offered / f64::from(k);
        sum += term;
    }
    let last = term * offered / f64::from(servers) / (1.0 - load);
    let waits = last / (sum + last);
    waits * service / (f64::from(servers) * (1.0 - load))
}

#[test]
fn the_simulator_agrees_with_the_formulas_of_queues() {
    for (servers, load) in [(1, 0.5), (1, 0.8), (4, 0.7), (10, 0.6), (10, 0.8)] {
        let service = 0.05;
        let rate = load * f64::from(servers) / service;
        let scenario = Scenario::steady(servers as usize, service, rate, 60_000.0 / rate);
        let mut waits = 0.0;
        for seed in SEEDS {
            let run = Simulation::new(&scenario, seed).run(Limit::None, Retries::none());
            waits += run.mean_wait / SEEDS.len() as f64;
            let utilisation = run.busy / (f64::from(servers) * run.length);
            assert!((utilisation - load).abs() < 0.03, "M/M/{servers} at {load}: {utilisation}");
        }
        let expected = erlang_wait(servers, load, service);
        let error = (waits - expected).abs() / expected;
        println!("M/M/{servers} at {load}: wait {waits:.5} s, formula {expected:.5} s");
        assert!(error < 0.10, "M/M/{servers} at {load}: {waits} for {expected}");
    }
}

fn adaptive(rule: impl Rule + 'static) -> Limit {
    let sampler = Sampler::new(Windows::default(), Instant::START);
    let in_flight = rule.initial();
    Limit::Adaptive { rule: Box::new(rule), sampler, limit: in_flight }
}

fn gradient() -> Limit {
    adaptive(Gradient2::new().limits(20, 5, 200))
}

fn aimd() -> Limit {
    adaptive(Aimd::new(std::time::Duration::from_secs_f64(DEADLINE / 2.0)).limits(20, 5, 200))
}

fn run(scenario: &Scenario, seed: u64, limit: Limit) -> Run {
    Simulation::new(scenario, seed).run(limit, Retries::none())
}

/// Returns the goodput of the best fixed limit, chosen afterwards.
fn best_fixed(scenario: &Scenario, seed: u64) -> (usize, u64) {
    let runs = FIXED.map(|limit| (limit, run(scenario, seed, Limit::Fixed(limit)).goodput()));
    runs.into_iter().max_by_key(|(_, goodput)| *goodput).unwrap()
}

fn check(name: &str, scenario: &Scenario, limit: fn() -> Limit, rule: &str) {
    for seed in SEEDS {
        let (best, most) = best_fixed(scenario, seed);
        let found = run(scenario, seed, limit());
        let share = found.goodput() as f64 / most as f64;
        let recovery = found.recovery(scenario.incident_end);
        println!(
            "{name}, {rule}, seed {seed}: {:.1} % of the best fixed limit ({best}), recovery {recovery:?} s",
            share * 100.0
        );
        assert!(0.90 <= share, "{name}, {rule}, seed {seed}: {share}");
        // A window is a second.
        assert!(recovery.is_some_and(|windows| windows <= 10), "{name}, {rule}: {recovery:?}");
    }
}

#[test]
fn gradient2_with_probes_nears_the_best_fixed_limit_in_a_step_overload() {
    check("step overload", &step_overload(), gradient, "gradient2");
}

#[test]
fn gradient2_with_probes_nears_the_best_fixed_limit_in_a_brown_out() {
    check("brown-out", &brown_out(), gradient, "gradient2");
}

#[test]
fn gradient2_with_probes_nears_the_best_fixed_limit_with_stalls() {
    check("stalls", &stalls(), gradient, "gradient2");
}

#[test]
fn aimd_nears_the_best_fixed_limit_in_a_step_overload_and_a_brown_out() {
    check("step overload", &step_overload(), aimd, "aimd");
    check("brown-out", &brown_out(), aimd, "aimd");
}

#[test]
fn a_retry_storm_ends_by_itself_with_the_budget_and_not_without() {
    let scenario = storm();
    for seed in SEEDS {
        let end = |retries| {
            let run = Simulation::new(&scenario, seed).run(Limit::None, retries);
            run.share_of_the_last(10)
        };
        let clock = ManualClock::new();
        let budget = RetryBudget::new(Arc::new(clock.clone())).share(0.1).trickle(1).cap(100);
        let with = end(Retries { most: 5, budget: Some((budget, clock)) });
        let without = end(Retries { most: 5, budget: None });
        println!(
            "retry storm, seed {seed}: at the end {with:.2} with the budget, {without:.2} without"
        );
        assert!(0.95 <= with, "seed {seed}: {with}");
        assert!(without < 0.5, "seed {seed}: {without}");
    }
}
