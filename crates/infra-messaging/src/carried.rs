//! What a message carries of the context that made it, and how a handler gets it back.
//!
//! Correlation and trace have fields of their own; what the W3C keeps beside the trace stands in the
//! message's headers, as [`Context::headers`] names it.

use infra_core::{context::Context, queue::Message};

/// Marks a message with the context that makes it.
pub(crate) fn mark(message: &mut Message, context: &Context) {
    message.correlation = context.correlation_id();
    message.trace = context.trace_context();
    message.headers.extend(context.headers());
}

/// Returns the context that a message was made in.
pub(crate) fn context(message: &Message) -> Context {
    let mut context = Context::default();
    if let Some(id) = message.correlation {
        context = context.correlation(id);
    }
    if let Some(trace) = message.trace {
        context = context.trace(trace);
    }
    context.with_headers(|name| message.headers.get(name))
}

#[cfg(test)]
mod tests {
    use infra_core::{
        baggage::Baggage, clock::Timestamp, codec::Payload, id::MessageId, random::Random,
        trace::TraceContext,
    };

    use super::*;

    fn message() -> Message {
        Message::new(MessageId::generate(Timestamp::EPOCH, &Random::seeded(1)), Payload::raw("x"))
    }

    #[test]
    fn state_and_baggage_go_out_under_their_names_and_come_back() {
        let baggage = Baggage::default().with("season", "spring, 2nd").unwrap();
        let state = "vendor=1,other@x=2".parse().unwrap();
        let made_in = Context::default()
            .trace(TraceContext::root(&Random::seeded(2), true))
            .trace_state(state)
            .baggage(baggage.clone());
        let mut marked = message();
        mark(&mut marked, &made_in);
        assert_eq!(marked.headers["tracestate"], "vendor=1,other@x=2");
        assert_eq!(marked.headers["baggage"], "season=spring%2C%202nd");
        let back = context(&marked);
        assert_eq!(back.trace_context(), made_in.trace_context());
        assert_eq!(back.trace_state_of(), made_in.trace_state_of());
        assert_eq!(back.baggage_of(), &baggage);
        let mut bare = message();
        mark(&mut bare, &Context::default());
        assert!(bare.headers.is_empty() && context(&bare).baggage_of().is_empty());
    }
}
