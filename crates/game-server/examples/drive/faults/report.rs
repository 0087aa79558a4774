//! A run as a line of a table.

use std::{fmt, time::Duration};

use super::{
    audit::Audit,
    fault::Case,
    told::{Told, listed},
};

/// What became of a run.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) case: Case,
    /// How many seats were played.
    pub(crate) rooms: usize,
    /// How many games ended.
    pub(crate) finished: usize,
    pub(crate) audit: Audit,
    /// Finished games that are not archived exactly once.
    pub(crate) unarchived: Vec<String>,
    /// Clients with an action that was never answered.
    pub(crate) stuck: usize,
    pub(crate) all: Told,
    /// The p95 before, and in the end.
    pub(crate) before: Duration,
    pub(crate) at_last: Option<Duration>,
    /// How long after the mending the games were as fast as before.
    pub(crate) normal: Option<Duration>,
    /// How long something was wrong.
    pub(crate) lasted: Duration,
    /// The most memory before and after, in bytes.
    pub(crate) memory: (u64, u64),
}

/// Returns the heading of the table.
pub(crate) const fn heading() -> &'static str {
    "| run | what goes wrong | actions | lost, doubled | wrong for | worst wait | refused for a while | \
     connections | came back | normal after | p95 before, after | memory |\n\
     |---|---|---|---|---|---|---|---|---|---|---|---|"
}

impl Row {
    /// Returns what must not be.
    pub(crate) fn wrong(&self) -> Vec<String> {
        let Audit { lost, doubled, notes, .. } = &self.audit;
        let name = self.case.name;
        let mut wrong = Vec::new();
        if 0 < lost + doubled {
            let first: Vec<_> = notes.iter().take(5).cloned().collect();
            wrong.push(format!("{name}: {lost} lost, {doubled} doubled: {}", first.join("; ")));
        }
        if 0 < self.stuck {
            wrong.push(format!("{name}: {} clients were never answered", self.stuck));
        }
        if !self.unarchived.is_empty() {
            wrong.push(format!("{name}: not archived once: {:?}", self.unarchived));
        }
        if self.normal.is_none() {
            wrong.push(format!("{name}: never as fast as before"));
        }
        wrong
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
        let millis = |time: Duration| format!("{:.0} ms", time.as_secs_f64() * 1_000.0);
        let mebibytes = |bytes: u64| bytes / 1024 / 1024;
        let never = || "never".to_owned();
        write!(
            f,
            "| {} | {} | {} in {} seats, {} games ended | {}, {} | {} | {} | {} | {} | {} + {} | {} | \
             {}, {} | {} → {} MiB |",
            self.case.name,
            self.case.what,
            self.audit.acks,
            self.rooms,
            self.finished,
            self.audit.lost,
            self.audit.doubled,
            seconds(self.lasted),
            seconds(self.all.worst),
            listed(&self.all.refused),
            listed(&self.all.ended),
            self.all.resumed,
            self.all.renewed,
            self.normal.map_or_else(never, seconds),
            millis(self.before),
            self.at_last.map_or_else(never, millis),
            mebibytes(self.memory.0),
            mebibytes(self.memory.1),
        )
    }
}
