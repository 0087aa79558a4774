//! Bytes that a process holds for all its clients together, against a limit.

use std::sync::atomic::{AtomicUsize, Ordering};

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
}
