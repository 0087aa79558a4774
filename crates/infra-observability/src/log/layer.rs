//! The layer that turns events into lines.

use std::{cell::RefCell, io::Write, sync::Arc};

use infra_core::{Clock, context::Context};
use tracing::{
    Event, Subscriber,
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    Layer, fmt::MakeWriter, layer::Context as LayerContext, registry::LookupSpan,
};

use super::{entry::Entry, fields::Fields, format::Format};

/// The longest line that a thread keeps memory for.
const KEPT: usize = 64 * 1024;

thread_local! {
    static LINE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Writes each event as one line, with the fields of its spans and the current context.
///
/// The nearest value of a field wins: the event's, then the inner span's, then the outer span's,
/// then the baggage's. A field called like a secret is written as `[redacted]`; a field called like
/// a part of the entry itself gets a `_` behind its name; texts are cut at 4,096 bytes.
#[derive(Debug)]
pub struct Lines<W> {
    format: Format,
    clock: Arc<dyn Clock>,
    writer: W,
}

impl<W> Lines<W> {
    /// Creates the layer; times come from `clock`.
    pub fn new(format: Format, clock: Arc<dyn Clock>, writer: W) -> Self {
        Self { format, clock, writer }
    }
}

/// The fields of a span, as they are kept beside it.
struct SpanFields(Arc<Fields>);

impl<W: for<'a> MakeWriter<'a> + 'static> Lines<W> {
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

    fn on_record(&self, id: &Id, values: &Record<'_>, ctx: LayerContext<'_, S>) {
        let Some(span) = ctx.span(id) else { return };
        if let Some(SpanFields(fields)) = span.extensions_mut().get_mut::<SpanFields>() {
            let fields: &mut Fields = Arc::make_mut(fields);
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, ctx: LayerContext<'_, S>) {
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
    }
}
