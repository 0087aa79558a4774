//! What an operator sees of the hand-over: its health and its spans.

use infra_core::health::{HealthCheck as _, Status};
use tracing::{Event, Metadata, Subscriber, span};

use super::*;

/// Keeps the names of the spans of our crate.
#[derive(Debug, Clone, Default)]
struct Spans(Arc<Mutex<Vec<&'static str>>>);

impl Subscriber for Spans {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_span() && metadata.target().starts_with("infra_persistence")
    }

    fn new_span(&self, span: &span::Attributes<'_>) -> span::Id {
        self.0.lock().push(span.metadata().name());
        span::Id::from_u64(self.0.lock().len() as u64)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, _: &Event<'_>) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[tokio::test(start_paused = true)]
async fn health_tells_failed_hand_overs_and_dead_letters_and_each_attempt_is_a_span() {
    let spans = Spans::default();
    let _guard = tracing::subscriber::set_default(spans.clone());
    let options = options(100).retries(1, Backoff::exponential(Duration::from_secs(10)));
    let mut bench = Bench::new(options, Duration::ZERO).await;
    assert_eq!(bench.hybrid.check().await.status, Status::Up);
    bench.archive.failures.lock().extend(vec![ErrorKind::Unavailable; 2]);
    bench.save("bad", Phase::Over).await;
    bench.start();
    pass(Duration::from_secs(1)).await;
    let finding = bench.hybrid.check().await;
    assert_eq!(finding.status, Status::Degraded);
    assert!(finding.detail.contains("1 of 1 hand-overs failed"), "{}", finding.detail);
    pass(Duration::from_secs(20)).await;
    let finding = bench.hybrid.check().await;
    assert!(finding.detail.contains("1 hand-overs were given up"), "{}", finding.detail);
    bench.hybrid.archive(b"bad", Priority::Normal).await.unwrap();
    pass(Duration::from_secs(1)).await;
    assert_eq!(bench.hybrid.check().await.status, Status::Up);
    let attempts = spans.0.lock().iter().filter(|name| **name == "archive entity").count();
    assert_eq!(attempts, 3);
}
