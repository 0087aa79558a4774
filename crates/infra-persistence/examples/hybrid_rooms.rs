//! Rooms that are in memory while they live and in an archive when they are over:
//! `cargo run -p infra-persistence --example hybrid_rooms`.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{sync::Arc, time::Duration};

use infra_core::{Result, SystemClock, clock::Timestamp, lifecycle::Shutdown, version::Expected};
use infra_persistence::{
    Archive, ArchiveQuery, Hybrid, HybridOptions, Limits, RoomRecord, RoomStatus, Vault, memory,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let documents = Arc::new(memory(SystemClock::shared())?);
    let vault = Vault::new(Arc::new(Archive::in_memory()));
    let options = HybridOptions::new(Limits::entries(100)).drain(Duration::from_secs(5));
    let (rooms, archivist) = Hybrid::<RoomRecord>::open(documents, vault, options).await?;
    let shutdown = Shutdown::new();
    let stop = shutdown.stop();
    shutdown.spawn(async move {
        let drained = archivist.run(stop).await;
        println!("{} were archived at the end, {} wait", drained.archived, drained.left);
    });
    for number in 0..5 {
        let room = |status| RoomRecord {
            id: format!("room-{number}"),
            code: format!("CODE{number}"),
            status,
            players: vec!["ann".to_owned(), "bob".to_owned()],
            active: Timestamp::from_millis(number),
        };
        let version = rooms.save(room(RoomStatus::Playing), Expected::Absent).await?;
        if number < 3 {
            rooms.save(room(RoomStatus::Finished), Expected::Exactly(version)).await?;
        }
    }
    println!("{} in memory, {} wait for the archive", rooms.usage().entries, rooms.waiting());
    shutdown.close(Duration::from_secs(5)).await;
    println!("{} in memory", rooms.usage().entries);
    for (key, archived) in
        rooms.archived(ArchiveQuery { limit: 10, ..ArchiveQuery::default() }).await?
    {
        println!("{}: {} bytes at {}", key.escape_ascii(), archived.stored, archived.object);
    }
    let found = rooms.get(b"room-1").await?;
    println!("room-1 is read as ever: {:?}", found.map(|found| found.entity.status));
    Ok(())
}
