//! Logs, metrics, traces, health and live views of a realtime service.
//!
//! - [`exporter`]: a recorder for the `metrics` facade that knows every metric's declaration, keeps
//!   real histograms in bounded memory, and renders the Prometheus text format.
//! - [`log`]: one line an entry, with the correlation id and trace of the current context, through a
//!   writer that never blocks.
//! - [`trace`]: spans with W3C identity, out and in, to a collector.
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
pub mod collect;
pub mod correlation;
pub mod diagram;
pub mod exporter;
pub mod game;
pub mod generate;
pub mod health;
pub mod live;
pub mod log;
pub mod telemetry;
pub mod trace;
pub mod window;

use infra_core::metric::Declaration;

/// The metrics of this crate, without those of the collectors and of a game's [`game::Games`].
pub fn declarations() -> Vec<Declaration> {
    let parts = [
        exporter::METRICS,
        log::METRICS,
        trace::METRICS,
        health::METRICS,
        alert::METRICS,
        live::METRICS,
    ];
    parts.concat()
}
