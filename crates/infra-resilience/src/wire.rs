//! Deadline, extra attempts and priority on their way to another process.
//!
//! One header, a dictionary as RFC 9651 has it: `call-budget: deadline=1500, extra=2,
//! priority=high`. The deadline is what is left in milliseconds, since no two processes share a
//! clock; the extra attempts are lent by the caller, and what is not spent comes back with the
//! answer, in `call-budget-unspent`. So all processes together make no more extra attempts than the first
//! one allowed. What cannot be read is refused as a whole; a queue's metadata takes the same text.
//!
//! ```
//! use std::time::Duration;
//! use infra_core::{budget::{CallBudget, Deadline}, clock::Instant, context::Context};
//! use infra_resilience::wire::{self, Outgoing};
//!
//! let now = Instant::START;
//! let context = Context::default()
//!     .deadline(Deadline::after(now, Duration::from_millis(1_500)))
//!     .budget(CallBudget::new(4));
//! let outgoing = Outgoing::new(&context, now, Duration::from_millis(10));
//! assert_eq!(outgoing.header(), Some("deadline=1490, extra=2, priority=normal"));
//!
//! // In the other process, on its own clock:
//! let there = wire::read(outgoing.header().unwrap(), now)?;
//! assert_eq!(there.budget_of().map(CallBudget::left), Some(2));
//! let unspent = wire::unspent(&there).unwrap();
//!
//! // And back:
//! outgoing.answered(Some(&unspent));
//! assert_eq!(context.budget_of().map(CallBudget::left), Some(4));
//! # Ok::<(), infra_core::Error>(())
//! ```

use std::time::Duration;

use infra_core::{
    Error, Result,
    budget::{CallBudget, Deadline, Priority},
    clock::Instant,
    context::Context,
};

/// The name of the header of a request.
pub const HEADER: &str = "call-budget";
/// The name of the header of its answer.
pub const UNSPENT: &str = "call-budget-unspent";

/// The longest header that is read.
const LONGEST: usize = 256;

/// What goes out with one request, and comes back with its answer.
///
/// Half of the extra attempts are lent, rounded up. Dropped without an answer they are gone: the other
/// process may have spent them.
#[derive(Debug)]
#[must_use]
pub struct Outgoing {
    header: Option<String>,
    budget: Option<CallBudget>,
    lent: u32,
}

impl Outgoing {
    /// Writes what is left at `now`; the deadline is made earlier by what the way takes.
    pub fn new(context: &Context, now: Instant, way: Duration) -> Self {
        let budget = context.budget_of();
        let lent = budget.map(|budget| budget.lend(budget.left().div_ceil(2)));
        let time = context.deadline_of().map(|deadline| deadline.left(now).saturating_sub(way));
        let mut members = Vec::new();
        members.extend(time.map(|time| format!("deadline={}", time.as_millis().min(MOST))));
        if let Some(lent) = &lent {
            let (extra, priority) = (lent.left(), lent.priority_of().name());
            members.push(format!("extra={extra}, priority={priority}"));
        }
        let header = (!members.is_empty()).then(|| members.join(", "));
        Self { header, budget: budget.cloned(), lent: lent.map_or(0, |lent| lent.left()) }
    }

    /// Returns the header's value; `None` if there is nothing to tell.
    pub fn header(&self) -> Option<&str> {
        self.header.as_deref()
    }

    /// Takes back what the other process says it did not spend, no more than it was lent.
    pub fn answered(self, unspent: Option<&str>) {
        let unspent = unspent.and_then(|text| text.parse::<u32>().ok()).unwrap_or(0);
        if let Some(budget) = &self.budget {
            budget.give_back(unspent.min(self.lent));
        }
    }
}

/// The largest integer of RFC 9651.
const MOST: u128 = 999_999_999_999_999;

