//! Limiters that are wrong on purpose: each has one bug that a clause must catch.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use infra_core::{
    ErrorKind, Result,
    limit::{Charge, Decision, RateLimiter, Reservation, Verdict},
};
use parking_lot::Mutex;

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
    /// Of several limits that refuse, the first answers.
    FirstWait,
    /// One more than the limit is admitted.
    OneMore,
    /// What can never pass is told to wait.
    NeverIsLater,
    /// A peek pays.
    PeekPays,
    /// A dropped reservation gives nothing back.
    KeepsDropped,
    /// A reservation gives back what another request paid, too.
    RefundsTwice,
    /// A reservation that is settled gives everything back.
    ForgetsActual,
    /// All keys of a limit share a budget.
    OneKey,
    /// What leaves a window within a millisecond has left it.
    EarlyEdge,
    /// Every fifth refusal is none.
    Leaks,
}

impl Bug {
    /// Every bug, and the clause that catches it.
    pub const ALL: [(Self, &'static str); 15] = [
        (Self::LooksFirst, "exact_under_contention"),
        (Self::OneByOne, "all_or_nothing"),
        (Self::RefusalIsError, "refusal_is_a_value"),
        (Self::HurriedWait, "honest_wait"),
        (Self::LongWait, "honest_wait"),
        (Self::FirstWait, "honest_wait"),
        (Self::OneMore, "exact_under_contention"),
        (Self::NeverIsLater, "never"),
        (Self::PeekPays, "peeking_is_free"),
        (Self::KeepsDropped, "refunded"),
        (Self::RefundsTwice, "refunded"),
        (Self::ForgetsActual, "refunded"),
        (Self::OneKey, "apart"),
        (Self::EarlyEdge, "exact_window"),
        (Self::Leaks, "bounded_windows"),
    ];
}

/// A right limiter with a planted bug.
#[derive(Debug)]
pub struct Wrong {
    right: Arc<dyn RateLimiter>,
    bug: Bug,
    /// What was paid, held back by a bug that returns it later.
    paid: Mutex<Vec<Reservation>>,
    gifts: AtomicU32,
}

impl Wrong {
    /// Plants a bug into a right limiter.
    pub fn plant(right: Arc<dyn RateLimiter>, bug: Bug) -> Arc<dyn RateLimiter> {
        Arc::new(Self { right, bug, paid: Mutex::default(), gifts: AtomicU32::new(0) })
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
            (Bug::OneMore, Verdict::RetryAfter(_))
                if self.gifts.fetch_add(1, Ordering::SeqCst) == 0 =>
            {
                Verdict::Admitted
            }
            (Bug::EarlyEdge, Verdict::RetryAfter(wait)) if wait <= Duration::from_millis(1) => {
                Verdict::Admitted
            }
            (Bug::Leaks, Verdict::RetryAfter(_))
                if self.gifts.fetch_add(1, Ordering::SeqCst) % 5 == 4 =>
            {
                Verdict::Admitted
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
        if self.bug == Bug::RefundsTwice {
            let (decision, reservation) = self.right.reserve(&charges).await?;
            self.paid.lock().extend(reservation);
            return Ok(decision);
        }
        if self.bug == Bug::FirstWait && 1 < charges.len() {
            for charge in &charges {
                let said = self.right.peek(std::slice::from_ref(charge)).await?;
                if !said.is_admitted() {
                    return Ok(said);
                }
            }
        }
        self.bend(self.right.acquire(&charges).await?)
    }

    async fn reserve(&self, charges: &[Charge]) -> Result<(Decision, Option<Reservation>)> {
        let (decision, reservation) = self.right.reserve(&self.charges(charges)).await?;
        let Some(reservation) = reservation else {
            return Ok((decision, None));
        };
        let wrong = match self.bug {
            Bug::KeepsDropped => {
                reservation.keep();
                Returns(Vec::new())
            }
            Bug::RefundsTwice => {
                let mut both = std::mem::take(&mut *self.paid.lock());
                both.push(reservation);
                Returns(both)
            }
            Bug::ForgetsActual => Returns(vec![reservation]),
            Bug::LooksFirst
            | Bug::OneByOne
            | Bug::RefusalIsError
            | Bug::HurriedWait
            | Bug::LongWait
            | Bug::FirstWait
            | Bug::OneMore
            | Bug::NeverIsLater
            | Bug::PeekPays
            | Bug::OneKey
            | Bug::EarlyEdge
            | Bug::Leaks => return Ok((decision, Some(reservation))),
        };
        Ok((decision, Some(Reservation::new(Box::new(wrong)))))
    }

    async fn peek(&self, charges: &[Charge]) -> Result<Decision> {
        let charges = self.charges(charges);
        if self.bug == Bug::PeekPays {
            return self.right.acquire(&charges).await;
        }
        self.bend(self.right.peek(&charges).await?)
    }
}

/// A settlement that gives all of these back, whatever was used.
#[derive(Debug)]
struct Returns(Vec<Reservation>);

impl infra_core::limit::Settle for Returns {
    fn settle(&mut self, _actual: u32) {
        self.0.clear();
    }

    fn keep(&mut self) {
        self.0.drain(..).for_each(Reservation::keep);
    }
}
