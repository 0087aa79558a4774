//! What a read tells beside the value, and what a load may tell beside it.

use std::{sync::Arc, time::Duration};

use crate::tags::Tag;

/// Where a value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// The memory of this process; it is fresh.
    Local,
    /// The second tier.
    Remote,
    /// A load, of this caller or of another one that asked at the same time.
    Loaded,
    /// The memory of this process, beyond its time: a newer one is on its way, or was not to be had.
    Stale,
}

/// A value, how old it is and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read<V> {
    /// The value; `None` is the knowledge that there is none.
    pub value: Option<V>,
    /// How long ago this process was given it.
    pub age: Duration,
    /// Where it came from.
    pub origin: Origin,
}

/// A loaded value, with what only its source knows: how long it holds and what it belongs to.
///
/// ```
/// use std::time::Duration;
/// use infra_cache::Loaded;
///
/// let _user = Loaded::new("Ann").ttl(Duration::from_secs(5)).tagged("team:7");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded<V> {
    pub(crate) value: Option<V>,
    pub(crate) ttl: Ttl,
    pub(crate) tags: Vec<Tag>,
    pub(crate) origin: Origin,
}

/// How long a value is fresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ttl {
    /// As the cache's options say.
    Usual,
    /// Until it is evicted.
    Endless,
    /// So long.
    For(Duration),
    /// As the options say, but no longer than this.
    AtMost(Duration),
}

impl<V> Loaded<V> {
    /// Creates a value that is kept as the options say.
    pub const fn new(value: V) -> Self {
        Self { value: Some(value), ttl: Ttl::Usual, tags: Vec::new(), origin: Origin::Loaded }
    }

    /// Creates the knowledge that there is no value; kept for [`Options::absent_for`](crate::Options::absent_for).
    pub const fn absent() -> Self {
        Self { value: None, ttl: Ttl::Usual, tags: Vec::new(), origin: Origin::Loaded }
    }

    /// Sets how long it is fresh; zero keeps nothing.
    #[must_use]
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Ttl::For(ttl);
        self
    }

    /// Keeps it until it is evicted, whatever the options say.
    #[must_use]
    pub const fn endless(mut self) -> Self {
        self.ttl = Ttl::Endless;
        self
    }

    /// Adds a tag by which it can be removed.
    #[must_use]
    pub fn tagged(mut self, tag: impl Into<Arc<str>>) -> Self {
        self.tags.push(Tag::Named(tag.into()));
        self
    }

    /// Says that it came from the second tier, where it lives for `left`.
    pub(crate) const fn remote(mut self, left: Option<Duration>) -> Self {
        self.origin = Origin::Remote;
        if let Some(left) = left {
            self.ttl = Ttl::AtMost(left);
        }
        self
    }
}

impl<V> From<V> for Loaded<V> {
    fn from(value: V) -> Self {
        Self::new(value)
    }
}
