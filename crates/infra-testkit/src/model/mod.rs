//! One reference model per port: the contract, written down as plainly as it can be.
//!
//! A model is slow, keeps everything in memory, and is easy to believe. Engines are compared with it
//! by random programs; tests of what stands on a port use it where no engine is needed. Each passes
//! the contract suite of its port.

mod archive;
mod cache;
mod documents;
mod events;
mod leases;
mod limiter;
mod pubsub;
mod queue;
mod snapshots;
mod window;

pub use self::{
    archive::ModelArchive,
    cache::ModelCache,
    documents::ModelDocuments,
    events::ModelEvents,
    leases::ModelLeases,
    limiter::ModelLimiter,
    pubsub::ModelPubSub,
    queue::{ModelQueue, Policy},
    snapshots::ModelSnapshots,
};
