//! Hurts everything that a playing server stands on, one thing at a time and two at once, and tells
//! what became of the games.
//!
//! Rooms of four play by a schedule that waits for nobody. At a known moment something is broken, a
//! while later it is mended; they play on until all is as fast as before. Then each action that was
//! acknowledged must be stored exactly once, where it was said to be.

mod audit;
mod client;
mod crowd;
mod fault;
mod pauses;
mod report;
pub(crate) mod roll;
pub(crate) mod serve;
mod stack;
mod told;

use std::time::{Duration, Instant};

use self::{
    audit::{Audit, audit, unarchived},
    crowd::{Crowd, Size},
    fault::{CASES, Case},
    report::{Row, heading},
    stack::Stack,
    told::{Normal, Told},
};
use crate::player::Failure;

const HELP: &str = include_str!("../help/faults.txt");

/// How long the games may take to be as fast as before.
const RECOVERY: Duration = Duration::from_mins(1);

/// How long an answer may take that is still counted when it is looked whether all is as before.
const LATE: Duration = Duration::from_secs(3);

/// How a run is played.
#[derive(Debug, Clone, Copy)]
struct Plan {
    size: Size,
    /// How long nothing is wrong at first, and how long they play on at least.
    calm: Duration,
    /// How long a fault lasts at most.
    longest: Duration,
}

/// Reads the options and runs.
pub(crate) async fn main(words: &[String]) -> Result<(), Failure> {
    let (only, words) = only(words);
    let known = ["--rooms", "--rate", "--seconds"];
    let Some(options) = crate::options(&words, HELP, &known)? else { return Ok(()) };
    let option = |name, default| options.get(name).copied().unwrap_or(default);
    let (rooms, rate) = (option("--rooms", 100), option("--rate", 60));
    let size = Size { rooms: u32::try_from(rooms)?, rate: u32::try_from(rate)? };
    let seconds = Duration::from_secs(option("--seconds", 8));
    let plan = Plan { size, calm: seconds, longest: seconds };
    let mut wrong = Vec::new();
    println!("{}", heading());
    for case in chosen(&only)? {
        match run(case, plan).await {
            Ok(row) => {
                println!("{row}");
                wrong.extend(row.wrong());
            }
            Err(error) => wrong.push(format!("{}: {error}", case.name)),
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n").into()) }
}

/// Takes the value of `--only` out of the options.
fn only(words: &[String]) -> (Vec<String>, Vec<String>) {
    let mut rest = words.to_vec();
    let mut names = Vec::new();
    if let Some(at) = rest.iter().position(|word| word == "--only") {
        let taken: Vec<String> = rest.drain(at..(at + 2).min(rest.len())).skip(1).collect();
        names.extend(taken.iter().flat_map(|list| list.split(',')).map(str::to_owned));
    }
    (names, rest)
}

fn chosen(names: &[String]) -> Result<Vec<Case>, Failure> {
    if names.is_empty() {
        return Ok(CASES.to_vec());
    }
    let find = |name: &String| {
        let case = CASES.iter().find(|case| case.name == name);
        let known: Vec<_> = CASES.iter().map(|case| case.name).collect();
        case.copied().ok_or_else(|| format!("`{name}` is none of {}", known.join(", ")).into())
    };
    names.iter().map(find).collect()
}

async fn run(case: Case, plan: Plan) -> Result<Row, Failure> {
    let mut stack = Stack::start(case.ground, case.program()).await?;
    let played = play(case, plan, &mut stack).await;
    played.map_err(|error| {
        let said = stack.complaints();
        format!("{error}\nthe server said last:\n{said}").into()
    })
}

async fn play(case: Case, plan: Plan, stack: &mut Stack) -> Result<Row, Failure> {
    let crowd = Crowd::seat(stack.addr, plan.size).await?;
    let settled = crowd.begin + Duration::from_secs(1);
    tokio::time::sleep_until((settled + plan.calm).into()).await;
    let before = stack.process()?.peak().unwrap_or_default();
    let broken = Instant::now();
    for fault in case.faults {
        fault.begin(stack, &crowd).await?;
    }
    tokio::time::sleep(Duration::from_secs(case.seconds).min(plan.longest)).await;
    for fault in case.faults {
        fault.end(stack, &crowd).await?;
    }
    let mended = Instant::now();
    // What was due just before may have been answered just after.
    let undisturbed = (broken - settled).saturating_sub(Duration::from_millis(500));
    let p95 = crowd.meter.p95(settled, undisturbed).map_or(Duration::ZERO, |(p95, _)| p95);
    let normal = Normal { p95, rate: plan.size.per_second() };
    let meter = std::sync::Arc::clone(&crowd.meter);
    let enough = mended + plan.calm;
    while Instant::now() < mended + RECOVERY {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = Instant::now();
        // What is not answered yet is not known to be slow.
        let known = now.checked_sub(LATE).unwrap_or(mended);
        if enough <= now && normal.after(&meter, mended, known).is_some() {
            break;
        }
    }
    let end = Instant::now();
    let heard = crowd.end().await?;
    let after = stack.process()?.peak().unwrap_or_default();
    let unarchived = catch_up(stack, &heard.told).await?;
    stack.stop().await?;
    let events = audit::open(stack.postgres(), &stack.data()).await?;
    let found: Audit = audit(events.as_ref(), &heard.told).await?;
    let mut all = Told::default();
    heard.told.iter().for_each(|told| all.add(told));
    let in_the_end = plan.calm / 2;
    let since = end.checked_sub(in_the_end).unwrap_or(mended);
    Ok(Row {
        case,
        rooms: heard.told.len(),
        finished: heard.told.iter().filter(|told| told.is_over).count(),
        audit: found,
        unarchived,
        stuck: heard.stuck,
        all,
        before: normal.p95,
        at_last: meter.p95(since, in_the_end).map(|(p95, _)| p95),
        normal: normal.after(&meter, mended, end),
        lasted: mended - broken,
        memory: (before, after),
    })
}

/// Waits until all finished games are archived; returns those that are not.
async fn catch_up(stack: &Stack, told: &[Told]) -> Result<Vec<String>, Failure> {
    let begun = Instant::now();
    loop {
        let missing = unarchived(told, &stack.archived()?);
        if missing.is_empty() || RECOVERY < begun.elapsed() {
            return Ok(missing);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
