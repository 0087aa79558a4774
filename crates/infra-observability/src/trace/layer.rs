//! The layer that gives spans their identity and records them when they end.

use std::sync::Arc;

use infra_core::{
    Clock,
    clock::{Instant, Timestamp},
    context::Context,
    random::Random,
    trace::TraceContext,
};
use tracing::{
    Subscriber,
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{Layer, layer::Context as LayerContext, registry::LookupSpan};

use super::{
    sampler::Sampler,
    span::{Attribute, Event, Finished, Kind, Status},
};
use crate::{
    buffer::Buffer,
    log::{Fields, Value},
    thrift::{Thrift, Withheld},
};

/// The most events of a span.
const MAX_EVENTS: usize = 128;

/// The most links of a span.
const MAX_LINKS: usize = 32;

/// A span that has not ended, as it is kept beside it.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) context: TraceContext,
    pub(super) parent: Option<u64>,
    pub(super) begun: Instant,
    pub(super) start: Timestamp,
    pub(super) fields: Fields,
    pub(super) events: Vec<Event>,
    pub(super) links: Vec<TraceContext>,
    pub(super) status: Status,
    pub(super) clock: Arc<dyn Clock>,
}

impl Open {
    /// Adds an event that happens now.
    pub(super) fn event(&mut self, name: String, attributes: Vec<Attribute>) {
        if self.events.len() < MAX_EVENTS {
            let after = self.clock.now().since(self.begun);
            self.events.push(Event { name, after, attributes });
        }
    }

    pub(super) fn link(&mut self, context: TraceContext) {
        if self.links.len() < MAX_LINKS {
            self.links.push(context);
        }
    }

    fn finish(self, name: &str) -> Finished {
        let take = |wanted: &str| {
            let found = self.fields.named.iter().find(|(name, _)| *name == wanted);
            found.and_then(|(_, value)| match value {
                Value::Text(text) => Some(text.clone()),
                Value::Signed(_) | Value::Unsigned(_) | Value::Float(_) | Value::Flag(_) => None,
            })
        };
        let kind = match take("otel.kind").as_deref() {
            Some("server") => Kind::Server,
            Some("client") => Kind::Client,
            Some("producer") => Kind::Producer,
            Some("consumer") => Kind::Consumer,
            _ => Kind::Internal,
        };
        Finished {
            name: take("otel.name").unwrap_or_else(|| name.to_owned()),
            context: self.context,
            parent: self.parent,
            kind,
            start: self.start,
            duration: self.clock.now().since(self.begun),
            attributes: attributes(&self.fields),
            events: self.events,
            links: self.links,
            status: self.status,
        }
    }
}

/// Returns the fields as attributes, without those that steer.
fn attributes(fields: &Fields) -> Vec<Attribute> {
    let own = fields.named.iter().filter(|(name, _)| !name.starts_with("otel."));
    own.map(|(name, value)| Attribute { name: (*name).to_owned(), value: value.clone() }).collect()
}

/// Gives each span its place in a trace and puts the sampled ones into a [`Buffer`] as they end.
///
/// The parent of a span is the context's trace, if that was scoped within the enclosing span (as by
/// a message that came in); else the enclosing span. A span without either begins a trace, and the
/// sampler decides for all of it; so does one that is declared a root (`parent: None`), wherever it
/// is made.
///
/// The fields `otel.name` and `otel.kind` (`server`, `client`, `producer`, `consumer`) name the span
/// and its part. Events within a span become its events, whatever their level is.
#[derive(Debug)]
pub struct Spans {
    sampler: Sampler,
    clock: Arc<dyn Clock>,
    random: Arc<Random>,
    buffer: Buffer<Finished>,
    thrift: Thrift,
}

impl Spans {
    /// Creates the layer; ids come from `random`, times from `clock`.
    pub fn new(
        sampler: Sampler,
        clock: Arc<dyn Clock>,
        random: Arc<Random>,
        buffer: Buffer<Finished>,
    ) -> Self {
        Self { sampler, clock, random, buffer, thrift: Thrift::default() }
    }

    /// Lets traces be withheld that begin here, while the telemetry is over its budget; never by
    /// default. What came in with a trace keeps the decision of whoever began it.
    #[must_use]
    pub fn thrift(mut self, thrift: Thrift) -> Self {
        self.thrift = thrift;
        self
    }

    /// Returns the context of a new span and the id of its parent.
    fn place<S: Subscriber + for<'a> LookupSpan<'a>>(
        &self,
        attrs: &Attributes<'_>,
        ctx: &LayerContext<'_, S>,
    ) -> (TraceContext, Option<u64>) {
        if attrs.is_root() {
            return (self.root(), None);
        }
        let enclosing = match attrs.parent() {
            Some(id) => ctx.span(id),
            None if attrs.is_contextual() => ctx.lookup_current(),
            None => None,
        };
        let scope = enclosing.into_iter().flat_map(|span| span.scope());
        let scope: Vec<TraceContext> = scope
            .filter_map(|span| span.extensions().get::<Open>().map(|open| open.context))
            .collect();
        let scoped = Context::current_trace().filter(|trace| !scope.contains(trace));
        match scoped.or_else(|| scope.first().copied()) {
            Some(parent) => (parent.child(&self.random), Some(parent.span_id())),
            None => (self.root(), None),
        }
    }

    /// Begins a trace.
    fn root(&self) -> TraceContext {
        let root = self.sampler.root(&self.random);
        if root.is_sampled() && self.thrift.withholds(Withheld::Traces) {
            return Sampler::none().root(&self.random);
        }
        root
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Spans {
    fn on_new_span(&self, attrs: &Attributes<'_>, id: &Id, ctx: LayerContext<'_, S>) {
        let Some(span) = ctx.span(id) else { return };
        let (context, parent) = self.place(attrs, &ctx);
        let mut fields = Fields::default();
        if context.is_sampled() {
            attrs.record(&mut fields);
        }
        span.extensions_mut().insert(Open {
            context,
            parent,
            begun: self.clock.now(),
            start: self.clock.wall(),
            fields,
            events: Vec::new(),
            links: Vec::new(),
            status: Status::Unset,
            clock: Arc::clone(&self.clock),
        });
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, ctx: LayerContext<'_, S>) {
        let Some(span) = ctx.span(id) else { return };
        if let Some(open) = span.extensions_mut().get_mut::<Open>()
            && open.context.is_sampled()
        {
            values.record(&mut open.fields);
        }
    }

    fn on_event(&self, event: &tracing::Event<'_>, ctx: LayerContext<'_, S>) {
        let Some(span) = ctx.event_span(event) else { return };
        let mut extensions = span.extensions_mut();
        let Some(open) = extensions.get_mut::<Open>() else { return };
        if !open.context.is_sampled() {
            return;
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        let attributes = attributes(&fields);
        open.event(fields.message, attributes);
    }

    fn on_close(&self, id: Id, ctx: LayerContext<'_, S>) {
        let Some(span) = ctx.span(&id) else { return };
        let open = span.extensions_mut().remove::<Open>();
        if let Some(open) = open.filter(|open| open.context.is_sampled()) {
            // A span without room is counted by the buffer.
            self.buffer.put(open.finish(span.name()));
        }
    }
}
