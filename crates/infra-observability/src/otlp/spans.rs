//! Spans as the JSON form of OTLP.

use std::time::Duration;

use infra_core::clock::Timestamp;
use serde_json::{Value as Json, json};

use super::encode::{Encode, attributes, nanos, scope};
use crate::trace::{Attribute, Event, Finished, Kind, Status};

impl Encode for Finished {
    const PATH: &'static str = "/v1/traces";

    fn request(resource: &[Attribute], items: &[Self]) -> Json {
        let spans: Vec<Json> = items.iter().map(span).collect();
        json!({"resourceSpans": [{
            "resource": {"attributes": attributes(resource)},
            "scopeSpans": [{"scope": scope(), "spans": spans}],
        }]})
    }
}

fn span(span: &Finished) -> Json {
    let context = span.context;
    let kind = match span.kind {
        Kind::Internal => 1,
        Kind::Server => 2,
        Kind::Client => 3,
        Kind::Producer => 4,
        Kind::Consumer => 5,
    };
    let status = match &span.status {
        Status::Unset => json!({}),
        Status::Ok => json!({"code": 1}),
        Status::Error(message) => json!({"code": 2, "message": message}),
    };
    let links = span.links.iter().map(|link| {
        let (trace, span) = (link.trace_id(), link.span_id());
        json!({"traceId": format!("{trace:032x}"), "spanId": format!("{span:016x}")})
    });
    json!({
        "traceId": format!("{:032x}", context.trace_id()),
        "spanId": format!("{:016x}", context.span_id()),
        "parentSpanId": span.parent.map(|id| format!("{id:016x}")).unwrap_or_default(),
        "flags": context.flags(),
        "name": span.name,
        "kind": kind,
        "startTimeUnixNano": nanos(span.start, Duration::ZERO),
        "endTimeUnixNano": nanos(span.start, span.duration),
        "attributes": attributes(&span.attributes),
        "events": span.events.iter().map(|at| event(span.start, at)).collect::<Vec<_>>(),
        "links": links.collect::<Vec<_>>(),
        "status": status,
    })
}

fn event(start: Timestamp, event: &Event) -> Json {
    json!({
        "timeUnixNano": nanos(start, event.after),
        "name": event.name,
        "attributes": attributes(&event.attributes),
    })
}
