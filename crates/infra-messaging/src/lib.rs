//! Queues and pub/sub that account for every message.
