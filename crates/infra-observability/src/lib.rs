//! Logs, metrics, traces, health and live views of a realtime service.
//!
//! - [`exporter`]: a recorder for the `metrics` facade that knows every metric's declaration, keeps
//!   real histograms in bounded memory, and renders the Prometheus text format.
//! - [`log`]: one line an entry, with the correlation id and trace of the current context, through a
//!   writer that never blocks.
//! - [`trace`]: spans with W3C identity, out and in.
//! - `otlp` (feature of that name): spans and log records to a collector.
//! - [`budget`]: what all of it may hold and cost, and what is given up first.
//! - [`generate`]: reference, dashboards and rules from the declarations.
//! - [`health`]: checks that run in the background, so that an answer never waits for them.
//!
//! ```
//! use infra_core::metric::Counter;
//! use infra_observability::exporter::Exporter;
//!
//! const ACTIONS: Counter = Counter::new("infra_game_actions_total", "Actions that were played.");
//!
//! let exporter = Exporter::new(&[ACTIONS.declaration()]);
//! metrics::with_local_recorder(&exporter, || ACTIONS.add(2));
//! assert!(exporter.render().contains("infra_game_actions_total 2\n"));
//! ```

pub mod alert;
pub mod budget;
pub mod buffer;
pub mod collect;
pub mod correlation;
pub mod diagram;
pub mod exporter;
pub mod game;
pub mod generate;
pub mod health;
pub mod live;
pub mod log;
#[cfg(feature = "otlp")]
pub mod otlp;
pub mod telemetry;
mod thrift;
pub mod trace;
pub mod window;

use infra_core::metric::Declaration;

/// The metrics of this crate, without those of the collectors and of a game's [`game::Games`].
pub fn declarations() -> Vec<Declaration> {
    let parts = [
        exporter::METRICS,
        log::METRICS,
        buffer::METRICS,
        budget::METRICS,
        health::METRICS,
        alert::METRICS,
        live::METRICS,
    ];
    parts.concat()
}
