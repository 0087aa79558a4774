//! A circuit breaker around calls.

use std::{sync::Arc, time::Duration};

use infra_core::{Clock, Error, ErrorKind, Result, clock::Instant};
use parking_lot::Mutex;

use crate::{
    circuit::{Circuit, State, Trip, Turn, Verdict},
    telemetry::{REJECTED, TRANSITIONS},
};

/// Stops calling a service that fails, and finds out carefully whether it is back.
///
/// Failures are errors that say something about the service: unavailable, timed out, overloaded,
/// of unknown fate, corrupt, poisoned, internal. A refusal (a conflict, an invalid request, a rate limit) is
/// an answer, and counts as a success. Clones share the circuit.
///
/// ```
/// use infra_core::{Error, ErrorKind, SystemClock};
/// use infra_resilience::{Breaker, State, Trip};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let breaker = Breaker::new(Trip { least: 1, ..Trip::default() }, SystemClock::shared());
/// let down = async { Err::<(), _>(Error::new(ErrorKind::Unavailable, "ask")) };
/// assert!(breaker.run("ask", down).await.is_err());
/// assert_eq!(breaker.state(), State::Open);
/// # });
/// ```
#[derive(Debug, Clone)]
pub struct Breaker {
    circuit: Arc<Mutex<Circuit>>,
    clock: Arc<dyn Clock>,
}

impl Breaker {
    /// Creates a closed breaker.
    pub fn new(trip: Trip, clock: Arc<dyn Clock>) -> Self {
        Self { circuit: Arc::new(Mutex::new(Circuit::new(trip))), clock }
    }

    /// Returns what the breaker does with calls now.
    pub fn state(&self) -> State {
        self.circuit.lock().state(self.clock.now())
    }

    /// Asks to be let through, for calls that are no futures; settle the permit with how it went.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`] if the breaker is open, or half-open with all probes running.
    pub fn admit(&self, operation: &'static str) -> Result<Permit> {
        let now = self.clock.now();
        match self.circuit.lock().admit(now) {
            Ok(turn) => Ok(Permit { breaker: self.clone(), turn, begun: now, is_settled: false }),
            Err(wait) => {
                REJECTED.add(1);
                let detail = if wait.is_zero() {
                    "the circuit is half-open and all its probes are running".to_owned()
                } else {
                    format!("the circuit is open for {} ms more", wait.as_millis())
                };
                Err(Error::new(ErrorKind::Unavailable, operation).detail(detail))
            }
        }
    }

    /// Runs a call, if the circuit lets it through.
    ///
    /// # Errors
    ///
    /// The call's own; [`ErrorKind::Unavailable`] as for [`Breaker::admit`], and then the call was
    /// not begun.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the call; it counts neither as a success nor as a failure, and a
    /// probe's place is free again.
    pub async fn run<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let permit = self.admit(operation)?;
        let result = call.await;
        match &result {
            Err(error) if is_failure(error) => permit.failure(),
            _ => permit.success(),
        }
        result
    }
}

/// The permission for one call. Dropped without a verdict it counts for nothing.
#[derive(Debug)]
#[must_use]
pub struct Permit {
    breaker: Breaker,
    turn: Turn,
    begun: Instant,
    is_settled: bool,
}

impl Permit {
    /// Says that the call succeeded.
    pub fn success(mut self) {
        let took = self.took();
        self.settle(Verdict::Success(took));
    }

    /// Says that the call failed.
    pub fn failure(mut self) {
        let took = self.took();
        self.settle(Verdict::Failure(took));
    }

    fn took(&self) -> Duration {
        self.breaker.clock.now().since(self.begun)
    }

    fn settle(&mut self, verdict: Verdict) {
        self.is_settled = true;
        let now = self.breaker.clock.now();
        let changed = self.breaker.circuit.lock().settle(self.turn, verdict, now);
        if let Some(state) = changed {
            TRANSITIONS.add_for(state, 1);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.is_settled {
            self.settle(Verdict::Unknown);
        }
    }
}

const fn is_failure(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Unavailable
            | ErrorKind::Timeout
            | ErrorKind::Indeterminate
            | ErrorKind::Overloaded
            | ErrorKind::Poisoned
            | ErrorKind::Corrupt
            | ErrorKind::Closed
            | ErrorKind::Internal
    )
}
