//! Which process serves from a data folder: one at a time, wherever its events are kept.

use std::{
    fs::{File, TryLockError},
    io,
    path::Path,
    time::Duration,
};

use infra_core::Clock;

/// How often it is looked whether the other process has ended.
const PAUSE: Duration = Duration::from_millis(20);

/// The right to serve from a data folder; it ends with this value, or with the process.
#[derive(Debug)]
pub(super) struct Occupancy {
    _lock: File,
}

impl Occupancy {
    /// Takes a folder, and waits up to `patience` for another process to leave it.
    ///
    /// So a process that is started at the moment at which another one is asked to end takes over
    /// from it: it reads nothing before the other one has written its last.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] if the other process stays; what the disk fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future takes nothing.
    pub(super) async fn take(
        folder: &Path,
        patience: Duration,
        clock: &dyn Clock,
    ) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let path = folder.join("lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&path)?;
        let begun = clock.now();
        let mut is_told = false;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(Self { _lock: lock }),
                Err(TryLockError::Error(error)) => return Err(error),
                Err(TryLockError::WouldBlock) => {}
            }
            if patience <= clock.now().since(begun) {
                let text = format!("{} is held by another process", path.display());
                return Err(io::Error::new(io::ErrorKind::WouldBlock, text));
            }
            if !is_told {
                tracing::info!(folder = %folder.display(), "waits for the process that serves here");
                is_told = true;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use infra_core::SystemClock;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_folder_is_taken_once_the_other_one_leaves_it_and_refused_if_it_stays() {
        let folder = std::env::temp_dir().join(format!("occupancy-{}", std::process::id()));
        let clock = SystemClock::new();
        let take = |patience| Occupancy::take(&folder, patience, &clock);
        let first = take(Duration::ZERO).await.unwrap();
        let refused = take(Duration::from_secs(3)).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        assert!(refused.to_string().contains("held by another process"), "{refused}");
        assert!(Duration::from_secs(3) <= clock.now().since_start());
        let leaves = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            drop(first);
        };
        let (taken, ()) = tokio::join!(take(Duration::from_secs(3)), leaves);
        let _second = taken.unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
