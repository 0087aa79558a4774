//! Seeded faults, as a policy like the others. Behind the feature `chaos`, so that what you ship is
//! built without it.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::Poll,
    time::Duration,
};

use infra_core::{Error, ErrorKind, Result, random::Random};

use crate::{
    call::{Call, Safety},
    pipeline::Policy,
};

/// Which faults, each as a share of calls from 0 to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Faults {
    /// Calls that fail before they begin.
    pub errors: f64,
    /// The kind of these errors.
    pub kind: ErrorKind,
    /// Calls that are late.
    pub delays: f64,
    /// How late, up to this time, drawn evenly.
    pub delay: Duration,
    /// Calls that panic before they begin.
    pub panics: f64,
    /// Calls that are begun and dropped at their first wait; they end as
    /// [`ErrorKind::Indeterminate`].
    pub drops: f64,
}

impl Default for Faults {
    /// None.
    fn default() -> Self {
        Self {
            errors: 0.0,
            kind: ErrorKind::Unavailable,
            delays: 0.0,
            delay: Duration::ZERO,
            panics: 0.0,
            drops: 0.0,
        }
    }
}

/// Does to calls what its [`Faults`] say, by a seed. It is switched off at first.
///
/// Clones share the switch and the numbers.
///
/// ```
/// use infra_core::ErrorKind;
/// use infra_resilience::{Policy as _, chaos::{Chaos, Faults}, idempotent};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let chaos = Chaos::new(Faults { errors: 1.0, ..Faults::default() }, 7);
/// assert!(chaos.run("ask", idempotent(|| async { Ok(()) })).await.is_ok());
/// chaos.switch_on();
/// let error = chaos.run("ask", idempotent(|| async { Ok(()) })).await.unwrap_err();
/// assert_eq!(*error.kind(), ErrorKind::Unavailable);
/// # });
/// ```
#[derive(Debug, Clone)]
pub struct Chaos(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    faults: Faults,
    random: Random,
    is_on: AtomicBool,
}

/// What happens to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Panic,
    Error,
    Drop,
    Runs,
}

impl Chaos {
    /// Creates the policy, switched off.
    pub fn new(faults: Faults, seed: u64) -> Self {
        let (random, is_on) = (Random::seeded(seed), AtomicBool::new(false));
        Self(Arc::new(Inner { faults, random, is_on }))
    }

    /// Lets the faults happen from now on.
    pub fn switch_on(&self) {
        self.0.is_on.store(true, Relaxed);
    }

    /// Lets nothing happen any more.
    pub fn switch_off(&self) {
        self.0.is_on.store(false, Relaxed);
    }
}

impl Inner {
    /// Draws the same count of numbers for each call, so that a seed gives the same plan whatever the
    /// shares.
    fn plan(&self) -> (Fate, Duration) {
        let draws = [(); 5].map(|()| self.random.unit());
        let [error, panic, drop, delay, length] = draws;
        let fate = match () {
            () if panic < self.faults.panics => Fate::Panic,
            () if error < self.faults.errors => Fate::Error,
            () if drop < self.faults.drops => Fate::Drop,
            () => Fate::Runs,
        };
        let is_late = delay < self.faults.delays;
        (fate, if is_late { self.faults.delay.mul_f64(length) } else { Duration::ZERO })
    }
}

impl<S: Safety, T: Send> Policy<S, T> for Chaos {
    /// Runs a call, or does something to it.
    ///
    /// # Errors
    ///
    /// The call's own, or one of the faults.
    ///
    /// # Panics
    ///
    /// If the faults say so.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the call.
    async fn run<C: Call<Safety = S, Output = T>>(
        &self,
        operation: &'static str,
        call: C,
    ) -> Result<T> {
        if !self.0.is_on.load(Relaxed) {
            return call.attempt().await;
        }
        let (fate, delay) = self.0.plan();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let injected = |kind| Err(Error::new(kind, operation).detail("injected"));
        match fate {
            Fate::Runs => call.attempt().await,
            Fate::Error => injected(self.0.faults.kind.clone()),
            Fate::Drop => {
                let mut running = pin!(call.attempt());
                match poll_fn(|cx| Poll::Ready(running.as_mut().poll(cx))).await {
                    Poll::Ready(result) => result,
                    Poll::Pending => injected(ErrorKind::Indeterminate),
                }
            }
            #[expect(clippy::panic, reason = "this is what was asked for")]
            Fate::Panic => panic!("injected"),
        }
    }
}
