//! A local cache with single-flight loads, fenced fills and expiry on an injected clock.
