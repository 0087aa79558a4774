//! What the tests share.

use std::{
    io::Write,
    sync::{Arc, Mutex},
};

use infra_core::metric::{Label, LabelSet};
use infra_observability::{diagram::Machine, exporter::Exporter};
use infra_testkit::clock::ManualClock;
use tracing_subscriber::fmt::MakeWriter;

/// The phases of a game.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    Waiting,
    Preparation,
    Declaration,
    Turn,
    #[expect(dead_code, reason = "a phase of the machine that no test enters")]
    Scoring,
    #[expect(dead_code, reason = "a phase of the machine that no test enters")]
    Over,
}

const PHASES: [&str; 6] = ["waiting", "preparation", "declaration", "turn", "scoring", "game_over"];

impl Label for Phase {
    const SET: LabelSet = LabelSet { name: "phase", values: &PHASES };

    fn value(self) -> &'static str {
        PHASES[self as usize]
    }
}

/// The machine of the game: six states, seven ways.
pub const MACHINE: Machine = Machine {
    name: "room",
    states: &PHASES,
    ways: &[
        ("waiting", "preparation"),
        ("preparation", "declaration"),
        ("declaration", "turn"),
        ("turn", "turn"),
        ("turn", "scoring"),
        ("scoring", "preparation"),
        ("scoring", "game_over"),
    ],
};

pub fn clock() -> (ManualClock, Arc<dyn infra_core::Clock>) {
    let clock = ManualClock::new();
    (clock.clone(), Arc::new(clock))
}

/// Lines as they were written.
#[derive(Debug, Clone, Default)]
pub struct Lines(pub Arc<Mutex<Vec<u8>>>);

impl Lines {
    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    pub fn json(&self) -> Vec<serde_json::Value> {
        self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Write for Lines {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(buf)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// Returns the value of a sample line, such as `a_total{x="y"}`.
pub fn sample(exporter: &Exporter, series: &str) -> Option<f64> {
    let page = exporter.render();
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map(|value| value.parse().unwrap())
}
