//! The layer that turns events into lines.

use std::{
    cell::{Cell, RefCell},
    io::Write,
    sync::Arc,
    time::Duration,
};

use infra_core::{Clock, context::Context};
use tracing::{
    Event, Level, Subscriber,
    span::{Attributes, Id, Record as Recorded},
};
use tracing_subscriber::{
    Layer, fmt::MakeWriter, layer::Context as LayerContext, registry::LookupSpan,
};

use super::{entry::Entry, fields::Fields, format::Format, record::Record};
use crate::{
    buffer::{Buffer, is_shipping},
    thrift::{Thrift, Withheld},
};

/// The longest line that a thread keeps memory for.
const KEPT: usize = 64 * 1024;

/// Of how many entries of a thread the time of one is measured, for all of them.
const MEASURED: u32 = 64;

/// The longest that an entry counts for; one that took longer was interrupted.
const LONGEST: Duration = Duration::from_micros(100);

thread_local! {
    static ENTRIES: Cell<u32> = const { Cell::new(0) };
    static LINE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Writes each event as one line, with the fields of its spans and the current context.
///
/// The nearest value of a field wins: the event's, then the inner span's, then the outer span's,
/// then the baggage's. A field called like a secret is written as `[redacted]`; a field called like
/// a part of the entry itself gets a `_` behind its name; texts are cut at 4,096 bytes.
#[derive(Debug)]
pub struct Lines<W> {
    pub(super) format: Format,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) writer: W,
    pub(super) shipped: Option<Buffer<Record>>,
    pub(super) thrift: Thrift,
}

impl<W> Lines<W> {
    /// Creates the layer; times come from `clock`.
    pub fn new(format: Format, clock: Arc<dyn Clock>, writer: W) -> Self {
        Self { format, clock, writer, shipped: None, thrift: Thrift::default() }
    }

    /// Puts a [`Record`] of each entry into a buffer as well, for a collector; by default not.
    ///
    /// What the exporter to the collector itself logs is written, but not shipped.
    #[must_use]
    pub fn ship(mut self, records: Buffer<Record>) -> Self {
        self.shipped = Some(records);
        self
    }

    /// Lets entries below warnings be withheld while the telemetry is over its budget, which it also
    /// tells what they cost; never by default.
    #[must_use]
    pub fn thrift(mut self, thrift: Thrift) -> Self {
        self.thrift = thrift;
        self
    }
}

/// The fields of a span, as they are kept beside it.
struct SpanFields(Arc<Fields>);

impl<W: for<'a> MakeWriter<'a> + 'static> Lines<W> {
    fn tell<S>(&self, event: &Event<'_>, ctx: &LayerContext<'_, S>)
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let (mut spans, mut outer) = (Vec::new(), Vec::new());
        for span in ctx.event_scope(event).into_iter().flatten() {
            spans.push(span.name());
            if let Some(SpanFields(fields)) = span.extensions().get::<SpanFields>() {
                outer.push(Arc::clone(fields));
            }
        }
        spans.reverse();
        let context = Context::current();
        let mut entry = Entry {
            time: self.clock.wall(),
            level: *event.metadata().level(),
            target: event.metadata().target(),
            message: &fields.message,
            context: &context,
            spans,
            fields: Vec::new(),
        };
        entry.put(&fields);
        for fields in &outer {
            entry.put(fields);
        }
        entry.put_baggage();
        self.write(&entry);
        if let Some(shipped) = self.shipped.as_ref().filter(|_| !is_shipping()) {
            // A record without room is counted by the buffer.
            shipped.put(Record::of(&entry));
        }
    }

    fn write(&self, entry: &Entry<'_>) {
        LINE.with(|line| {
            // Taken by an entry that is being written: the writer itself logs.
            let Ok(mut line) = line.try_borrow_mut() else { return };
            line.clear();
            self.format.write(entry, &mut line);
            // Whom should a log tell that it cannot be written? The bounded writer counts.
            let _told = self.writer.make_writer().write_all(line.as_bytes()).is_ok();
            if KEPT < line.capacity() {
                *line = String::new();
            }
        });
    }
}

impl<S, W> Layer<S> for Lines<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + 'static,
{
    fn on_new_span(&self, attrs: &Attributes<'_>, id: &Id, ctx: LayerContext<'_, S>) {
        let Some(span) = ctx.span(id) else { return };
        let mut fields = Fields::default();
        attrs.record(&mut fields);
        span.extensions_mut().insert(SpanFields(Arc::new(fields)));
    }

    fn on_record(&self, id: &Id, values: &Recorded<'_>, ctx: LayerContext<'_, S>) {
        let Some(span) = ctx.span(id) else { return };
        if let Some(SpanFields(fields)) = span.extensions_mut().get_mut::<SpanFields>() {
            let fields: &mut Fields = Arc::make_mut(fields);
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, ctx: LayerContext<'_, S>) {
        if Level::WARN < *event.metadata().level() && self.thrift.withholds(Withheld::Logs) {
            return;
        }
        let place = ENTRIES.with(|entries| entries.replace(entries.get().wrapping_add(1)));
        if !place.is_multiple_of(MEASURED) {
            return self.tell(event, &ctx);
        }
        let begun = self.clock.now();
        self.tell(event, &ctx);
        self.thrift.spend(self.clock.now().since(begun).min(LONGEST) * MEASURED);
    }
}
