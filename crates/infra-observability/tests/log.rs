//! Log lines as a reader of them would see them.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::clone_on_ref_ptr,
    reason = "a panic is how a test fails"
)]
#![allow(clippy::allow_attributes, reason = "the line above covers helpers that may have none")]

use std::{
    io::Write,
    sync::{Arc, Mutex},
};

use infra_core::{
    SystemClock, clock::Timestamp, context::Context, id::CorrelationId, random::Random,
    trace::TraceContext,
};
use infra_observability::{buffer::Buffer, log};
use serde_json::Value;
use tracing_subscriber::fmt::MakeWriter;

#[derive(Debug, Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(buf)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

fn logged(work: impl FnOnce()) -> Vec<Value> {
    let lines = Lines::default();
    let subscriber = log::subscriber("info", SystemClock::shared(), lines.clone()).unwrap();
    tracing::subscriber::with_default(subscriber, work);
    let bytes = lines.0.lock().unwrap().clone();
    let text = String::from_utf8(bytes).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn an_entry_is_one_line_with_its_fields_and_no_secret() {
    let entries = logged(|| {
        let span = tracing::info_span!("room");
        let _inside = span.enter();
        let cause = std::io::Error::other("disk gone");
        tracing::info!(
            seat = 2_u64,
            delta = -1_i64,
            share = 0.5,
            live = true,
            name = "Ann\n\u{1b}[31m",
            resume_token = "abc",
            error = &cause as &dyn std::error::Error,
            level = "forged",
            "played {}",
            1
        );
        tracing::debug!("not admitted");
    });
    let [entry] = entries.as_slice() else { panic!("{entries:?}") };
    assert_eq!(entry["level"], "INFO");
    assert_eq!(entry["message"], "played 1");
    assert_eq!(entry["seat"], 2);
    assert_eq!(entry["delta"], -1);
    assert_eq!(entry["share"], 0.5);
    assert_eq!(entry["live"], true);
    assert_eq!(entry["name"], "Ann\n\u{1b}[31m");
    assert_eq!(entry["resume_token"], "[redacted]");
    assert_eq!(entry["error"], "disk gone");
    assert_eq!(entry["spans"], serde_json::json!(["room"]));
    assert!(entry["timestamp"].as_str().unwrap().ends_with('Z'));
    assert_eq!(entry["level_"], "forged", "the entry's own names cannot be overwritten");
    assert!(entry.get("correlation_id").is_none());
}

#[test]
fn an_entry_carries_the_correlation_and_the_trace_of_its_context() {
    let random = Random::seeded(9);
    let id = CorrelationId::generate(Timestamp::EPOCH, &random);
    let context = Context::default().correlation(id).trace(TraceContext::root(&random, true));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let entries = logged(|| {
        runtime.block_on(context.scope(async { tracing::warn!("here") }));
    });
    assert_eq!(entries[0]["correlation_id"], id.to_string());
    assert_eq!(entries[0]["trace_id"].as_str().unwrap().len(), 32);
}

#[test]
fn a_huge_field_is_cut() {
    let entries = logged(|| tracing::info!(body = "x".repeat(1_000_000)));
    assert!(entries[0]["body"].as_str().unwrap().chars().count() <= 4_097);
}

#[test]
fn a_filter_that_cannot_be_read_is_refused_and_logging_starts_once() {
    let clock = SystemClock::shared();
    assert!(log::subscriber("a=b=c", clock.clone(), std::io::sink).is_err());
    let (lines, records) = (Lines::default(), Buffer::new(9));
    let options = log::Options::default()
        .format(log::Format::Logfmt)
        .writer(log::WriterOptions::default().capacity(10_000))
        .ship(records.clone());
    let start = || log::start("info", options.clone(), clock.clone(), lines.clone(), None);
    let started = start().unwrap();
    assert!(start().is_err());
    tracing::info!(room = "AB12CD", "dealt");
    assert!(started.writer.flush(std::time::Duration::from_secs(20)));
    assert_eq!(started.writer.waiting(), 0);
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert!(text.contains("message=dealt room=AB12CD"), "{text}");
    let [record] = records.take(9).try_into().unwrap();
    assert_eq!((record.message.as_str(), record.level), ("dealt", tracing::Level::INFO));
    assert_eq!(record.attribute("room").as_deref(), Some("AB12CD"));
}
