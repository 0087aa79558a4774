//! Pub/sub that accounts for every message.
//!
//! [`MemoryPubSub`] hands messages to whoever listens in the same process. Each subscriber has a
//! bounded mailbox of its own: one that is too slow delays nobody, and is told how many messages it
//! missed, at the place where they are missing.
//!
//! ```
//! use bytes::Bytes;
//! use infra_core::pubsub::{Item, Pattern, PubSub, Subject};
//! use infra_messaging::MemoryPubSub;
//!
//! # use std::{future::poll_fn, pin::Pin};
//! # use futures_core::Stream as _;
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let bus = MemoryPubSub::new(1_024);
//! let mut events = bus.subscribe(&Pattern::new("room.*.events")?).await?;
//! let subject = Subject::new("room.7f3a.events")?;
//! bus.publish(&subject, Bytes::from_static(b"started")).await?;
//! # let mut next = async || poll_fn(|cx| events.as_mut().poll_next(cx)).await;
//! let payload = Bytes::from_static(b"started");
//! assert_eq!(next().await, Some(Item::Message { subject, payload }));
//! # Ok::<(), infra_core::Error>(()) }).unwrap();
//! ```

mod mailbox;
mod memory;
mod telemetry;

pub use memory::MemoryPubSub;
pub use telemetry::METRICS;
