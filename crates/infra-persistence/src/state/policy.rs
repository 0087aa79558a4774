//! When a snapshot is due: a pure decision over what happened since the last one.

use std::{fmt, sync::Arc, time::Duration};

use infra_core::clock::Instant;

/// Why a snapshot is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Enough events have come since the last one.
    Count,
    /// Enough bytes of events have come since the last one.
    Bytes,
    /// The last one is old enough, and something has happened since.
    Age,
    /// The machine has entered another phase.
    PhaseChange,
    /// A condition of the user's own holds.
    Predicate,
    /// A command failed with an error.
    Error,
    /// The machine is being closed.
    Shutdown,
    /// Somebody asked for it.
    Manual,
}

/// A condition of the user's own over the phases before and after a change.
pub type SnapshotRule = Arc<dyn Fn(&str, &str) -> bool + Send + Sync>;

/// When snapshots are taken, and how many are kept.
///
/// The default takes one every 100 events and at the close, and keeps three, so that one damaged
/// snapshot costs replay and nothing else. Each rule only adds.
///
/// ```
/// use std::time::Duration;
/// use infra_persistence::state::SnapshotPolicy;
///
/// let policy = SnapshotPolicy::never().every(50).older_than(Duration::from_secs(300)).keep(5);
/// assert_eq!(policy.kept(), 5);
/// ```
#[derive(Clone)]
pub struct SnapshotPolicy {
    every: Option<u64>,
    bytes: Option<u64>,
    age: Option<Duration>,
    on_phase_change: bool,
    on_error: bool,
    on_shutdown: bool,
    rule: Option<SnapshotRule>,
    keep: usize,
}

impl SnapshotPolicy {
    /// Creates a policy without any rule, which keeps three snapshots of those that are asked for.
    pub const fn never() -> Self {
        Self {
            every: None,
            bytes: None,
            age: None,
            on_phase_change: false,
            on_error: false,
            on_shutdown: false,
            rule: None,
            keep: 3,
        }
    }

    /// Takes one when that many events have come since the last; zero switches the rule off.
    #[must_use]
    pub const fn every(mut self, n_events: u64) -> Self {
        self.every = if n_events == 0 { None } else { Some(n_events) };
        self
    }

    /// Takes one when the events since the last have that many bytes.
    #[must_use]
    pub const fn bytes(mut self, bytes: u64) -> Self {
        self.bytes = Some(bytes);
        self
    }

    /// Takes one at the first change after the last one has reached that age.
    #[must_use]
    pub const fn older_than(mut self, age: Duration) -> Self {
        self.age = Some(age);
        self
    }

    /// Takes one whenever the phase has changed.
    #[must_use]
    pub const fn on_phase_change(mut self) -> Self {
        self.on_phase_change = true;
        self
    }

    /// Takes one when a command failed with an error and something has happened since the last one.
    #[must_use]
    pub const fn on_error(mut self) -> Self {
        self.on_error = true;
        self
    }

    /// Takes one at the close if something has happened since the last one.
    #[must_use]
    pub const fn on_shutdown(mut self) -> Self {
        self.on_shutdown = true;
        self
    }

    /// Takes one when a condition over the phases before and after a change holds.
    #[must_use]
    pub fn when(mut self, rule: impl Fn(&str, &str) -> bool + Send + Sync + 'static) -> Self {
        self.rule = Some(Arc::new(rule));
        self
    }

    /// Keeps that many, at least one.
    #[must_use]
    pub fn keep(mut self, keep: usize) -> Self {
        self.keep = keep.max(1);
        self
    }

    /// Returns how many are kept.
    pub const fn kept(&self) -> usize {
        self.keep
    }

    /// Decides what a change makes due.
    pub(super) fn after_change(
        &self,
        progress: &Progress,
        change: &ChangeSeen<'_>,
    ) -> Option<Reason> {
        let is_other_phase = change.from != change.to;
        let by_rule = self.rule.as_ref().is_some_and(|rule| rule(change.from, change.to));
        let is_old = |age| age <= change.now.since(progress.taken);
        let rules = [
            (Reason::PhaseChange, self.on_phase_change && is_other_phase),
            (Reason::Count, self.every.is_some_and(|every| every <= progress.n_events)),
            (Reason::Bytes, self.bytes.is_some_and(|bytes| bytes <= progress.bytes)),
            (Reason::Age, self.age.is_some_and(is_old)),
            (Reason::Predicate, by_rule),
        ];
        rules.into_iter().find_map(|(reason, is_due)| is_due.then_some(reason))
    }

