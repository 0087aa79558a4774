//! How the log of a process is written, and where else it goes.

use std::sync::Arc;

use infra_core::Clock;

use super::{Format, Lines, Record, Writer, WriterOptions};
use crate::{buffer::Buffer, thrift::Thrift};

/// How the log of a process is written, and where else it goes.
#[derive(Debug, Clone, Default)]
pub struct Options {
    format: Format,
    pub(super) writer: WriterOptions,
    shipped: Option<Buffer<Record>>,
    thrift: Thrift,
}

impl Options {
    /// Sets how an entry is written; flat JSON by default.
    #[must_use]
    pub const fn format(mut self, format: Format) -> Self {
        self.format = format;
        self
    }

    /// Sets how much may wait to be written; 4 MiB by default.
    #[must_use]
    pub const fn writer(mut self, writer: WriterOptions) -> Self {
        self.writer = writer;
        self
    }

    /// Puts a [`Record`] of each entry into a buffer as well, for a collector; by default not.
    ///
    /// What the exporter to the collector itself logs is written, but not shipped.
    #[must_use]
    pub fn ship(mut self, records: Buffer<Record>) -> Self {
        self.shipped = Some(records);
        self
    }

    /// Lets entries below warnings be withheld while the telemetry is over its
    /// [`Budget`](crate::budget::Budget), which it also tells what they cost; never by default.
    #[must_use]
    pub fn thrift(mut self, thrift: Thrift) -> Self {
        self.thrift = thrift;
        self
    }

    pub(super) fn lines(self, clock: Arc<dyn Clock>, writer: Writer) -> Lines<Writer> {
        let Self { format, writer: _, shipped, thrift } = self;
        Lines { format, clock, writer, shipped, thrift }
    }
}

impl From<Format> for Options {
    fn from(format: Format) -> Self {
        Self::default().format(format)
    }
}
