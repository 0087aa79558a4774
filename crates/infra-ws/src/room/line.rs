//! How far the stream of a room was handed to those who listen here.

/// What an event means to a node that has handed out everything up to its head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Step {
    /// It is the next one.
    Next,
    /// It was handed out already.
    Old,
    /// Others come before it: the history must be read.
    Hole,
    /// It belongs to another incarnation of the stream.
    Anew,
}

/// The epoch of a stream and the last offset that was handed out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Line {
    pub(super) epoch: String,
    pub(super) head: u64,
}

impl Line {
    /// Judges an event, and moves on if it is the next one.
    pub(super) fn step(&mut self, epoch: &str, offset: u64) -> Step {
        if self.epoch != epoch {
            if !self.epoch.is_empty() {
                return Step::Anew;
            }
            epoch.clone_into(&mut self.epoch);
        }
        if offset <= self.head {
            return Step::Old;
        }
        if self.head + 1 < offset {
            return Step::Hole;
        }
        self.head = offset;
        Step::Next
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_event_is_handed_out_once_in_order_however_they_come(
            offers in proptest::collection::vec(1..8_u64, 0..60),
        ) {
            let mut line = Line::default();
            let mut handed = Vec::new();
            for offset in offers {
                if line.step("a", offset) == Step::Next {
                    handed.push(offset);
                }
                prop_assert_eq!(line.step("b", offset), Step::Anew);
            }
            prop_assert_eq!(handed, (1..=line.head).collect::<Vec<_>>());
        }
    }
}
