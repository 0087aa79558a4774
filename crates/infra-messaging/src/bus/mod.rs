//! Pub/sub: in this process, over NATS, over Redis.

#[cfg(any(feature = "nats", feature = "redis"))]
mod listening;
mod mailbox;
mod memory;
#[cfg(feature = "nats")]
mod nats;
#[cfg(feature = "redis")]
mod redis;

pub use self::memory::MemoryPubSub;
#[cfg(feature = "nats")]
pub use self::nats::NatsPubSub;
#[cfg(feature = "nats")]
pub(crate) use self::nats::PING;
#[cfg(feature = "redis")]
pub use self::redis::RedisPubSub;
