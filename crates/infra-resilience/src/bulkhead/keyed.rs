//! A bulkhead per key: no key takes the places of another.

use std::{hash::Hash, sync::Arc};

use infra_core::{Clock, Result};

use super::{Bulkhead, Options};
use crate::registry::Keyed;

/// A bulkhead for each key, for a bounded number of keys.
///
/// With one place per key it is a serial lane per key: calls of one room run one after another, in
/// the order in which they came.
pub type PerKey<K> = Keyed<K, Bulkhead>;

impl<K: Eq + Hash + Clone> PerKey<K> {
    /// Creates bulkheads with these options each, for at most `keys` keys in use.
    pub fn bulkheads(keys: usize, options: Options, clock: Arc<dyn Clock>) -> Self {
        Self::new(keys, move |_| Bulkhead::new(options, Arc::clone(&clock)))
    }

    /// Takes a place of a key.
    ///
    /// # Errors
    ///
    /// As [`Keyed::of`] and [`Bulkhead::enter`].
    ///
    /// # Cancel safety
    ///
    /// As [`Bulkhead::enter`].
    pub async fn enter(&self, key: &K, operation: &'static str) -> Result<super::Seat> {
        self.of(key)?.enter(operation).await
    }
}
