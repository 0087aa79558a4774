//! Bytes that a process holds for all its clients together, against a limit.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// For how many clients a message to many is counted at once.
const MANY: usize = 64;

/// The most bytes that are counted before anybody holds them.
const MOST_AHEAD: usize = 64 * 1024;

/// A sum of bytes with a limit. It only counts; who must give way is the registry's to say.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: usize,
    used: AtomicUsize,
}

impl Budget {
    pub(crate) const fn new(limit: usize) -> Self {
        Self { limit, used: AtomicUsize::new(0) }
    }

    // Relaxed throughout: the sum stands for itself, and nothing else is read because of it.

    pub(crate) fn add(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn sub(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over_but(0)
    }

    /// Returns whether it is over the limit even without some of the bytes.
    pub(crate) fn is_over_but(&self, without: usize) -> bool {
        self.limit < self.used().saturating_sub(without)
    }
}

/// Bytes that are counted in a budget before a queue holds them.
///
/// All cores share the counter of a budget. A message to a thousand clients would wait for it a
/// thousand times; so it counts for some of them at once, and gives back what nobody took.
#[derive(Debug, Default)]
pub(crate) struct Advance {
    budget: Option<Arc<Budget>>,
    left: usize,
    /// For how many more messages of the same length it counts.
    others: usize,
}

impl Advance {
    /// Counts each message when it is taken.
    pub(crate) fn none() -> Self {
        Self::default()
    }

    /// Counts a message for many clients at once.
    pub(crate) fn for_many() -> Self {
        Self { budget: None, left: 0, others: MANY }
    }

    /// Moves bytes to whoever holds them from now on.
    pub(crate) fn take(&mut self, budget: &Arc<Budget>, bytes: usize) {
        let is_same = self.budget.as_ref().is_some_and(|known| Arc::ptr_eq(known, budget));
        if !is_same || self.left < bytes {
            self.give_back();
            let ahead = bytes.saturating_mul(self.others).min(MOST_AHEAD);
            budget.add(bytes + ahead);
            self.left = bytes + ahead;
            self.budget = (0 < ahead).then(|| Arc::clone(budget));
        }
        self.left -= bytes;
    }

    fn give_back(&mut self) {
        if let Some(budget) = self.budget.take() {
            budget.sub(self.left);
        }
    }
}

impl Drop for Advance {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_over_beyond_its_limit_only() {
        let budget = Budget::new(10);
        budget.add(10);
        assert!(!budget.is_over());
        budget.add(1);
        assert!(budget.is_over() && !budget.is_over_but(1));
        budget.sub(11);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn what_is_counted_ahead_is_counted_once_and_given_back() {
        let budgets = [0, 1].map(|_| Arc::new(Budget::new(usize::MAX)));
        let [budget, other] = &budgets;
        let mut advance = Advance::for_many();
        (0..3).for_each(|_| advance.take(budget, 10));
        assert_eq!(budget.used(), 10 + 10 * MANY, "it was counted once");
        advance.take(other, 7);
        assert_eq!((budget.used(), other.used()), (30, 7 + 7 * MANY));
        (0..MANY).for_each(|_| advance.take(other, 11));
        drop(advance);
        assert_eq!((budget.used(), other.used()), (30, 7 + 11 * MANY), "what is held is left");
        Advance::none().take(budget, 5);
        assert_eq!(budget.used(), 35);
        let mut advance = Advance::for_many();
        advance.take(budget, MOST_AHEAD);
        assert_eq!(budget.used(), 35 + 2 * MOST_AHEAD, "no more than that");
    }
}
