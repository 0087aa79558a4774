//! What measures the process: its exporter, its log, its spans on their way to a collector.

use std::{io::Write, sync::Arc, time::Duration};

use infra_core::{Clock, Result, lifecycle::Shutdown, random::Random};
use infra_observability::{
    exporter::Exporter,
    log::{self, Extra, Levels, Log},
    trace::{Buffer, Finished, Sampler, Spans, otlp},
};

use crate::config::Settings;

/// The spans that wait for the collector; what does not fit is dropped and counted.
const SPANS: usize = 8_192;

/// How long the end waits for the last spans and lines.
const LAST: Duration = Duration::from_secs(2);

/// The instruments of a process. Made from an [`Exporter`] alone they have no log and no spans.
#[derive(Debug)]
pub struct Instruments {
    /// What is counted.
    pub exporter: Exporter,
    log: Option<Log>,
    shipping: Option<Shutdown>,
}

impl From<Exporter> for Instruments {
    fn from(exporter: Exporter) -> Self {
        Self { exporter, log: None, shipping: None }
    }
}

impl Instruments {
    /// Installs recorder and log for the process, and ships spans if the settings name a collector.
    ///
    /// Must be called within a runtime if they do.
    ///
    /// # Errors
    ///
    /// What the log or the recorder fails with: a filter that cannot be read, a second installation.
    pub fn install(
        settings: &Settings,
        clock: Arc<dyn Clock>,
        exporter: Exporter,
        sink: impl Write + Send + 'static,
    ) -> Result<Self> {
        let spans = settings.otlp.as_ref().map(|_| Buffer::new(SPANS));
        let layer = spans.clone().map(|spans| layer(settings, Arc::clone(&clock), spans));
        let log = log::start(&settings.log, log::Format::Json, clock, sink, layer)?;
        exporter.install()?;
        let shipping = spans.zip(settings.otlp.as_ref()).map(|(spans, to)| ship(to, spans));
        Ok(Self { exporter, log: Some(log), shipping })
    }

    /// Returns the levels of the log, if there is one.
    pub fn levels(&self) -> Option<Levels> {
        self.log.as_ref().map(|log| log.levels.clone())
    }

    /// Ships the last spans and writes the last lines, within some seconds.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses what is left.
    pub async fn close(self) {
        if let Some(shipping) = self.shipping {
            shipping.close(LAST * 2).await;
        }
        if let Some(log) = self.log {
            log.writer.flush(LAST);
        }
    }
}

fn layer(settings: &Settings, clock: Arc<dyn Clock>, spans: Buffer<Finished>) -> Extra {
    let sampler = Sampler::share(settings.trace_share);
    Box::new(Spans::new(sampler, clock, Arc::new(Random::from_system()), spans))
}

fn ship(to: &str, spans: Buffer<Finished>) -> Shutdown {
    let options = otlp::Options::new(to, "game-server")
        .attribute("service.version", env!("CARGO_PKG_VERSION"))
        .last(LAST);
    let shipping = Shutdown::new();
    shipping.spawn(otlp::Exporter::new(options, spans).run(shipping.stop()));
    shipping
}
