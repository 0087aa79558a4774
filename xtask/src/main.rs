//! The project's own commands, for anybody with cargo: `cargo xtask --help`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command talks to its user")]

mod args;
mod behaviours;
mod bench;
mod ci;
mod coverage;
mod game;
mod layers;
mod metadata;
mod pictures;
mod rustc;
mod services;
mod shell;
mod tools;

use std::process::ExitCode;

const HELP: &str = "\
Usage: cargo xtask COMMAND [OPTIONS]

Commands:
  ci          everything that must hold before a change lands
  coverage    the tests, instrumented, and each crate's share of covered lines against its gate
  layers      the dependency rule of the workspace
  behaviours  docs/behaviours.toml against the tests that ran last
  services    real servers for tests: up, down, status
  crash       kills a playing server at random moments and audits what it acknowledged
  bench       our figures and those of others on the same work, against their goals
  load        plays many rooms at a fixed pace and measures latencies
  capacity    fills a server with finished games and rooms and tells its times and sizes
  faults      breaks what a playing server stands on, and audits what became of the games
  roll        restarts a playing server, the next process while the last one ends

Each command has its own --help.";

fn main() -> ExitCode {
    if let Some(code) = rustc::as_wrapper() {
        return code;
    }
    let mut words = std::env::args().skip(1);
    let command = words.next().unwrap_or_default();
    let rest: Vec<String> = words.collect();
    let done = match command.as_str() {
        "ci" => ci::run(&rest),
        "coverage" => coverage::run(&rest),
        "bench" => bench::run(&rest),
        "layers" => layers::run(&rest),
        "behaviours" => behaviours::run(&rest),
        "services" => services::run(&rest),
        "crash" => game::run("crash", &rest),
        program @ ("load" | "capacity" | "faults" | "roll") => game::run(program, &rest),
        "" | "--help" | "-h" | "help" => {
            println!("{HELP}");
            Ok(())
        }
        unknown => Err(format!("there is no command `{unknown}`\n\n{HELP}")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
