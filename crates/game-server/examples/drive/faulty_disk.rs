//! The disk below an event log, failing as a plan of faults says.

use std::{io, path::Path};

use infra_events::{Disk, DiskFile, RealDisk};
use infra_testkit::disk::{DiskFaults, Operation};

/// The real disk, with faults.
#[derive(Debug)]
pub(crate) struct FaultyDisk(pub(crate) DiskFaults);

#[derive(Debug)]
struct FaultyFile(Box<dyn DiskFile>, DiskFaults);

impl Disk for FaultyDisk {
    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        RealDisk.create_folder(folder)
    }

    fn open(&self, path: &Path, create: bool) -> io::Result<Box<dyn DiskFile>> {
        self.0.check(Operation::Open)?;
        Ok(Box::new(FaultyFile(RealDisk.open(path, create)?, self.0.clone())))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(folder)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.check(Operation::Remove)?;
        RealDisk.remove(path)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.0.check(Operation::SyncFolder)?;
        RealDisk.sync_folder(folder)
    }
}

impl DiskFile for FaultyFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.1.check(Operation::Read)?;
        self.0.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.1.check(Operation::Write)?;
        self.0.write_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.1.check(Operation::Sync)?;
        self.0.sync()
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        self.1.check(Operation::Allocate)?;
        self.0.allocate(length)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.1.check(Operation::Resize)?;
        self.0.set_len(length)
    }

    fn length(&self) -> io::Result<u64> {
        self.0.length()
    }
}
