//! Files made from the declared metrics: reference page, dashboards, rules and their tests.
//!
//! A [`Dashboard`] and a set of [`Rules`] are data: titles and queries. [`check`] holds each query
//! against the declarations, so a metric, a label or a label value that is renamed in the code is an
//! error here, and never an empty panel or an alert that cannot fire.
//!
//! ```
//! use infra_core::metric::Counter;
//! use infra_observability::generate::check;
//!
//! const ACTIONS: Counter = Counter::new("infra_game_actions_total", "Actions that were played.");
//!
//! let declared = [ACTIONS.declaration()];
//! assert!(check("rate(infra_game_actions_total[5m])", &declared).is_ok());
//! assert!(check("rate(infra_game_moves_total[5m])", &declared).is_err());
//! ```

mod dashboard;
mod promql;
mod reference;
mod rules;

pub use dashboard::{Dashboard, Panel, Picture, Target};
pub use promql::{Unknown, check};
pub use reference::reference;
pub use rules::{Case, Compare, Prometheus, Recording, Rules};
