//! A query sees terms and documents as they were at one instant, whatever is committed meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

const ROUNDS: u64 = 400;

/// Lets two documents swap their unique values again and again; each batch changes both.
async fn swap(store: &Documents) {
    for round in 0..ROUNDS {
        let mut batch = Batch::new().durability(Durability::Applied);
        for (key, value) in [("a", 1 + round % 2), ("b", 2 - round % 2)] {
            let term = Term::unique(index(), value.to_string());
            batch = batch.write(put("c", key, Expected::Any, "body", vec![term]));
        }
        store.commit(batch).await.unwrap();
    }
}

fn value(found: &Document) -> &[u8] {
    &found.terms[0].value
}

/// Asks for one value and for both until the swapping has ended; returns how often.
async fn ask(store: &Documents, is_over: &AtomicBool) -> u64 {
    let mut asked = 0;
    while !is_over.load(Ordering::SeqCst) {
        let one = store.query(&collection("c"), Query::equal(index(), "1", 9)).await.unwrap();
        let values: Vec<_> = one.iter().map(value).collect();
        assert_eq!(values, [b"1"], "who has the value has it");
        let range =
            Query { to: Bound::Included(Bytes::from("2")), ..Query::equal(index(), "1", 9) };
        let both = store.query(&collection("c"), range).await.unwrap();
        let values: Vec<_> = both.iter().map(value).collect();
        assert_eq!(values, [b"1", b"2"], "each value belongs to one, in order");
        assert_ne!(both[0].key, both[1].key);
        asked += 1;
    }
    asked
}

#[test]
fn a_query_sees_terms_and_documents_of_one_instant() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.unwrap().block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let on_disk = embedded(Options::new(folder.path())).await.unwrap().0;
        for store in [memory(SystemClock::shared()).unwrap(), on_disk] {
            let (store, is_over) = (Arc::new(store), Arc::new(AtomicBool::new(false)));
            let first =
                [("a", "1"), ("b", "2")].into_iter().fold(Batch::new(), |batch, (key, value)| {
                    let term = Term::unique(index(), value);
                    batch.write(put("c", key, Expected::Absent, "body", vec![term]))
                });
            store.commit(first).await.unwrap();
            let (own, end) = (Arc::clone(&store), Arc::clone(&is_over));
            let asking = tokio::spawn(async move { ask(&own, &end).await });
            let swapping = Arc::clone(&store);
            tokio::spawn(async move { swap(&swapping).await }).await.unwrap();
            is_over.store(true, Ordering::SeqCst);
            assert!(0 < asking.await.unwrap());
            store.close().await;
        }
    });
}
