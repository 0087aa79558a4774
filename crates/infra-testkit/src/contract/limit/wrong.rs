//! Limiters that are wrong on purpose: each has one bug that a clause must catch.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use infra_core::{
    ErrorKind, Result,
    limit::{Charge, Decision, RateLimiter, Reservation, Verdict},
};

/// A planted bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// It is looked first, and paid later.
    LooksFirst,
    /// Charges are paid one by one.
    OneByOne,
    /// A refusal is an error.
    RefusalIsError,
    /// A wait is too short.
    HurriedWait,
    /// A wait is too long.
    LongWait,
    /// What can never pass is told to wait.
    NeverIsLater,
    /// A peek pays.
    PeekPays,
    /// A dropped reservation gives nothing back.
    KeepsDropped,
    /// All keys of a limit share a budget.
    OneKey,
}

impl Bug {
    /// Every bug, and the clause that catches it.
    pub const ALL: [(Self, &'static str); 9] = [
        (Self::LooksFirst, "exact_under_contention"),
        (Self::OneByOne, "all_or_nothing"),
        (Self::RefusalIsError, "refusal_is_a_value"),
        (Self::HurriedWait, "honest_wait"),
        (Self::LongWait, "honest_wait"),
        (Self::NeverIsLater, "never"),
        (Self::PeekPays, "peeking_is_free"),
        (Self::KeepsDropped, "refunded"),
        (Self::OneKey, "apart"),
    ];
}

/// A right limiter with a planted bug.
#[derive(Debug)]
pub struct Wrong {
    right: Arc<dyn RateLimiter>,
    bug: Bug,
}

impl Wrong {
    /// Plants a bug into a right limiter.
    pub fn plant(right: Arc<dyn RateLimiter>, bug: Bug) -> Arc<dyn RateLimiter> {
        Arc::new(Self { right, bug })
    }

    fn charges(&self, charges: &[Charge]) -> Vec<Charge> {
        let mut charges = charges.to_vec();
        if self.bug == Bug::OneKey {
            for charge in &mut charges {
                "all".clone_into(&mut charge.key);
            }
        }
        charges
    }

    fn bend(&self, mut decision: Decision) -> Result<Decision> {
        decision.verdict = match (self.bug, decision.verdict) {
            (Bug::RefusalIsError, Verdict::RetryAfter(_)) => {
                return Err(infra_core::Error::new(ErrorKind::Overloaded, "acquire"));
            }
            (Bug::HurriedWait, Verdict::RetryAfter(wait)) => Verdict::RetryAfter(wait / 2),
            (Bug::LongWait, Verdict::RetryAfter(wait)) => Verdict::RetryAfter(wait * 2),
            (Bug::NeverIsLater, Verdict::Never) => Verdict::RetryAfter(Duration::from_secs(1)),
            (_, verdict) => verdict,
        };
        Ok(decision)
    }
}

#[async_trait]
impl RateLimiter for Wrong {
    async fn acquire(&self, charges: &[Charge]) -> Result<Decision> {
        let charges = self.charges(charges);
        if self.bug == Bug::OneByOne && 1 < charges.len() {
            let mut last = self.right.peek(&charges).await?;
            for charge in &charges {
                let said = self.right.acquire(std::slice::from_ref(charge)).await?;
                if last.is_admitted() && !said.is_admitted() {
                    last = said;
                }
            }
            return Ok(last);
        }
        if self.bug == Bug::LooksFirst {
            let peeked = self.right.peek(&charges).await?;
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            self.right.acquire(&charges).await?;
            return Ok(peeked);
        }
        self.bend(self.right.acquire(&charges).await?)
    }

    async fn reserve(&self, charges: &[Charge]) -> Result<(Decision, Option<Reservation>)> {
        let (decision, reservation) = self.right.reserve(&self.charges(charges)).await?;
        if self.bug != Bug::KeepsDropped {
            return Ok((decision, reservation));
        }
        let is_admitted = reservation.map(Reservation::keep).is_some();
        Ok((decision, is_admitted.then(|| Reservation::new(Box::new(Nothing)))))
    }

    async fn peek(&self, charges: &[Charge]) -> Result<Decision> {
        let charges = self.charges(charges);
        if self.bug == Bug::PeekPays {
            return self.right.acquire(&charges).await;
        }
        self.bend(self.right.peek(&charges).await?)
    }
}

/// A settlement that gives nothing back.
#[derive(Debug)]
struct Nothing;

impl infra_core::limit::Settle for Nothing {
    fn settle(&mut self, _actual: u32) {}
}
