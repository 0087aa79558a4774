//! Actions whose turn comes after their time is over.

use std::{sync::Arc, time::Duration};

use infra_testkit::clock::ManualClock;
use serde_json::json;

use crate::{
    faulty::{Faults, FaultyEvents, Weather},
    support::{act, eventually, hear, options, start_changed, until},
};

/// One player's chat is held up by the store, another one's waits behind it until its time is over. Should
/// the machine be so slow that the second one is sent after that time, it is done, and the next round tries
/// again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_action_whose_time_is_over_is_refused_with_nothing_begun_and_done_when_it_is_sent_again()
{
    let (faults, clock) = (Faults::new(1), ManualClock::new());
    let host = start_changed(options(), Arc::new(clock.clone()), |mut backends| {
        backends.events = Arc::new(FaultyEvents { store: backends.events, faults: faults.clone() });
        backends
    })
    .await;
    let mut mei = host.host("Mei").await;
    let room = mei.known.room.clone();
    let mut ann = host.guest(&room, "Ann").await;
    let mut is_refused = false;
    for round in 1..=50 {
        faults.set(Weather::Held);
        let (held, before) = (faults.struck(), host.events_of(&room).await);
        let chat = json!({"type": "chat", "action": round, "text": format!("round {round}")});
        mei.say(&chat).await.unwrap();
        eventually("the first one is held", || async { held < faults.struck() }).await;
        ann.say(&chat).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        clock.advance(Duration::from_secs(5));
        faults.set(Weather::Calm);
        until(&mut mei, "ack").await;
        let answer = hear(&mut ann, &["ack", "refused"]).await;
        let written = host.events_of(&room).await - before;
        if answer["type"] == "ack" {
            assert_eq!(written, 2);
            continue;
        }
        assert_eq!(answer["code"], "overloaded", "{answer}");
        assert!(answer["retry_after_ms"].is_u64() && answer["offset"].is_null(), "{answer}");
        assert_eq!(written, 1, "nothing of it was begun");
        assert_eq!(act(&mut ann, &chat).await["type"], "ack");
        assert_eq!(host.events_of(&room).await - before, 2);
        is_refused = true;
        break;
    }
    assert!(is_refused, "no action was ever late");
    host.stop().await;
}
