//! Where the lines of the log go.

use std::io::Write;

use infra_core::Result;
use infra_observability::log;

use crate::config::Settings;

/// Opens what the log is written to: files of a folder, or standard error.
///
/// # Errors
///
/// What the folder or its first file cannot be made for.
pub fn sink(settings: &Settings) -> Result<Box<dyn Write + Send>> {
    match &settings.log_files {
        Some(to) => {
            let files = log::files(&to.folder, "game-server", to.rotation.into(), to.kept)?;
            Ok(Box::new(files))
        }
        None => Ok(Box::new(std::io::stderr())),
    }
}
