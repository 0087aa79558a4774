//! A room owns what is cached for it: it takes no more than its share, and all of it ends with the room.
//!
//! `cargo run -p infra-cache --example room_group`

#![allow(clippy::print_stdout, clippy::allow_attributes, reason = "an example shows what it does")]

use infra_cache::{CompositeKey, LocalCache, Options};
use infra_core::{Result, SystemClock};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let views = LocalCache::new(Options::new(10_000), SystemClock::shared());
    let key = |room: u32, seat: u32| CompositeKey::new("room").and(room).and(seat).to_string();
    views.put(key(8, 1), "another room".to_owned());
    let room = views.group(100);
    for seat in 1..=4 {
        let load = || async move { Ok(format!("view of seat {seat}")) };
        println!("{}", room.get_or_load(&key(7, seat), load).await?);
    }
    println!("the room has {} entries, the cache {}", room.len(), views.len());
    drop(room);
    println!("after it ended: {:?}, {:?}", views.get(&key(7, 1)), views.get(&key(8, 1)));
    Ok(())
}
