//! Faults of a disk, on purpose: which operation fails next, and with what.
//!
//! A component with a disk of its own kind asks [`DiskFaults::check`] before each operation of the
//! real one. So one plan of faults fits every abstraction of a disk.

use std::{io, sync::Arc, time::Duration};

use parking_lot::Mutex;

/// What is done to a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// A file is opened or made.
    Open,
    /// Bytes are read.
    Read,
    /// Bytes are written.
    Write,
    /// Written bytes are made durable.
    Sync,
    /// The entries of a folder are made durable.
    SyncFolder,
    /// Space is reserved.
    Allocate,
    /// A file is cut or extended.
    Resize,
    /// A file is removed or renamed.
    Remove,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The device reports an error (EIO).
    Broken,
    /// No space is left (ENOSPC).
    Full,
    /// It works, but takes this long.
    Slow(Duration),
}

impl Fault {
    fn strike(self) -> io::Result<()> {
        match self {
            Self::Broken => Err(io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error())),
            Self::Full => Err(io::ErrorKind::StorageFull.into()),
            Self::Slow(pause) => {
                wait(pause);
                Ok(())
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a slow disk blocks the thread that waits for it")]
fn wait(pause: Duration) {
    std::thread::sleep(pause);
}

#[derive(Debug, Clone, Copy)]
struct Rule {
    operation: Operation,
    fault: Fault,
    /// How many operations succeed before it strikes.
    after: u64,
    /// How often it strikes; without end if `None`.
    times: Option<u64>,
}

/// A plan of faults. Clones share it.
///
/// ```
/// use infra_testkit::disk::{DiskFaults, Fault, Operation};
///
/// let faults = DiskFaults::none();
/// faults.once(Operation::Sync, Fault::Broken, 1);
/// assert!(faults.check(Operation::Sync).is_ok(), "the first one succeeds");
/// assert!(faults.check(Operation::Sync).is_err());
/// assert!(faults.check(Operation::Sync).is_ok());
/// ```
#[derive(Debug, Clone, Default)]
pub struct DiskFaults(Arc<Mutex<Vec<Rule>>>);

impl DiskFaults {
    /// Creates the plan of a disk that works.
    pub fn none() -> Self {
        Self::default()
    }

    /// From now on every operation of this kind fails, until [`DiskFaults::heal`].
    pub fn always(&self, operation: Operation, fault: Fault) {
        self.0.lock().push(Rule { operation, fault, after: 0, times: None });
    }

    /// The operation of this kind that comes after `after` others fails, once.
    pub fn once(&self, operation: Operation, fault: Fault, after: u64) {
        self.0.lock().push(Rule { operation, fault, after, times: Some(1) });
    }

    /// From now on everything works.
    pub fn heal(&self) {
        self.0.lock().clear();
    }

    /// Lets an operation go on, or fails it.
    ///
    /// # Errors
    ///
    /// The planned fault.
    pub fn check(&self, operation: Operation) -> io::Result<()> {
        let fault = self.0.lock().iter_mut().find_map(|rule| rule.meet(operation));
        fault.map_or(Ok(()), Fault::strike)
    }
}

impl Rule {
    fn meet(&mut self, operation: Operation) -> Option<Fault> {
        if self.operation != operation || self.times == Some(0) {
            return None;
        }
        if 0 < self.after {
            self.after -= 1;
            return None;
        }
        self.times = self.times.map(|times| times - 1);
        Some(self.fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_strikes_its_operation_alone_and_until_it_is_healed() {
        let faults = DiskFaults::none();
        faults.always(Operation::Write, Fault::Full);
        faults.always(Operation::Sync, Fault::Slow(Duration::ZERO));
        assert!(faults.check(Operation::Read).is_ok());
        assert!(faults.check(Operation::Sync).is_ok());
        let kind = || faults.clone().check(Operation::Write).map_err(|error| error.kind());
        assert_eq!(kind(), Err(io::ErrorKind::StorageFull));
        assert_eq!(kind(), Err(io::ErrorKind::StorageFull));
        faults.heal();
        assert_eq!(kind(), Ok(()));
    }

    #[test]
    fn a_fault_can_strike_once_after_others_succeeded() {
        let faults = DiskFaults::none();
        faults.once(Operation::Sync, Fault::Broken, 2);
        let outcomes: Vec<bool> = (0..4).map(|_| faults.check(Operation::Sync).is_ok()).collect();
        assert_eq!(outcomes, [true, true, false, true]);
    }
}
