//! Logs: one line an entry, as flat JSON, logfmt or text for people, with the current context.

mod entry;
mod fields;
#[cfg(feature = "files")]
mod files;
mod format;
mod layer;
mod levels;
mod options;
mod record;
mod secret;
mod slow;
mod time;
mod writer;

#[cfg(feature = "files")]
pub use files::{Every, files};
pub use format::Format;
pub use layer::Lines;
pub use levels::{Filter, Levels, Raised};
pub use options::Options;
pub use record::Record;
pub use secret::Secret;
pub use slow::{Slow, timed};
pub use time::rfc3339;
pub use writer::{Options as WriterOptions, Writer};

pub(crate) use fields::{Fields, REDACTED, Value, is_secret};

use std::{io::Write, sync::Arc};

use infra_core::{Clock, Error, Result, metric::Declaration};
use tracing::Subscriber;
use tracing_subscriber::{
    Layer, Registry, fmt::MakeWriter, layer::SubscriberExt, util::SubscriberInitExt,
};

/// The metrics of logs.
pub const METRICS: &[Declaration] =
    &[writer::LINES.declaration(), writer::BUFFERED.declaration(), slow::SLOW.declaration()];

/// A layer over the levels of the log, such as one that exports spans.
pub type Extra = Box<dyn Layer<tracing_subscriber::layer::Layered<Filter, Registry>> + Send + Sync>;

/// The log of a process: its levels and its writer.
#[derive(Debug, Clone)]
pub struct Log {
    /// What is written, changeable while it runs.
    pub levels: Levels,
    /// Where it is written, behind a bounded buffer.
    pub writer: Writer,
}

/// Starts logging for the process: what `filter` admits, as `options` say, to `sink`.
///
/// A [`Format`] alone will do for options. A thread writes to `sink`; whoever logs never waits for
/// it. Before the process ends, call [`Writer::flush`]. `extra` layers see what `filter` admits too.
///
/// # Errors
///
/// [`Invalid`](infra_core::ErrorKind::Invalid) if the filter cannot be read, or if logging was
/// started before; [`Unavailable`](infra_core::ErrorKind::Unavailable) if the thread cannot start.
pub fn start(
    filter: &str,
    options: impl Into<Options>,
    clock: Arc<dyn Clock>,
    sink: impl Write + Send + 'static,
    extra: Option<Extra>,
) -> Result<Log> {
    let (admit, levels) = Levels::new(filter, Arc::clone(&clock))?;
    let options = options.into();
    let writer = Writer::start(options.writer, sink)?;
    let lines = options.lines(clock, writer.clone());
    Registry::default()
        .with(admit)
        .with(extra)
        .with(lines)
        .try_init()
        .map_err(|cause| Error::invalid("start logging", "it was started before").because(cause))?;
    Ok(Log { levels, writer })
}

/// Creates a subscriber that writes what `filter` admits to `writer`, as JSON.
///
/// # Errors
///
/// [`Invalid`](infra_core::ErrorKind::Invalid) if the filter cannot be read.
pub fn subscriber<W>(
    filter: &str,
    clock: Arc<dyn Clock>,
    writer: W,
) -> Result<impl Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let (admit, _levels) = Levels::new(filter, Arc::clone(&clock))?;
    Ok(Registry::default().with(admit).with(Lines::new(Format::Json, clock, writer)))
}