    /// Decides whether an error makes one due.
    pub(super) const fn after_error(&self, progress: &Progress) -> Option<Reason> {
        if self.on_error && 0 < progress.n_events { Some(Reason::Error) } else { None }
    }

    /// Decides whether the close makes one due.
    pub(super) const fn at_shutdown(&self, progress: &Progress) -> Option<Reason> {
        if self.on_shutdown && 0 < progress.n_events { Some(Reason::Shutdown) } else { None }
    }
}

impl Default for SnapshotPolicy {
    fn default() -> Self {
        Self::never().every(100).on_shutdown()
    }
}

impl fmt::Debug for SnapshotPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { every, bytes, age, on_phase_change, on_error, on_shutdown, rule, keep } = self;
        f.debug_struct("SnapshotPolicy")
            .field("every", every)
            .field("bytes", bytes)
            .field("age", age)
            .field("on_phase_change", on_phase_change)
            .field("on_error", on_error)
            .field("on_shutdown", on_shutdown)
            .field("has_rule", &rule.is_some())
            .field("keep", keep)
            .finish()
    }
}

/// What has happened since the last snapshot.
#[derive(Debug, Clone, Copy)]
pub(super) struct Progress {
    pub(super) n_events: u64,
    pub(super) bytes: u64,
    pub(super) taken: Instant,
}

impl Progress {
    /// Nothing has happened since `now`.
    pub(super) const fn none(now: Instant) -> Self {
        Self { n_events: 0, bytes: 0, taken: now }
    }
}

/// A change of the machine.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChangeSeen<'a> {
    pub(super) from: &'a str,
    pub(super) to: &'a str,
    pub(super) now: Instant,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(n_events: u64, bytes: u64) -> Progress {
        Progress { n_events, bytes, taken: Instant::START }
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_start(Duration::from_secs(seconds))
    }

    #[test]
    fn each_rule_is_due_at_its_bound_and_not_before() {
        let never = SnapshotPolicy::never;
        let cases = [
            (never(), progress(1_000, 1_000), ("a", "b"), 1_000, None),
            (never().every(3), progress(2, 0), ("a", "a"), 0, None),
            (never().every(3), progress(3, 0), ("a", "a"), 0, Some(Reason::Count)),
            (never().every(0), progress(3, 0), ("a", "a"), 0, None),
            (never().bytes(10), progress(1, 9), ("a", "a"), 0, None),
            (never().bytes(10), progress(1, 10), ("a", "a"), 0, Some(Reason::Bytes)),
            (never().older_than(Duration::from_secs(30)), progress(1, 1), ("a", "a"), 29, None),
            (
                never().older_than(Duration::from_secs(30)),
                progress(1, 1),
                ("a", "a"),
                30,
                Some(Reason::Age),
            ),
            (never().on_phase_change(), progress(1, 1), ("a", "a"), 0, None),
            (never().on_phase_change(), progress(1, 1), ("a", "b"), 0, Some(Reason::PhaseChange)),
            (never().when(|_, to| to == "end"), progress(1, 1), ("a", "b"), 0, None),
            (
                never().when(|_, to| to == "end"),
                progress(1, 1),
                ("a", "end"),
                0,
                Some(Reason::Predicate),
            ),
        ];
        for (policy, progress, (from, to), seconds, expected) in cases {
            let change = ChangeSeen { from, to, now: at(seconds) };
            assert_eq!(policy.after_change(&progress, &change), expected, "{policy:?}");
        }
    }

    #[test]
    fn the_triggers_of_error_and_close_need_something_new() {
        for (n_events, has_new) in [(0, false), (1, true)] {
            let progress = progress(n_events, 0);
            let policy = SnapshotPolicy::never().on_error().on_shutdown();
            assert_eq!(policy.after_error(&progress), has_new.then_some(Reason::Error));
            assert_eq!(policy.at_shutdown(&progress), has_new.then_some(Reason::Shutdown));
            assert_eq!(SnapshotPolicy::never().after_error(&progress), None);
            assert_eq!(SnapshotPolicy::never().at_shutdown(&progress), None);
        }
        assert_eq!(SnapshotPolicy::never().keep(0).kept(), 1);
    }
}
