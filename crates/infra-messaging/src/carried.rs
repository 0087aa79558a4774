//! What a message carries of the context that made it, and how a handler gets it back.
//!
//! Correlation and trace have fields of their own. What the W3C keeps beside the trace stands in
//! headers under the names that it has in HTTP, within the W3C's limits: `tracestate` of at most 32
//! members and 512 bytes, `baggage` of at most 64 entries and 8,192 bytes.

use std::str::FromStr;

use infra_core::{context::Context, queue::Message};

const STATE: &str = "tracestate";
const BAGGAGE: &str = "baggage";

/// Marks a message with the context that makes it.
pub(crate) fn mark(message: &mut Message, context: &Context) {
    message.correlation = context.correlation_id();
    message.trace = context.trace_context();
    let state = context.trace_state_of().as_str();
    if message.trace.is_some() && !state.is_empty() {
        message.headers.insert(STATE.to_owned(), state.to_owned());
    }
    if !context.baggage_of().is_empty() {
        message.headers.insert(BAGGAGE.to_owned(), context.baggage_of().to_string());
    }
}

/// Returns the context that a message was made in; a header that is malformed or beyond its limits
/// is as if it were not there.
pub(crate) fn context(message: &Message) -> Context {
    let mut context = Context::default();
    if let Some(id) = message.correlation {
        context = context.correlation(id);
    }
    if let Some(trace) = message.trace {
        context = context.trace(trace).trace_state(header(message, STATE));
    }
    context.baggage(header(message, BAGGAGE))
}

fn header<T: FromStr + Default>(message: &Message, name: &str) -> T {
    let text = message.headers.get(name);
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
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

    fn traced() -> Context {
        Context::default().trace(TraceContext::root(&Random::seeded(2), true))
    }

    #[test]
    fn state_and_baggage_go_out_under_their_names_and_come_back() {
        let baggage = Baggage::default().with("season", "spring, 2nd").unwrap();
        let state = "vendor=1,other@x=2".parse().unwrap();
        let made_in = traced().trace_state(state).baggage(baggage.clone());
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

    #[test]
    fn what_is_beyond_the_limits_of_the_w3c_is_as_if_it_were_not_there() {
        let mut message = message();
        mark(&mut message, &traced());
        let read = |message: &Message| {
            let context = context(message);
            let state = context.trace_state_of().as_str().len();
            (state, context.baggage_of().iter().count())
        };
        let members = |count| (0..count).map(|n| format!("k{n}=v")).collect::<Vec<_>>().join(",");
        let value = |length| format!("k={}", "v".repeat(length));
        for (state, baggage, wanted) in [
            (members(32), members(64), (members(32).len(), 64)),
            (members(33), members(65), (0, 0)),
            (value(256), value(8_190), (258, 1)),
            (value(257), value(8_191), (0, 0)),
            ("k=v,k=w".to_owned(), "k v".to_owned(), (0, 0)),
        ] {
            message.headers.insert(STATE.to_owned(), state);
            message.headers.insert(BAGGAGE.to_owned(), baggage);
            assert_eq!(read(&message), wanted);
        }
        message.trace = None;
        message.headers.insert(STATE.to_owned(), "k=v".to_owned());
        assert_eq!(read(&message).0, 0, "a state belongs to its trace");
    }
}
