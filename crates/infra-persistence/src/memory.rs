//! Documents in memory.

use std::{collections::BTreeMap, io, sync::Arc};

use infra_core::{Clock, Result};
use parking_lot::RwLock;

use crate::{
    documents::{Documents, Setup},
    engine::{Change, Engine, Range, Target, Visit, VisitTarget},
    witness::Mark,
};

/// A map in memory.
#[derive(Debug, Default)]
pub(crate) struct Memory(RwLock<BTreeMap<Vec<u8>, Vec<u8>>>);

impl Engine for Memory {
    fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.read().get(key).cloned())
    }

    fn visit(&self, range: Range, is_reverse: bool, visit: &mut Visit<'_>) -> io::Result<()> {
        let map = self.0.read();
        let mut entries = map.range(range);
        while let Some((key, value)) = if is_reverse { entries.next_back() } else { entries.next() }
        {
            if !visit(key, value) {
                break;
            }
        }
        Ok(())
    }

    fn visit_targets(
        &self,
        range: Range,
        is_reverse: bool,
        target: &Target<'_>,
        visit: &mut VisitTarget<'_>,
    ) -> io::Result<()> {
        let map = self.0.read();
        let mut keys = map.range(range).map(|(key, _)| key);
        while let Some(key) = if is_reverse { keys.next_back() } else { keys.next() } {
            let value = target(key).and_then(|target| map.get(&target));
            if !visit(key, value.map(Vec::as_slice)) {
                break;
            }
        }
        Ok(())
    }

    fn dump(&self, visit: &mut Visit<'_>) -> io::Result<()> {
        let copy = self.0.read().clone();
        for (key, value) in &copy {
            if !visit(key, value) {
                break;
            }
        }
        Ok(())
    }

    fn apply(&self, changes: Vec<Change>) -> io::Result<()> {
        let mut map = self.0.write();
        for (key, value) in changes {
            match value {
                Some(value) => map.insert(key, value),
                None => map.remove(&key),
            };
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn revive(&self, _key: &[u8], _value: Option<&[u8]>) -> io::Result<()> {
        Ok(())
    }
}

/// Creates a document store in memory that keeps no older versions; times come from `clock`.
///
/// Everything is lost at the end of the process, whatever durability a batch asks for.
///
/// # Errors
///
/// [`Unavailable`](infra_core::ErrorKind::Unavailable) if no thread can be started.
pub fn memory(clock: Arc<dyn Clock>) -> Result<Documents> {
    memory_with_history(clock, 0)
}

/// Creates a document store in memory that keeps the newest `versions` of each document.
///
/// # Errors
///
/// As for [`memory`].
pub fn memory_with_history(clock: Arc<dyn Clock>, versions: u64) -> Result<Documents> {
    let setup = Setup { clock, mark: Mark::default(), witness: None, history: versions };
    Documents::start(Arc::new(Memory::default()), setup)
}
