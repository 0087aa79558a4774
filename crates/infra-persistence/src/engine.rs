//! What the document store needs of an engine: an ordered map of bytes with atomic writes.

use std::{fmt::Debug, io, ops::Bound};

/// A key with its new value, or with none to remove it.
pub(crate) type Change = (Vec<u8>, Option<Vec<u8>>);

/// A range of keys.
pub(crate) type Range = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// Takes a key and its value; returns whether to go on.
pub(crate) type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> bool + 'a;

/// Makes the key of another entry of a key, if it has one.
pub(crate) type Target<'a> = dyn Fn(&[u8]) -> Option<Vec<u8>> + 'a;

/// Takes a key and the value of its target; returns whether to go on.
pub(crate) type VisitTarget<'a> = dyn FnMut(&[u8], Option<&[u8]>) -> bool + 'a;

/// An ordered map of bytes.
pub(crate) trait Engine: Send + Sync + Debug + 'static {
    /// Returns the value of a key.
    fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>>;

    /// Visits the keys of a range in order, or in reverse.
    fn visit(&self, range: Range, is_reverse: bool, visit: &mut Visit<'_>) -> io::Result<()>;

    /// Visits the keys of a range in order, or in reverse, each with the value of its target, all as they
    /// were at one instant.
    fn visit_targets(
        &self,
        range: Range,
        is_reverse: bool,
        target: &Target<'_>,
        visit: &mut VisitTarget<'_>,
    ) -> io::Result<()>;

    /// Visits all keys in order, as they were at one instant, whatever is applied meanwhile.
    fn dump(&self, visit: &mut Visit<'_>) -> io::Result<()>;

    /// Applies changes all together; readers see them at once, a crash may undo them.
    fn apply(&self, changes: Vec<Change>) -> io::Result<()>;

    /// Hands all that was applied to the operating system, so that it survives the process.
    fn flush(&self) -> io::Result<()>;

    /// Makes all that was applied durable.
    fn sync(&self) -> io::Result<()>;

    /// Takes changes again after `apply` or `flush` found no room, with all that was applied and nothing of
    /// what was not, and all of it durable. `key` has to have this value then, or none; if it has not, or
    /// anything but room is missing, what is left takes nothing more.
    ///
    /// Fails with [`StorageFull`](io::ErrorKind::StorageFull), [`QuotaExceeded`](io::ErrorKind::QuotaExceeded),
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) or [`TimedOut`](io::ErrorKind::TimedOut) if it may be tried
    /// again.
    fn revive(&self, key: &[u8], value: Option<&[u8]>) -> io::Result<()>;
}
