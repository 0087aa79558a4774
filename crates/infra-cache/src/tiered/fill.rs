//! Filling both tiers with values that were not loaded key by key.

use std::collections::HashMap;

use infra_core::{Result, cache::Ticket, codec::Codec};
use serde::{Serialize, de::DeserializeOwned};

use super::{Outage, Tiered};
use crate::read::Loaded;

/// When values were begun to be loaded; it fences [`Tiered::fill`].
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    local: u64,
    remote: Option<Ticket>,
}

impl<V, C> Tiered<V, C>
where
    V: Clone + Send + Sync + Serialize + DeserializeOwned + 'static,
    C: Codec + 'static,
{
    /// Takes the moment before values are loaded whose keys are not known yet.
    ///
    /// # Errors
    ///
    /// As for [`Cache::look`](infra_core::cache::Cache::look) if [`Outage::Fail`] is set.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future has no effect.
    pub async fn moment(&self) -> Result<Moment> {
        let local = self.shared.local.0.books.fence.ticket();
        let Some(remote) = &self.shared.remote else { return Ok(Moment { local, remote: None }) };
        match remote.look(&[]).await {
            Ok(looked) => Ok(Moment { local, remote: Some(looked.ticket) }),
            Err(_) if self.shared.settings.outage == Outage::Load => {
                Ok(Moment { local, remote: None })
            }
            Err(error) => Err(error),
        }
    }

    /// Keeps values that were loaded since a moment, except those that were put or removed since; returns how many
    /// are there.
    ///
    /// # Errors
    ///
    /// As for [`Cache::fill`](infra_core::cache::Cache::fill); then a part may be kept.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave a part kept.
    pub async fn fill(&self, moment: Moment, values: HashMap<String, Loaded<V>>) -> Result<u64> {
        let local = &self.shared.local;
        let Some(remote) = &self.shared.remote else {
            return Ok(if self.shared.is_trusted() { local.fill(moment.local, values) } else { 0 });
        };
        if let Some(ticket) = moment.remote {
            let puts = values.iter().map(|(key, loaded)| self.shared.put::<C>(key, loaded));
            let stored = remote.fill(ticket, puts.collect::<Result<_>>()?).await?;
            if stored < values.len() as u64 {
                // Which were refused is not known, so the second tier alone says what is current.
                return Ok(stored);
            }
        }
        let kept =
            if self.shared.is_trusted() { local.fill(moment.local, values.clone()) } else { 0 };
        Ok(if moment.remote.is_some() { values.len() as u64 } else { kept })
    }
}
