//! Log files that begin anew each hour or day, of which the newest are kept.

use std::{io::Write, path::Path};

use infra_core::{Error, ErrorKind, Result};
use tracing_appender::rolling::{RollingFileAppender, Rotation};

/// When a new file begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Every {
    /// At each full minute, UTC.
    Minute,
    /// At each full hour, UTC.
    Hour,
    /// At each midnight, UTC.
    Day,
}

/// Opens log files `NAME.DATE.log` in a folder, of which the newest `kept` stay.
///
/// What it returns is a sink for [`Writer::start`](super::Writer::start).
///
/// # Errors
///
/// [`Unavailable`](infra_core::ErrorKind::Unavailable) if the folder or file cannot be made.
pub fn files(
    folder: &Path,
    name: &str,
    every: Every,
    kept: usize,
) -> Result<impl Write + Send + 'static + use<>> {
    let rotation = match every {
        Every::Minute => Rotation::MINUTELY,
        Every::Hour => Rotation::HOURLY,
        Every::Day => Rotation::DAILY,
    };
    let unavailable = || Error::new(ErrorKind::Unavailable, "open log file");
    // Else the appender complains that it finds no old files in a folder that it makes only then.
    std::fs::create_dir_all(folder).map_err(|cause| unavailable().because(cause))?;
    RollingFileAppender::builder()
        .rotation(rotation)
        .filename_prefix(name)
        .filename_suffix("log")
        .max_log_files(kept)
        .build(folder)
        .map_err(|cause| unavailable().because(cause))
}
