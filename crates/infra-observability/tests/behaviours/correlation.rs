//! Correlation ids and their metadata.

use std::{collections::BTreeSet, panic::AssertUnwindSafe, sync::Arc};

use infra_core::{baggage::Baggage, context::Context, id::CorrelationId, random::Random};
use infra_observability::{
    correlation::{Correlator, HEADER, accept, send_along},
    log,
};
use proptest::prelude::*;

use crate::support::{Lines, clock};

fn correlator() -> Correlator {
    Correlator::new(clock().1, Arc::new(Random::seeded(1)))
}

fn current() -> Option<CorrelationId> {
    Context::current().correlation_id()
}

#[test]
fn ids_are_uuids_all_different_and_their_text_is_36_characters() {
    let correlator = correlator();
    let ids: BTreeSet<String> = (0..10_000).map(|_| correlator.generate().to_string()).collect();
    assert_eq!(ids.len(), 10_000);
    for id in &ids {
        assert_eq!((id.len(), id.as_bytes()[14]), (36, b'7'), "a UUID of version 7");
        assert_eq!(accept(id).unwrap().to_string(), *id);
    }
}

#[tokio::test]
async fn a_scope_gives_an_id_and_takes_it_back_whatever_happens() {
    let correlator = correlator();
    assert_eq!(current(), None);
    let seen = correlator.scope(async { current() }).await;
    assert!(seen.is_some());
    let failed: Result<(), &str> = correlator.scope(async { Err("as planned") }).await;
    assert!(failed.is_err() && current().is_none());
    let panicked = std::panic::catch_unwind(AssertUnwindSafe(|| {
        Context::default().correlation(correlator.generate()).sync_scope(|| panic!("as planned"));
    }));
    assert!(panicked.is_err() && current().is_none());
    let cancelled = correlator.scope(std::future::pending::<()>());
    assert!(futures_now(cancelled).is_none() && current().is_none());
}

/// Polls a future once and drops it.
fn futures_now<F: Future>(future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(output) => Some(output),
        std::task::Poll::Pending => None,
    }
}

fn nested(ids: &[CorrelationId]) -> bool {
    let Some((id, inner)) = ids.split_first() else { return true };
    let before = current();
    let inside =
        Context::current().correlation(*id).sync_scope(|| nested(inner) && current() == Some(*id));
    inside && current() == before
}

proptest! {
    #[test]
    fn scopes_nest_to_any_depth_and_give_back_what_was_before(depth in 0..40_usize) {
        let correlator = correlator();
        let ids: Vec<_> = (0..depth).map(|_| correlator.generate()).collect();
        prop_assert!(nested(&ids));
        prop_assert_eq!(current(), None);
    }

    #[test]
    fn what_a_client_sends_is_an_id_or_nothing(text in ".{0,60}") {
        if let Some(id) = accept(&text) {
            prop_assert_eq!(id.to_string(), text.to_ascii_lowercase());
        }
    }
}

#[tokio::test]
async fn a_spawned_task_inherits_the_id_only_if_it_carries_the_context() {
    let correlator = correlator();
    let (own, carried, bare) = correlator
        .scope(async {
            let carried = tokio::spawn(Context::carry(async { current() })).await.unwrap();
            let bare = tokio::spawn(async { current() }).await.unwrap();
            (current(), carried, bare)
        })
        .await;
    assert_eq!((own, bare), (carried, None));
    let kept = correlator.scope(async { correlator.scope(async { current() }).await == current() });
    assert!(kept.await, "an id that is there is kept");
}

#[test]
fn inbound_ids_are_validated_and_outgoing_headers_carry_the_current_one() {
    let correlator = correlator();
    let id = correlator.generate();
    let mut headers = http::HeaderMap::new();
    Context::default().correlation(id).sync_scope(|| send_along(&mut headers));
    assert_eq!(headers[HEADER], id.to_string());
    assert_eq!(correlator.begin(&headers).correlation_id(), Some(id));
    for forged in ["", "corr_0123456789abcdef", "{0197f2a0-7c1e-7000-8000-000000000001}", "x"] {
        headers.insert(HEADER, forged.parse().unwrap());
        let begun = correlator.begin(&headers).correlation_id();
        assert!(begun.is_some() && begun.map(|id| id.to_string()).as_deref() != Some(forged));
    }
}

#[test]
fn metadata_is_on_the_lines_of_its_scope_and_gone_afterwards_also_after_a_panic() {
    let lines = Lines::default();
    let subscriber = log::subscriber("info", clock().1, lines.clone()).unwrap();
    tracing::subscriber::with_default(subscriber, || {
        let outer = Baggage::default().with("user", "test").unwrap();
        let inner = outer.with("action", "test_action").unwrap().with("level", "x").unwrap();
        let id = correlator().generate();
        let context = Context::default().correlation(id).baggage(inner);
        context.sync_scope(|| tracing::info!("inside"));
        let panicked = std::panic::catch_unwind(AssertUnwindSafe(|| {
            Context::default().baggage(outer).sync_scope(|| {
                tracing::info!("before the panic");
                panic!("as planned");
            });
        }));
        assert!(panicked.is_err());
        tracing::info!("outside");
    });
    let [inside, before, outside] = lines.json().try_into().unwrap();
    assert_eq!((&inside["user"], &inside["action"]), (&"test".into(), &"test_action".into()));
    assert_eq!((&inside["level"], &inside["level_"]), (&"INFO".into(), &"x".into()));
    assert!(inside["correlation_id"].is_string());
    assert_eq!((&before["user"], before.get("action")), (&"test".into(), None));
    assert_eq!((outside.get("user"), outside.get("correlation_id")), (None, None));
}
