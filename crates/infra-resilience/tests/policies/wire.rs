//! A deadline and a budget that cross three processes.

use std::{process::Stdio, sync::Arc};

use infra_core::{
    Clock, ErrorKind, Result,
    backoff::{Backoff, Jitter},
    budget::{CallBudget, Deadline, Priority},
    context::Context,
};
use infra_resilience::{
    Policy as _, Retry, idempotent,
    wire::{self, Outgoing},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::Command,
};

use crate::{MILLI, SECOND, clock, fail};

/// How many more processes a process asks; it is set in those that are asked.
const DEPTH: &str = "INFRA_RESILIENCE_WIRE_DEPTH";

/// Asks another process, on its standard input, and returns what it answers: `millis unspent depth`
/// of the innermost process.
async fn ask(context: &Context, clock: &dyn Clock, depth: u32) -> Vec<u64> {
    let outgoing = Outgoing::new(context, clock.now(), MILLI * 5);
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "wire::the_other_process", "--nocapture"])
        .env(DEPTH, depth.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut input = process.stdin.take().unwrap();
    input.write_all(format!("{}\n", outgoing.header().unwrap()).as_bytes()).await.unwrap();
    drop(input);
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let answer = loop {
        let line = lines.next_line().await.unwrap().unwrap();
        // The test harness writes its own words before, without an end of line.
        if let Some((_, answer)) = line.split_once("answer: ") {
            break answer.to_owned();
        }
    };
    process.wait().await.unwrap();
    let numbers: Vec<u64> = answer.split(' ').map(|number| number.parse().unwrap()).collect();
    outgoing.answered(Some(&numbers[1].to_string()));
    numbers
}

/// What a process does that is asked: one retry that fails, then it asks the next.
async fn serve(depth: u32) {
    let clock = clock();
    let mut header = String::new();
    BufReader::new(tokio::io::stdin()).read_line(&mut header).await.unwrap();
    let context = wire::read(header.trim(), clock.now()).unwrap();
    assert_eq!(context.budget_of().unwrap().priority_of(), Priority::High);
    let backoff = Backoff::fixed(MILLI).jitter(Jitter::None);
    let retry = Retry::new(2, backoff, Arc::clone(&clock));
    let call = idempotent(|| async { fail::<()>(ErrorKind::Unavailable) });
    let result: Result<()> = context.clone().scope(retry.run("ask", call)).await;
    assert!(result.is_err());
    let innermost = if depth == 0 { None } else { Some(ask(&context, &*clock, depth - 1).await) };
    let left = context.deadline_of().unwrap().left(clock.now()).as_millis();
    let millis = innermost.map_or(left, |answer| u128::from(answer[0]));
    println!("answer: {millis} {} {depth}", wire::unspent(&context).unwrap());
}

/// Does nothing in a run of the tests; what `ask` starts does its work.
#[tokio::test]
async fn the_other_process() {
    if let Some(depth) = std::env::var(DEPTH).ok().and_then(|depth| depth.parse().ok()) {
        serve(depth).await;
    }
}

#[tokio::test]
async fn a_deadline_and_a_budget_cross_three_processes() {
    let clock = clock();
    let budget = CallBudget::new(8).priority(Priority::High);
    let patience = SECOND * 300;
    let context =
        Context::default().deadline(Deadline::after(clock.now(), patience)).budget(budget.clone());
    let begun = clock.now();
    let answer = ask(&context, &*clock, 1).await;
    let innermost = u128::from(answer[0]);
    let took = clock.now().since(begun);
    // Two ways of five milliseconds, and whatever the processes took.
    assert!(innermost <= patience.saturating_sub(MILLI * 10).as_millis(), "{innermost}");
    assert!(
        patience.saturating_sub(took).as_millis() <= innermost + 20,
        "{innermost} after {took:?}"
    );
    // The second process had four and spent one; of its three the third had two and spent one.
    assert_eq!((answer[1], answer[2], budget.left()), (2, 1, 6));
}
