//! Logs, metrics and health of a realtime service.
//!
//! - [`exporter`]: a recorder for the `metrics` facade that knows every metric's declaration, keeps
//!   real histograms in bounded memory, and renders the Prometheus text format.
//! - [`log`]: one JSON object a line, with the correlation id and trace of the current context.
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

pub mod exporter;
pub mod health;
pub mod log;
