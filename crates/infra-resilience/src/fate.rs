//! What is known of a call after attempts that failed.

use infra_core::{Error, ErrorKind};

use crate::refused::Refused;

/// What an attempt that failed may have done, the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    /// It was not begun.
    NotBegun,
    /// It was begun, and failed.
    Failed,
    /// It may have happened.
    Unknown,
}

impl Fate {
    fn of(error: &Error) -> Self {
        if *error.kind() == ErrorKind::Indeterminate {
            return Self::Unknown;
        }
        if Refused::of(error).is_some() { Self::NotBegun } else { Self::Failed }
    }
}

/// Returns what is known after two attempts of which neither saw the other: the error of the one that may
/// have done more, the later one's if they are the same in that.
pub(crate) fn of_both(earlier: Error, later: Error) -> Error {
    if Fate::of(&later) < Fate::of(&earlier) { earlier } else { later }
}

/// Returns what is known after attempts one after another: a last one that was answered settles what
/// became of those before.
pub(crate) fn of_all(earlier: Option<Error>, last: Error) -> Error {
    match earlier {
        Some(earlier) if is_no_answer(&last) => of_both(earlier, last),
        Some(_) | None => last,
    }
}

/// Returns whether an error says nothing of what became of an attempt before: it failed for the moment, or
/// the engine takes nothing any more, as a log does after the very write that is in doubt.
fn is_no_answer(error: &Error) -> bool {
    let is_shut = matches!(error.kind(), ErrorKind::Poisoned | ErrorKind::Closed);
    error.is_transient() || is_shut || Fate::of(error) == Fate::Unknown
}
