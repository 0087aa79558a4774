//! Running work within a span that is also the context's trace.

use infra_core::{context::Context, trace::TraceContext};
use tracing::{Instrument, Span};
use tracing_subscriber::{Registry, registry::LookupSpan};

use super::{
    layer::Open,
    span::{Attribute, Status},
};

/// Returns the trace context of a span; none where no [`Spans`](super::Spans) layer records it.
pub fn context_of(span: &Span) -> Option<TraceContext> {
    with_open(span, |open| open.context)
}

/// Links a span to one of another trace, such as that of a socket's handshake.
pub fn link(span: &Span, to: TraceContext) {
    let _is_open = with_open(span, |open| open.link(to));
}

/// Records an error of a span: an event `exception` with its type, message and causes, and the
/// status.
pub fn record_error<E: std::error::Error>(span: &Span, error: &E) {
    let mut causes = Vec::new();
    let mut cause = error.source();
    while let Some(next) = cause {
        causes.push(next.to_string());
        cause = next.source();
    }
    let message = error.to_string();
    let _is_open = with_open(span, |open| {
        exception(open, std::any::type_name::<E>(), message, causes.join("\n"));
    });
}

fn exception(open: &mut Open, kind: &str, message: String, stack: String) {
    if open.context.is_sampled() {
        let attributes = vec![
            Attribute::text("exception.type", kind),
            Attribute::text("exception.message", message.clone()),
            Attribute::text("exception.stacktrace", stack),
        ];
        open.event("exception".to_owned(), attributes);
    }
    open.status = Status::Error(message);
}

/// Runs `future` within `span`, with the span as the context's trace.
///
/// The span ends well when the future does. When the future panics the span ends with an
/// `exception` event, and when it is dropped unfinished with the error `cancelled`.
///
/// # Cancel safety
///
/// Dropping the future drops `future` and ends the span.
pub async fn traced<T>(span: Span, future: impl Future<Output = T>) -> T {
    traced_as(span, future, |_, _| {}).await
}

/// Like [`traced`]; an error of the future becomes the span's, and is passed on.
///
/// # Errors
///
/// That of the future.
///
/// # Cancel safety
///
/// Dropping the future drops `future` and ends the span.
pub async fn traced_result<T, E: std::error::Error>(
    span: Span,
    future: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    traced_as(span, future, |span, result: &Result<T, E>| {
        if let Err(error) = result {
            record_error(span, error);
        }
    })
    .await
}

async fn traced_as<T>(
    span: Span,
    future: impl Future<Output = T>,
    judge: impl FnOnce(&Span, &T),
) -> T {
    let mut ending = Ending { span: span.clone(), is_finished: false };
    let output = match context_of(&span) {
        Some(trace) => Context::current().trace(trace).scope(future.instrument(span.clone())).await,
        None => future.instrument(span.clone()).await,
    };
    ending.is_finished = true;
    judge(&span, &output);
    output
}

/// Says how a span ended, however it ends.
struct Ending {
    span: Span,
    is_finished: bool,
}

impl Drop for Ending {
    fn drop(&mut self) {
        let _is_open = with_open(&self.span, |open| {
            if std::thread::panicking() {
                exception(open, "panic", "panicked".to_owned(), String::new());
            } else if !self.is_finished {
                open.status = Status::Error("cancelled".to_owned());
            } else if open.status == Status::Unset {
                open.status = Status::Ok;
            }
        });
    }
}

fn with_open<T>(span: &Span, work: impl FnOnce(&mut Open) -> T) -> Option<T> {
    span.with_subscriber(|(id, dispatch)| {
        let registry = dispatch.downcast_ref::<Registry>()?;
        let span = registry.span(id)?;
        let mut extensions = span.extensions_mut();
        extensions.get_mut::<Open>().map(work)
    })
    .flatten()
}
