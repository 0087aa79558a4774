use std::{sync::Arc, time::Duration};

use infra_core::{ErrorKind, Result, budget::Deadline, context::Context};
use infra_resilience::{
    Pipeline, Policy as _, Reason, Refused, Timeout, at_most_once, idempotent, ordered,
};

use crate::{SECOND, clock, fail, kind};

async fn never() -> Result<()> {
    std::future::pending().await
}

#[tokio::test(start_paused = true)]
async fn a_call_in_time_is_itself_and_one_that_is_late_is_given_up() {
    let clock = clock();
    let timeout = Timeout::new(SECOND, Arc::clone(&clock));
    assert_eq!(timeout.run("ask", idempotent(|| async { Ok(7) })).await.unwrap(), 7);
    let denied = idempotent(|| async { fail::<()>(ErrorKind::Denied) });
    assert_eq!(kind(timeout.run("ask", denied).await), ErrorKind::Denied);
    let begun = clock.now();
    assert_eq!(kind(timeout.run("ask", idempotent(never)).await), ErrorKind::Timeout);
    assert_eq!(clock.now().since(begun), SECOND);
    let slow = idempotent(|| async {
        tokio::time::sleep(SECOND / 2).await;
        Ok(7)
    });
    assert_eq!(timeout.run("ask", slow).await.unwrap(), 7);
}

#[tokio::test(start_paused = true)]
async fn the_fate_of_a_call_that_must_not_be_repeated_is_unknown() {
    let timeout = Timeout::new(SECOND, clock());
    let once = timeout.run("write", at_most_once(never)).await;
    assert_eq!(kind(once), ErrorKind::Indeterminate);
    let error = timeout.run("write", ordered(never)).await.unwrap_err();
    assert!(!error.is_transient());
    let writes = timeout.of_writes();
    let error = writes.run("write", idempotent(never)).await.unwrap_err();
    assert_eq!(*error.kind(), ErrorKind::Indeterminate);
    assert!(error.is_transient(), "it carries an idempotency key");
}

#[tokio::test(start_paused = true)]
async fn a_deadline_only_shrinks_on_its_way_inward() {
    let clock = clock();
    let pipeline = Pipeline::new()
        .then(Timeout::new(SECOND, Arc::clone(&clock)))
        .then(Timeout::new(SECOND * 60, Arc::clone(&clock)));
    let begun = clock.now();
    assert_eq!(kind(pipeline.run("ask", idempotent(never)).await), ErrorKind::Timeout);
    assert_eq!(clock.now().since(begun), SECOND);
    let seen = pipeline.run("ask", idempotent(|| async { Ok(Context::current().deadline_of()) }));
    assert_eq!(seen.await.unwrap(), Some(Deadline::after(clock.now(), SECOND)));
    // What has no time left is not begun, not even a write, so its fate is known.
    let past = Context::default().deadline(Deadline::after(clock.now(), Duration::ZERO));
    let write = Timeout::new(SECOND, clock);
    let call = at_most_once(|| async { panic!("it was begun") });
    let refused: Result<()> = past.scope(write.run("write", call)).await;
    let late = refused.unwrap_err();
    assert_eq!(*late.kind(), ErrorKind::Timeout);
    assert_eq!(Refused::of(&late).map(Refused::reason), Some(Reason::DeadlinePassed));
}

#[tokio::test(start_paused = true)]
async fn an_operation_can_have_a_time_of_its_own() {
    let clock = clock();
    let timeout = Timeout::new(SECOND * 30, Arc::clone(&clock))
        .operation("load", SECOND)
        .operation("save", SECOND * 2);
    for (operation, time) in [("load", 1), ("save", 2), ("other", 30)] {
        let begun = clock.now();
        assert!(timeout.run(operation, idempotent(never)).await.is_err());
        assert_eq!(clock.now().since(begun), SECOND * time);
    }
}
