//! Archives that are wrong on purpose: each has one bug that a clause must catch.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use infra_core::{
    Result,
    archive::{ArchiveStore, ObjectInfo},
};
use tokio::sync::Notify;

/// A planted bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// A name can be created again.
    CreatesAgain,
    /// An object is there before it is whole.
    InParts,
    /// A prefix may end within a segment.
    LoosePrefix,
    /// A deleted object can still be read.
    KeepsDeleted,
    /// Any name will do.
    Unnamed,
}

impl Bug {
    /// Every bug, and the clause that catches it.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::CreatesAgain, "created_once"),
        (Self::InParts, "whole"),
        (Self::LoosePrefix, "listed"),
        (Self::KeepsDeleted, "gone"),
        (Self::Unnamed, "named"),
    ];
}

/// A right archive with a planted bug.
#[derive(Debug)]
pub struct Wrong {
    right: Arc<dyn ArchiveStore>,
    bug: Bug,
    /// Whether half of an object is there.
    is_half: AtomicBool,
    /// Told when a half was read.
    seen: Notify,
}

impl Wrong {
    /// Plants a bug into a right archive.
    pub fn plant(right: Arc<dyn ArchiveStore>, bug: Bug) -> Arc<dyn ArchiveStore> {
        Arc::new(Self { right, bug, is_half: AtomicBool::new(false), seen: Notify::new() })
    }

    fn name<'a>(&self, name: &'a str) -> &'a str {
        let is_odd =
            name.is_empty() || name.contains(['.', '\n']) || name.split('/').any(str::is_empty);
        if self.bug == Bug::Unnamed && is_odd { "odd" } else { name }
    }
}

#[async_trait]
impl ArchiveStore for Wrong {
    async fn create(&self, name: &str, body: Bytes) -> Result<()> {
        let name = self.name(name);
        let is_loose = matches!(self.bug, Bug::CreatesAgain | Bug::Unnamed);
        if is_loose {
            self.right.replace(name, body).await
        } else {
            self.right.create(name, body).await
        }
    }

    async fn replace(&self, name: &str, body: Bytes) -> Result<()> {
        if self.bug == Bug::InParts {
            self.right.replace(name, body.slice(..body.len() / 2)).await?;
            // The half stays until a reader had it: whether one comes by in time is not left to
            // the scheduler.
            self.is_half.store(true, Ordering::SeqCst);
            self.seen.notified().await;
            self.is_half.store(false, Ordering::SeqCst);
        }
        self.right.replace(self.name(name), body).await
    }

    async fn get(&self, name: &str) -> Result<Option<Bytes>> {
        let is_half = self.is_half.load(Ordering::SeqCst);
        let found = self.right.get(self.name(name)).await;
        if is_half {
            self.seen.notify_one();
        }
        found
    }

    async fn head(&self, name: &str) -> Result<Option<ObjectInfo>> {
        self.right.head(name).await
    }

    async fn list(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<ObjectInfo>> {
        if self.bug != Bug::LoosePrefix {
            return self.right.list(prefix, after, limit).await;
        }
        let all = self.right.list("", after, 1_000).await?.into_iter();
        Ok(all.filter(|info| info.name.starts_with(prefix)).take(limit).collect())
    }

    async fn delete(&self, name: &str) -> Result<()> {
        if self.bug == Bug::KeepsDeleted {
            return Ok(());
        }
        self.right.delete(name).await
    }
}