/// Reads a header that came in at `now` into a context.
///
/// Members that are not known are passed over, so that later versions can add some.
///
/// # Errors
///
/// [`Invalid`](infra_core::ErrorKind::Invalid) if it is too long or a known member is malformed.
pub fn read(header: &str, now: Instant) -> Result<Context> {
    let refuse = |why| Error::invalid("read call budget", why);
    if LONGEST < header.len() {
        return Err(refuse("longer than 256 bytes"));
    }
    let (mut deadline, mut extra, mut priority) = (None, None, None);
    for member in header.split(',').map(str::trim).filter(|member| !member.is_empty()) {
        let (name, value) = member.split_once('=').unwrap_or((member, ""));
        match name {
            "deadline" => deadline = Some(number(value).ok_or(refuse("deadline"))?),
            "extra" => {
                let number = number(value).ok_or(refuse("extra"))?;
                extra = Some(u32::try_from(number).map_err(|_| refuse("extra"))?);
            }
            "priority" => {
                let known = Priority::ALL.into_iter().find(|known| known.name() == value);
                priority = Some(known.ok_or(refuse("priority"))?);
            }
            _ => {}
        }
    }
    let mut context = Context::default();
    if let Some(millis) = deadline {
        context = context.deadline(Deadline::after(now, Duration::from_millis(millis)));
    }
    if extra.is_some() || priority.is_some() {
        let budget = CallBudget::new(extra.unwrap_or(0)).priority(priority.unwrap_or_default());
        context = context.budget(budget);
    }
    Ok(context)
}

/// Returns what goes back with the answer: the extra attempts that were not spent.
pub fn unspent(context: &Context) -> Option<String> {
    context.budget_of().map(|budget| budget.left().to_string())
}

/// Reads 1 to 15 digits, as RFC 9651 has integers.
fn number(text: &str) -> Option<u64> {
    let is_plain = (1..=15).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Instant = Instant::START;

    #[test]
    fn what_is_empty_writes_nothing_and_reads_as_empty() {
        let outgoing = Outgoing::new(&Context::default(), NOW, Duration::ZERO);
        assert_eq!(outgoing.header(), None);
        outgoing.answered(Some("7"));
        let context = read("", NOW).unwrap();
        assert!(context.deadline_of().is_none() && context.budget_of().is_none());
        assert_eq!(unspent(&context), None);
    }

    #[test]
    fn malformed_members_are_refused_and_unknown_ones_passed_over() {
        let malformed = [
            "deadline=",
            "deadline=-1",
            "deadline=1e3",
            "deadline=9999999999999999",
            "extra=x",
            "extra=4294967296",
            "priority=urgent",
            "priority",
            "deadline",
        ];
        for header in malformed {
            assert!(read(header, NOW).is_err(), "{header}");
        }
        assert!(read(&"a=1,".repeat(100), NOW).is_err());
        let context = read("new=1, extra=3,priority=low, other", NOW).unwrap();
        let budget = context.budget_of().unwrap();
        assert_eq!((budget.left(), budget.priority_of()), (3, Priority::Low));
    }

    #[test]
    fn an_answer_that_gives_back_more_than_was_lent_gives_back_what_was_lent() {
        let budget = CallBudget::new(5);
        let context = Context::default().budget(budget.clone());
        for (unspent, left) in [(Some("99"), 5), (Some("x"), 2), (None, 1)] {
            let outgoing = Outgoing::new(&context, NOW, Duration::ZERO);
            outgoing.answered(unspent);
            assert_eq!(budget.left(), left);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_without_a_panic(text in ".{0,300}") {
            let _either = read(&text, NOW);
        }

        #[test]
        fn what_was_written_is_read(
            millis in 0_u64..100_000_000, extra in 0_u32..1_000, priority in 0_usize..4,
        ) {
            let budget = CallBudget::new(extra).priority(Priority::ALL[priority]);
            let context = Context::default()
                .deadline(Deadline::after(NOW, Duration::from_millis(millis)))
                .budget(budget.clone());
            let outgoing = Outgoing::new(&context, NOW, Duration::ZERO);
            let there = read(outgoing.header().unwrap(), NOW).unwrap();
            prop_assert_eq!(there.deadline_of(), context.deadline_of());
            let lent = there.budget_of().unwrap();
            prop_assert_eq!(lent.priority_of(), Priority::ALL[priority]);
            prop_assert_eq!(lent.left() + budget.left(), extra);
            outgoing.answered(unspent(&there).as_deref());
            prop_assert_eq!(budget.left(), extra);
        }
    }
}
