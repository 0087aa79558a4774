//! State sync: a versioned document that clients follow by snapshots and deltas.
//!
//! The server keeps a [`Document`]; changes within one tick become one delta, the last write wins.
//! A client keeps a [`Replica`], which takes a delta only onto the very version that it begins at,
//! checks the hash of the outcome, and otherwise asks for the whole. [`Optimist`] shows a client's
//! own changes at once and takes them back if they are refused.
//!
//! ```
//! use infra_ws::sync::{Document, Replica, Update};
//! use serde_json::json;
//!
//! let rules = "Whoever has the highest card takes the round, and the most rounds win the game.";
//! let mut document = Document::new(json!({"players": [], "rules": rules}));
//! let mut replica = Replica::new();
//! replica.apply(document.update_for(None))?;
//! document.set(json!({"players": ["ann"], "rules": rules}));
//! document.tick();
//! let update = document.update_for(replica.version());
//! assert!(matches!(update, Update::Delta { from: 1, to: 2, .. }));
//! replica.apply(update)?;
//! assert_eq!(replica.state()["players"], json!(["ann"]));
//! # Ok::<(), infra_ws::sync::NeedsFull>(())
//! ```

mod document;
mod hash;
mod operations;
mod optimist;
mod patch;
mod replica;

pub use self::{
    document::{Document, Update},
    hash::{canonical, hash},
    operations::{Answer, Conflict, Operation, Operations},
    optimist::Optimist,
    patch::{Op, Patch, Unfit, diff},
    replica::{NeedsFull, Replica},
};
