//! Routing: which queues a message is for.

mod router;
mod rule;
mod topic;
mod trie;

pub use self::{
    router::{DESTINATION, Routed, Router, Then},
    rule::Rule,
    topic::Dialect,
    trie::Trie,
};
