//! Many machines, the most recently used ones in memory.

use std::{collections::HashMap, sync::Arc};

use infra_core::{Error, ErrorKind, Result, id::StreamName};
use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, OnceCell};

use super::{durable::Durable, options::DurableOptions, persistent::Persistent, telemetry};

/// A machine in memory; whoever holds the lock is its only writer.
type Shared<M> = Arc<AsyncMutex<Durable<M>>>;

/// How many machines, and how each is kept.
#[derive(Debug, Clone)]
pub struct MachinesOptions {
    machine: DurableOptions,
    capacity: usize,
}

impl MachinesOptions {
    /// Creates the options: at most 10,000 machines in memory.
    pub const fn new(machine: DurableOptions) -> Self {
        Self { machine, capacity: 10_000 }
    }

    /// Sets how many machines are in memory at the most.
    #[must_use]
    pub fn capacity(mut self, capacity: usize) -> Self {
        self.capacity = capacity.max(1);
        self
    }
}

/// How often machines were found in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// They were.
    pub hits: u64,
    /// They had to be recovered.
    pub misses: u64,
    /// How many are in memory now.
    pub resident: usize,
}

/// The machines of one kind, each recovered when it is first asked for.
///
/// What is in memory is stored as well, so leaving memory loses nothing. Over capacity the machine that was
/// asked for longest ago and is in nobody's hands leaves; if all are in somebody's hands, the new one is
/// refused as `Overloaded`.
#[derive(Debug)]
pub struct Machines<M: Persistent> {
    options: MachinesOptions,
    state: Mutex<Resident<M>>,
}

#[derive(Debug)]
struct Resident<M: Persistent> {
    machines: HashMap<StreamName, Slot<M>>,
    n_asked: u64,
    tally: Tally,
}

#[derive(Debug)]
struct Slot<M: Persistent> {
    cell: Arc<OnceCell<Shared<M>>>,
    asked: u64,
}

impl<M: Persistent> Machines<M> {
    /// Creates the machines; none is in memory.
    pub fn new(options: MachinesOptions) -> Self {
        let state = Resident { machines: HashMap::new(), n_asked: 0, tally: Tally::default() };
        Self { options, state: Mutex::new(state) }
    }

    /// Returns a machine, recovered at most once however many ask at the same time.
    ///
    /// # Errors
    ///
    /// As [`Durable::open`], and `Overloaded` if all machines in memory are in use.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the recovery to the next who asks.
    pub async fn get(&self, stream: &StreamName) -> Result<Arc<AsyncMutex<Durable<M>>>> {
        let cell = self.slot(stream)?;
        let open = || async {
            let (durable, _) = Durable::open(stream.clone(), self.options.machine.clone()).await?;
            Ok(Arc::new(AsyncMutex::new(durable)))
        };
        let found = cell.get_or_try_init(open).await.map(Arc::clone);
        if found.is_err() {
            self.forget_failed(stream, &cell);
        }
        found
    }

    fn slot(&self, stream: &StreamName) -> Result<Arc<OnceCell<Shared<M>>>> {
        let mut state = self.state.lock();
        state.n_asked = state.n_asked.saturating_add(1);
        let asked = state.n_asked;
        if let Some(slot) = state.machines.get_mut(stream) {
            slot.asked = asked;
            let cell = Arc::clone(&slot.cell);
            state.tally.hits = state.tally.hits.saturating_add(1);
            telemetry::RESIDENT_HITS.add(1);
            return Ok(cell);
        }
        if self.options.capacity <= state.machines.len() {
            state.make_room()?;
        }
        let cell = Arc::new(OnceCell::new());
        state.machines.insert(stream.clone(), Slot { cell: Arc::clone(&cell), asked });
        state.tally.misses = state.tally.misses.saturating_add(1);
        telemetry::RESIDENT_MISSES.add(1);
        Ok(cell)
    }

    fn forget_failed(&self, stream: &StreamName, cell: &Arc<OnceCell<Shared<M>>>) {
        let mut state = self.state.lock();
        let is_it = state.machines.get(stream).is_some_and(|slot| Arc::ptr_eq(&slot.cell, cell));
        if is_it && cell.get().is_none() {
            state.machines.remove(stream);
        }
    }

    /// Returns how often machines were found in memory.
    pub fn tally(&self) -> Tally {
        let state = self.state.lock();
        Tally { resident: state.machines.len(), ..state.tally }
    }

    /// Takes all machines that nobody holds out of memory and closes them; those in use are left.
    ///
    /// # Errors
    ///
    /// The first error of a close; the others are closed all the same.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves some without the snapshot that their policy wants; nothing is lost.
    pub async fn close_idle(&self) -> Result<()> {
        let idle: Vec<Slot<M>> = {
            let mut state = self.state.lock();
            state.machines.extract_if(|_, slot| slot.is_idle()).map(|(_, slot)| slot).collect()
        };
        let mut first = Ok(());
        for slot in idle {
            let durable = Arc::into_inner(slot.cell).and_then(OnceCell::into_inner);
            let Some(durable) = durable.and_then(Arc::into_inner) else { continue };
            let closed = durable.into_inner().close().await;
            first = first.and(closed);
        }
        first
    }
}

impl<M: Persistent> Slot<M> {
    /// Nobody else holds it, and it is not being recovered.
    fn is_idle(&self) -> bool {
        Arc::strong_count(&self.cell) == 1
            && self.cell.get().is_some_and(|shared| Arc::strong_count(shared) == 1)
    }
}

impl<M: Persistent> Resident<M> {
    fn make_room(&mut self) -> Result<()> {
        let idle = self.machines.iter().filter(|(_, slot)| slot.is_idle());
        let oldest = idle.min_by_key(|(_, slot)| slot.asked).map(|(stream, _)| stream.clone());
        let oldest = oldest.ok_or_else(|| {
            Error::new(ErrorKind::Overloaded, "recover machine")
                .detail(format!("all {} machines in memory are in use", self.machines.len()))
        })?;
        self.machines.remove(&oldest);
        Ok(())
    }
}
