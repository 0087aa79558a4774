//! Waiting until a request may pass, for callers that have the time.

use std::time::Duration;

use infra_core::{
    Clock, Result,
    limit::{Charge, Decision, RateLimiter},
    random::Random,
};

/// Acquires, and waits as long as it is told and `patience` allows.
///
/// Each pause is lengthened by up to a quarter, drawn from `random`, so that callers who were
/// refused together do not come back together. The last decision is returned: a refusal if the wait
/// would take longer than what is left of the patience, at once and without waiting for nothing.
///
/// # Errors
///
/// As for [`RateLimiter::acquire`].
///
/// # Cancel safety
///
/// As for [`RateLimiter::acquire`]; a future that is dropped while it waits has paid nothing.
pub async fn acquire_within(
    limiter: &dyn RateLimiter,
    charges: &[Charge],
    patience: Duration,
    (clock, random): (&dyn Clock, &Random),
) -> Result<Decision> {
    let end = clock.now() + patience;
    loop {
        let decision = limiter.acquire(charges).await?;
        let left = end.since(clock.now());
        match decision.retry_after().filter(|pause| *pause <= left) {
            Some(pause) => {
                let pause = pause.saturating_add(pause.mul_f64(random.unit() / 4.0));
                tokio::time::sleep(pause.min(left)).await;
            }
            None => return Ok(decision),
        }
    }
}
