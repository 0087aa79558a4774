//! Queues and pub/sub that account for every message.
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

//!
//! [`MemoryQueue`] hands out work until it is done: leases, retries, dead letters, order per key,
//! priorities, delays and times to live, within bounds.
//!
//! ```
//! use std::time::Duration;
//! use infra_core::{SystemClock, durability::Durability, queue::{Message, Queue}};
//! # use infra_core::{random::Random, codec::Payload, clock::Timestamp, id::{MessageId, QueueName}};
//! use infra_messaging::{MemoryQueue, Options};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let queue = MemoryQueue::new(QueueName::new("mail")?, Options::new(1_000), SystemClock::shared());
//! # let id = MessageId::generate(Timestamp::EPOCH, &Random::seeded(1));
//! let message = Message::new(id, Payload::json(1, "hello ann")?).key("ann");
//! queue.publish(vec![message], Durability::Applied).await?;
//! for delivery in queue.receive(10, Duration::from_secs(30)).await? {
//!     println!("{:?}", delivery.message().payload);
//!     delivery.ack().await?;
//! }
//! # Ok::<(), infra_core::Error>(()) }).unwrap();
//! ```

mod bus;
mod carried;
mod codec;
pub mod handler;
mod health;
#[cfg(feature = "nats")]
mod jetstream;
mod mint;
pub mod outbox;
#[cfg(feature = "postgres")]
mod postgres;
mod queue;
pub mod request;
pub mod route;
mod telemetry;
mod wire;

pub use bus::MemoryPubSub;
#[cfg(feature = "nats")]
pub use bus::NatsPubSub;
#[cfg(feature = "redis")]
pub use bus::RedisPubSub;
pub use codec::{Codecs, MessagePack, codec_of, content_type};
pub use health::QueueHealth;
#[cfg(feature = "nats")]
pub use jetstream::{JetStream, JetStreamQueue, ServerReport};
pub use mint::{Mint, made};
#[cfg(feature = "postgres")]
pub use postgres::{PostgresOptions, PostgresQueue};
pub use queue::{DurableQueue, MemoryQueue, Options, Overflow, Weigh};
pub use telemetry::METRICS;
pub use wire::{VERSION, Wire};
