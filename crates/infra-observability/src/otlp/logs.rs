//! Log records as the JSON form of OTLP.

use std::time::Duration;

use serde_json::{Value as Json, json};
use tracing::Level;

use super::encode::{Encode, attributes, nanos, scope};
use crate::{log::Record, trace::Attribute};

impl Encode for Record {
    const PATH: &'static str = "/v1/logs";

    fn request(resource: &[Attribute], items: &[Self]) -> Json {
        let records: Vec<Json> = items.iter().map(record).collect();
        json!({"resourceLogs": [{
            "resource": {"attributes": attributes(resource)},
            "scopeLogs": [{"scope": scope(), "logRecords": records}],
        }]})
    }
}

fn record(record: &Record) -> Json {
    let time = nanos(record.time, Duration::ZERO);
    let mut json = json!({
        "timeUnixNano": time,
        "observedTimeUnixNano": time,
        "severityNumber": severity(record.level),
        "severityText": record.level.as_str(),
        "body": {"stringValue": record.message},
        "attributes": attributes(&record.attributes),
    });
    if let (Some(trace), Some(fields)) = (record.trace, json.as_object_mut()) {
        fields.insert("traceId".to_owned(), format!("{:032x}", trace.trace_id()).into());
        fields.insert("spanId".to_owned(), format!("{:016x}", trace.span_id()).into());
        fields.insert("flags".to_owned(), trace.flags().into());
    }
    json
}

/// Returns the number of a level, as OpenTelemetry's data model of logs has it.
const fn severity(level: Level) -> u8 {
    match level {
        Level::TRACE => 1,
        Level::DEBUG => 5,
        Level::INFO => 9,
        Level::WARN => 13,
        Level::ERROR => 17,
    }
}

#[cfg(test)]
mod tests {
    use infra_core::{clock::Timestamp, trace::TraceContext};

    use super::*;

    #[test]
    fn a_record_has_the_shape_of_the_data_model() {
        let trace = TraceContext::from_parts(0xab, 0xcd, 1).unwrap();
        let attributes = vec![Attribute::text("room", "AB12CD")];
        let (time, message) = (Timestamp::from_millis(7), "dealt".to_owned());
        let with = |level, trace| {
            let (message, attributes) = (message.clone(), attributes.clone());
            record(&Record { time, level, message, trace, attributes })
        };
        let wanted = json!({
            "timeUnixNano": "7000000",
            "observedTimeUnixNano": "7000000",
            "severityNumber": 13,
            "severityText": "WARN",
            "body": {"stringValue": "dealt"},
            "attributes": [{"key": "room", "value": {"stringValue": "AB12CD"}}],
            "traceId": "000000000000000000000000000000ab",
            "spanId": "00000000000000cd",
            "flags": 1,
        });
        assert_eq!(with(Level::WARN, Some(trace)), wanted);
        let numbers = [Level::TRACE, Level::DEBUG, Level::INFO, Level::ERROR]
            .map(|level| with(level, None)["severityNumber"].as_u64().unwrap());
        assert_eq!(numbers, [1, 5, 9, 17]);
        assert!(with(Level::INFO, None).get("traceId").is_none());
    }
}
