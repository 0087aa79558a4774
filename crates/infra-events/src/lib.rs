//! An embedded event store: checksummed segments, group commit, subscriptions.
