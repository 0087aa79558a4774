//! A rolling restart: the next process starts as soon as the running one is asked to end.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{
    audit::{audit, open},
    crowd::{Crowd, Size},
    stack::{Ground, Program, Stack},
    told::{Told, listed},
};
use crate::player::Failure;

const HELP: &str = include_str!("../help/roll.txt");

/// Reads the options and runs.
pub(crate) async fn main(words: &[String]) -> Result<(), Failure> {
    let known = ["--rooms", "--rate", "--restarts"];
    let Some(options) = crate::options(words, HELP, &known)? else { return Ok(()) };
    let option = |name, default| options.get(name).copied().unwrap_or(default);
    let (rooms, rate) = (option("--rooms", 100), option("--rate", 60));
    let size = Size { rooms: u32::try_from(rooms)?, rate: u32::try_from(rate)? };
    for (name, ground) in [("files", Ground::Files), ("servers", Ground::Servers)] {
        let mut stack = Stack::start(ground, Program::Real).await?;
        let rolled = roll(name, &mut stack, size, option("--restarts", 3)).await;
        rolled.map_err(|error| format!("{error}\n{}", stack.complaints()))?;
    }
    Ok(())
}

async fn roll(name: &str, stack: &mut Stack, size: Size, restarts: u64) -> Result<(), Failure> {
    let crowd = Crowd::seat(stack.addr, size).await?;
    tokio::time::sleep_until((crowd.begin + Duration::from_secs(4)).into()).await;
    let mut took = Vec::new();
    for _ in 0..restarts {
        let asked = Instant::now();
        let Some(mut running) = stack.hand_over() else { return Err("nothing runs".into()) };
        running.signal("TERM")?;
        // At once: it waits for the folder and the address until the other one has given them back.
        stack.serve()?;
        took.push(asked.elapsed());
        if !running.has_ended()? {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        tokio::time::sleep(Duration::from_secs(6)).await;
        if !running.has_ended()? {
            return Err("the old process still runs".into());
        }
    }
    let heard = crowd.end().await?;
    stack.stop().await?;
    let events = open(stack.postgres(), &stack.data()).await?;
    let found = audit(events.as_ref(), &heard.told).await?;
    let mut all = Told::default();
    heard.told.iter().for_each(|told| all.add(told));
    let mut returns: BTreeMap<u64, usize> = BTreeMap::new();
    // Those of the tables in haste come and go; the seats of the rooms stay.
    let seats = heard.told.iter().filter(|told| !told.is_over);
    for told in seats {
        *returns.entry(told.resumed + told.renewed).or_default() += 1;
    }
    let took: Vec<String> = took.iter().map(|took| format!("{:.1}", took.as_secs_f64())).collect();
    println!(
        "{name}: {} rooms, {restarts} restarts, the next process served after {} s: {} returns, {} of \
         them to the whole state; seats by how often they came back: {returns:?}; {} acknowledged \
         actions, {} lost, {} doubled, {} never answered; the longest wait {:.1} s; refused for a \
         while: {}; connections: {}",
        size.rooms,
        took.join(", "),
        all.resumed + all.renewed,
        all.renewed,
        found.acks,
        found.lost,
        found.doubled,
        heard.stuck,
        all.worst.as_secs_f64(),
        listed(&all.refused),
        listed(&all.ended),
    );
    if 0 < found.lost + found.doubled + heard.stuck {
        return Err(format!("{name}: {:?}", found.notes).into());
    }
    Ok(())
}
