//! What measures the process: its exporter, its log, its spans on their way to a collector.

use std::{io::Write, sync::Arc, time::Duration};

use infra_core::{Clock, Result, lifecycle::Shutdown, random::Random};
use infra_observability::{
    budget::{self, Budget, Part, Thrift},
    buffer::Buffer,
    exporter::Exporter,
    log::{self, Extra, Levels, Log, Record},
    otlp,
    trace::{Finished, Sampler, Spans},
};

use crate::config::Settings;

/// The most spans, and the most log records, that wait for a collector; what does not fit is
/// dropped and counted.
const WAITING: usize = 8_192;

/// The most bytes of spans that wait.
const SPAN_BYTES: usize = 8 << 20;

/// The most bytes of log records that wait.
const RECORD_BYTES: usize = 4 << 20;

/// The bytes that all telemetry may hold before some of it is withheld: a collector that is gone
/// does not reach it alone, only together with a log that cannot be written either.
const MEMORY: usize = 16 << 20;

/// The processors that all telemetry may keep busy before some of it is withheld.
const PROCESSORS: f64 = 1.0;

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
    /// Installs recorder and log for the process, and ships spans and log records if the settings
    /// name a collector; all of it within one budget.
    ///
    /// Must be called within a runtime.
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
        let thrift = exporter.thrift();
        let spans = settings.otlp.as_ref().map(|_| Buffer::within(WAITING, SPAN_BYTES));
        let records = settings.otlp_logs.as_ref().map(|_| Buffer::within(WAITING, RECORD_BYTES));
        let layer = spans.clone().map(|spans| layer(settings, Arc::clone(&clock), spans, &thrift));
        let options = log_options(settings, records.clone(), thrift.clone());
        let log = log::start(&settings.log, options, Arc::clone(&clock), sink, layer)?;
        exporter.install()?;
        let shipping = Shutdown::new();
        if let (Some(spans), Some(to)) = (&spans, &settings.otlp) {
            ship(to, spans.clone(), (&thrift, &clock), &shipping);
        }
        if let (Some(records), Some(to)) = (&records, &settings.otlp_logs) {
            ship(to, records.clone(), (&thrift, &clock), &shipping);
        }
        let (lines, options) = (log.writer.clone(), budget::Options::default());
        let options = options.memory(MEMORY).processors(PROCESSORS);
        let mut budget =
            Budget::new(options, thrift, clock).part(Part::Lines, move || lines.waiting());
        if let Some(spans) = spans {
            budget = budget.part(Part::Spans, move || spans.bytes());
        }
        if let Some(records) = records {
            budget = budget.part(Part::Records, move || records.bytes());
        }
        shipping.spawn(budget.run(shipping.stop()));
        Ok(Self { exporter, log: Some(log), shipping: Some(shipping) })
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

fn log_options(
    settings: &Settings,
    records: Option<Buffer<Record>>,
    thrift: Thrift,
) -> log::Options {
    let options = log::Options::default().format(settings.log_format.into()).thrift(thrift);
    match records {
        Some(records) => options.ship(records),
        None => options,
    }
}

fn layer(
    settings: &Settings,
    clock: Arc<dyn Clock>,
    spans: Buffer<Finished>,
    thrift: &Thrift,
) -> Extra {
    let (sampler, random) = (Sampler::share(settings.trace_share), Arc::new(Random::from_system()));
    Box::new(Spans::new(sampler, clock, random, spans).thrift(thrift.clone()))
}

/// Sends what comes into a buffer to a collector.
fn ship<T: otlp::Encode>(
    to: &str,
    items: Buffer<T>,
    (thrift, clock): (&Thrift, &Arc<dyn Clock>),
    shipping: &Shutdown,
) {
    let options = otlp::Options::new(to, "game-server")
        .attribute("service.version", env!("CARGO_PKG_VERSION"))
        .last(LAST);
    let exporter = otlp::Exporter::new(options, items).thrift(thrift.clone(), Arc::clone(clock));
    shipping.spawn(exporter.run(shipping.stop()));
}
