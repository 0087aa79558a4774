//! Logs: one JSON object a line.

mod json;

pub use json::Json;

use infra_core::{Error, Result};
use tracing_subscriber::{
    EnvFilter, fmt::MakeWriter, layer::SubscriberExt, util::SubscriberInitExt,
};

/// Starts logging for the process: what `filter` admits, as JSON, to standard error.
///
/// # Errors
///
/// [`Invalid`](infra_core::ErrorKind::Invalid) if the filter cannot be read, or if logging was
/// started before.
pub fn start(filter: &str, clock: std::sync::Arc<dyn infra_core::Clock>) -> Result<()> {
    subscriber(filter, clock, std::io::stderr)?
        .try_init()
        .map_err(|cause| Error::invalid("start logging", "it was started before").because(cause))
}

/// Creates a subscriber that writes what `filter` admits to `writer`.
///
/// # Errors
///
/// [`Invalid`](infra_core::ErrorKind::Invalid) if the filter cannot be read.
pub fn subscriber<W>(
    filter: &str,
    clock: std::sync::Arc<dyn infra_core::Clock>,
    writer: W,
) -> Result<impl tracing::Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(filter)
        .map_err(|cause| Error::invalid("read log filter", filter.to_owned()).because(cause))?;
    let lines = tracing_subscriber::fmt::layer().event_format(Json::new(clock)).with_writer(writer);
    Ok(tracing_subscriber::registry().with(filter).with(lines))
}
