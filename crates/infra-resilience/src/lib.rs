//! Timeout, retry and circuit breaker that share one deadline.
