//! A connection that sends too much climbs its ladder: allowed, warned, delayed, dropped, kicked.
//!
//! `cargo run -p infra-ratelimit --example ladder`
#![allow(
    clippy::print_stdout,
    clippy::allow_attributes,
    reason = "a program says what it found on its standard output"
)]

use std::{num::NonZeroU32, time::Duration};

use infra_core::{
    clock::Instant,
    limit::{Class, Ladder, Step},
};
use infra_ratelimit::{Quota, Rungs};

fn main() -> infra_core::Result<()> {
    let rungs = Rungs::new(Quota::per_second(20)?, Quota::per_second(2)?, Quota::per_second(5)?);
    let mut ladder = rungs.ladder();
    for message in 0_u32.. {
        // Two hundred messages a second, where twenty are served.
        let now = Instant::from_start(Duration::from_millis(5) * message);
        let step = ladder.judge(Class::Input, NonZeroU32::MIN, now);
        println!("{message:>3} at {:>4} ms: {step:?}", now.since_start().as_millis());
        if step == Step::Kick {
            break;
        }
    }
    Ok(())
}
