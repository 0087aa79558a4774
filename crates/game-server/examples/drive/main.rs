//! Drives a real game-server process from outside, over real sockets: `crash`, `load`, `faults` and
//! `roll`.
//!
//! It is an example of game-server so that xtask, which compiles first, never links the product.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a program for developers that measures real time"
)]

mod capacity;
mod crash;
mod faults;
mod faulty_disk;
mod load;
mod player;
mod process;

use std::collections::BTreeMap;

use mimalloc::MiMalloc;
use player::Failure;

/// As in the server itself, which this program is too.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.split_first() {
        Some((program, rest)) if program == "crash" => crash::main(rest).await,
        Some((program, rest)) if program == "load" => load::main(rest).await,
        Some((program, rest)) if program == "capacity" => capacity::main(rest).await,
        Some((program, rest)) if program == "faults" => faults::main(rest).await,
        Some((program, rest)) if program == "roll" => faults::roll::main(rest).await,
        // How `faults` starts a server whose disk and clock it can spoil.
        Some((program, rest)) if program == "serve" => faults::serve::main(rest).await,
        _ => Err("one of `crash`, `load`, `capacity`, `faults`, `roll` is needed".into()),
    }
}

/// Reads options that are numbers; prints `help` and returns `None` if it was asked for.
fn options(
    words: &[String],
    help: &str,
    known: &[&'static str],
) -> Result<Option<BTreeMap<&'static str, u64>>, Failure> {
    let mut found = BTreeMap::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "--help" || word == "-h" {
            print!("{help}");
            return Ok(None);
        }
        let name = known.iter().find(|name| *name == word);
        let name = name.ok_or_else(|| format!("there is no option `{word}`\n\n{help}"))?;
        let value = words.next().ok_or_else(|| format!("{word} needs a number"))?;
        found.insert(*name, value.parse().map_err(|_| format!("{word}: `{value}` is no number"))?);
    }
    Ok(Some(found))
}
