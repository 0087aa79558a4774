//! The archive as the contract reads.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use infra_core::{
    Clock, Error, Result,
    archive::{ArchiveStore, ObjectInfo},
    clock::Timestamp,
    version::{Expected, Version},
};
use parking_lot::Mutex;

/// Keeps objects in a map.
#[derive(Debug)]
pub struct ModelArchive {
    clock: Arc<dyn Clock>,
    objects: Mutex<BTreeMap<String, (Bytes, Timestamp)>>,
}

impl ModelArchive {
    /// Creates an empty archive whose times come from `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, objects: Mutex::default() }
    }
}

fn check(operation: &'static str, name: &str) -> Result<()> {
    let is_segment =
        |part: &str| !matches!(part, "" | "." | "..") && !part.contains(char::is_control);
    if name.split('/').all(is_segment) {
        return Ok(());
    }
    Err(Error::invalid(operation, format!("the name {name:?}")))
}

fn info(name: &str, (body, stored): &(Bytes, Timestamp)) -> ObjectInfo {
    ObjectInfo { name: name.to_owned(), length: body.len() as u64, stored: *stored }
}

#[async_trait]
impl ArchiveStore for ModelArchive {
    async fn create(&self, name: &str, body: Bytes) -> Result<()> {
        const CREATE: &str = "create object";
        check(CREATE, name)?;
        let mut objects = self.objects.lock();
        if objects.contains_key(name) {
            return Err(Error::conflict(CREATE, Expected::Absent, Version::new(1)));
        }
        objects.insert(name.to_owned(), (body, self.clock.wall()));
        Ok(())
    }

    async fn replace(&self, name: &str, body: Bytes) -> Result<()> {
        check("replace object", name)?;
        self.objects.lock().insert(name.to_owned(), (body, self.clock.wall()));
        Ok(())
    }

    async fn get(&self, name: &str) -> Result<Option<Bytes>> {
        check("read object", name)?;
        Ok(self.objects.lock().get(name).map(|(body, _)| body.clone()))
    }

    async fn head(&self, name: &str) -> Result<Option<ObjectInfo>> {
        check("read object", name)?;
        Ok(self.objects.lock().get(name).map(|object| info(name, object)))
    }

    async fn list(&self, prefix: &str, after: &str, limit: usize) -> Result<Vec<ObjectInfo>> {
        let objects = self.objects.lock();
        let below = |name: &str| {
            prefix.is_empty() || name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'))
        };
        let found = objects.iter().filter(|(name, _)| below(name) && after < name.as_str());
        Ok(found.take(limit).map(|(name, object)| info(name, object)).collect())
    }

    async fn delete(&self, name: &str) -> Result<()> {
        check("delete object", name)?;
        self.objects.lock().remove(name);
        Ok(())
    }
}
