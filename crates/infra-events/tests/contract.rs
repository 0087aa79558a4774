//! The contract of the event store port over both engines, and over wrong ones.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::allow_attributes,
    reason = "a panic is how a test fails"
)]

use std::{future::Ready, sync::Arc};

use infra_core::{SystemClock, event::EventStore};
use infra_events::{LogEventStore, MemoryEventStore, Options};

fn memory() -> Ready<Arc<dyn EventStore>> {
    std::future::ready(Arc::new(MemoryEventStore::new(SystemClock::shared())))
}

async fn log() -> Arc<dyn EventStore> {
    // Small segments, so that every clause crosses from one to the next.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap().keep();
    let options = Options::new(folder).segment_bytes(4_096);
    Arc::new(LogEventStore::open(options).await.unwrap().0)
}

mod memory_keeps {
    infra_testkit::event_store_contract!(super::memory());
}

mod log_keeps {
    infra_testkit::event_store_contract!(super::log());
}

mod wrong {
    use infra_testkit::contract::{
        Verdict,
        event::{
            self as suite, Store,
            wrong::{Bug, Wrong},
        },
    };

    async fn judge(clause: &str, store: Store) -> Verdict {
        match clause {
            "all_or_nothing" => suite::all_or_nothing(store).await,
            "gapless" => suite::gapless(store).await,
            "ordered" => suite::ordered(store).await,
            "one_winner" => suite::one_winner(store).await,
            "expected" => suite::expected(store).await,
            "idempotent" => suite::idempotent(store).await,
            "fenced" => suite::fenced(store).await,
            "read_your_writes" => suite::read_your_writes(store).await,
            "bounded_reads" => suite::bounded_reads(store).await,
            "ranged" => suite::ranged(store).await,
            "backward" => suite::backward(store).await,
            "filtered" => suite::filtered(store).await,
            "truncated" => suite::truncated(store).await,
            "tombstoned" => suite::tombstoned(store).await,
            "live_without_gap" => suite::live_without_gap(store).await,
            "waits_for_a_position" => suite::waits_for_a_position(store).await,
            unknown => panic!("there is no clause `{unknown}`"),
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_planted_bug_is_caught_by_its_clause() {
        for (bug, clause) in Bug::ALL {
            let verdict = judge(clause, Wrong::plant(super::memory().await, bug)).await;
            assert!(verdict.is_err(), "{clause} did not catch {bug:?}");
        }
    }
}
