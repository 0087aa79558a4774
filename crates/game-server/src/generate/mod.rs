//! Files made from the options and the metrics that the server declares: what `game-server generate` writes.
//!
//! | file | what it is |
//! |---|---|
//! | `configuration.md` | the reference of every option |
//! | `metrics.md` | the reference of every metric |
//! | `dashboards/*.json` | dashboards that Grafana imports |
//! | `prometheus/rules.yml` | recording and alerting rules |
//! | `prometheus/tests.yml` | tests of them, for `promtool test rules` |

mod alerts;
mod configuration;
mod dashboards;
mod recordings;

use std::{io, path::Path};

use infra_core::metric::Declaration;
use infra_observability::generate::{Dashboard, Rules, Unknown, check, reference};

pub use alerts::ALERTS;
pub use configuration::{Entry, entries};
pub use dashboards::DASHBOARDS;

/// The rules of the server.
pub const RULES: Rules = Rules {
    name: "game-server",
    runbook: "docs/operations.md",
    recordings: recordings::RECORDINGS,
    alerts: ALERTS,
};

/// A file: its path below the folder of the docs, and its text.
pub type File = (String, String);

/// Makes every file.
///
/// # Errors
///
/// A query that names what is not declared.
pub fn files(declared: &[Declaration]) -> Result<Vec<File>, Unknown> {
    let mut queries = DASHBOARDS.iter().flat_map(Dashboard::queries).chain(RULES.queries());
    queries.try_for_each(|query| check(query, declared))?;
    let mut files: Vec<File> = DASHBOARDS
        .iter()
        .map(|board| (format!("dashboards/{}.json", board.name), format!("{:#}\n", board.json())))
        .collect();
    let page = configuration::configuration().unwrap_or_default();
    files.push(("configuration.md".to_owned(), page));
    files.push(("metrics.md".to_owned(), reference(declared)));
    files.push(("prometheus/rules.yml".to_owned(), RULES.yaml()));
    files.push(("prometheus/tests.yml".to_owned(), RULES.tests("rules.yml")));
    Ok(files)
}

/// Writes every file below a folder, and returns how many.
///
/// # Errors
///
/// What the file system fails with.
pub fn write(files: &[File], folder: &Path) -> io::Result<usize> {
    for (path, text) in files {
        let path = folder.join(path);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(path, text)?;
    }
    Ok(files.len())
}
