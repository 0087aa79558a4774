//! Rate limits: one atomic decision over several GCRA buckets.
