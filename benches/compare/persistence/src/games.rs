//! Finished games on their way into the archive: eight real ones of `game-server simulate --games 8
//! --seed 7 --events`, again and again under other ids; and what games and rooms take in memory.

use std::{fs::File, io::Write as _, sync::Arc};

use infra_core::{
    Result, SystemClock,
    store::{DocumentStore, Term},
    version::Expected,
};
use infra_persistence::{
    Archive, ArchiveQuery, Entity, Hybrid, HybridOptions, Limits, Options, Repository, Standing,
    Vault, embedded, memory,
};
use measure::{Better, Workload, held, run};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::lookup;

/// How many games a side archives.
const GAMES: usize = 400;

/// How many are in memory when their bytes are counted.
const RESIDENT: usize = 20_000;

/// The events of the games, a line of JSON each; a game begins with the creation of its room.
const EVENTS: &[u8] = include_bytes!("../games.zst");

/// A finished game with all its events.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Game {
    id: String,
    events: Box<RawValue>,
}

impl Entity for Game {
    const COLLECTION: &'static str = "games";
    const SCHEMA: u32 = 1;

    fn key(&self) -> bytes::Bytes {
        self.id.clone().into()
    }

    fn terms(&self) -> Result<Vec<Term>> {
        Ok(Vec::new())
    }

    fn standing(&self) -> Standing {
        Standing::Completed
    }
}

/// Returns so many games, each with an id of its own.
fn games(count: usize) -> Vec<Game> {
    let text = String::from_utf8(zstd::decode_all(EVENTS).unwrap()).unwrap();
    let mut games: Vec<Vec<&str>> = Vec::new();
    for line in text.lines() {
        if line.starts_with("{\"type\":\"room_created\"") {
            games.push(Vec::new());
        }
        games.last_mut().unwrap().push(line);
    }
    let array =
        |lines: &Vec<&str>| RawValue::from_string(format!("[{}]", lines.join(","))).unwrap();
    let games: Vec<Box<RawValue>> = games.iter().map(array).collect();
    let game = |number: usize| Game {
        id: format!("game-{number}"),
        events: games[number % games.len()].clone(),
    };
    (0..count).map(game).collect()
}

/// Games archived in a second: saved durably, compressed, put into the archive durably, and named there.
fn archived() -> f64 {
    archive().0
}

/// The bytes of the games divided by those of their objects.
fn compression() -> f64 {
    archive().1
}

/// Archives the games; returns how many in a second, and how much smaller they are there.
fn archive() -> (f64, f64) {
    let folder = tempfile::tempdir().unwrap();
    let games = games(GAMES);
    run(async {
        let documents = embedded(Options::new(folder.path().join("db"))).await.unwrap().0;
        let objects = Archive::in_folder(folder.path().join("archive")).unwrap();
        let options = HybridOptions::new(Limits::entries(GAMES));
        let documents: Arc<dyn DocumentStore> = Arc::new(documents);
        let vault = Vault::new(Arc::new(objects));
        let (hybrid, archivist) = Hybrid::<Game>::open(documents, vault, options).await.unwrap();
        let begun = std::time::Instant::now();
        let mut savers = tokio::task::JoinSet::new();
        for game in games {
            let hybrid = hybrid.clone();
            savers.spawn(async move { hybrid.save(game, Expected::Absent).await.unwrap() });
        }
        savers.join_all().await;
        while 0 < hybrid.waiting() {
            archivist.run_due().await;
        }
        let took = begun.elapsed().as_secs_f64();
        let query = ArchiveQuery { limit: GAMES, ..ArchiveQuery::default() };
        let all = hybrid.archived(query).await.unwrap();
        assert_eq!(all.len(), GAMES);
        let sum = |bytes: fn(&infra_persistence::Archived) -> u64| -> u64 {
            all.iter().map(|(_, archived)| bytes(archived)).sum()
        };
        let ratio = sum(|archived| archived.length) as f64 / sum(|archived| archived.stored) as f64;
        (GAMES as f64 / took, ratio)
    })
}

/// Games archived in a second by a plain program: compressed as ours are, one synced file each, and
/// nothing that knows of them.
fn files() -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let games = games(GAMES);
    let begun = std::time::Instant::now();
    for game in &games {
        let bytes = zstd::encode_all(&serde_json::to_vec(game).unwrap()[..], 3).unwrap();
        let (draft, name) = (folder.path().join("draft"), folder.path().join(&game.id));
        let mut file = File::create(&draft).unwrap();
        file.write_all(&bytes).unwrap();
        file.sync_all().unwrap();
        std::fs::rename(&draft, &name).unwrap();
        File::open(folder.path()).unwrap().sync_all().unwrap();
    }
    GAMES as f64 / begun.elapsed().as_secs_f64()
}

/// The same games as one stream, which is as small as this level makes them.
fn one_stream() -> f64 {
    let texts: Vec<Vec<u8>> =
        games(8).iter().map(|game| serde_json::to_vec(game).unwrap()).collect();
    let all = texts.concat();
    all.len() as f64 / zstd::encode_all(&all[..], 3).unwrap().len() as f64
}

/// What a repository adds to the memory for each game that is in it, as a multiple of its text.
fn game_bytes() -> f64 {
    let count = RESIDENT / 20;
    let games = games(count);
    let text: usize = games.iter().map(|game| game.events.get().len()).sum();
    let of = |resident: usize| {
        held::by(|| {
            let documents = Arc::new(memory(SystemClock::shared()).unwrap());
            let repository = Repository::<Game>::new(documents, resident).unwrap();
            run(async {
                for game in &games {
                    repository.save(game.clone(), Expected::Absent).await.unwrap();
                }
            });
            repository
        })
    };
    // What the store holds is on both sides.
    (of(count + 1) - of(1)) / text as f64
}

/// What a room takes that is in memory, in bytes.
fn room_bytes() -> f64 {
    let of = |resident| held::by(|| lookup::rooms_of(RESIDENT, resident));
    (of(RESIDENT + 1) - of(1)) / RESIDENT as f64
}

/// What a game takes in memory that is in the archive, its stub in a store in memory included, in bytes.
fn archived_bytes() -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let games = games(GAMES);
    let held = held::by(|| {
        run(async {
            let documents = Arc::new(memory(SystemClock::shared()).unwrap());
            let vault = Vault::new(Arc::new(Archive::in_folder(folder.path()).unwrap()));
            let options = HybridOptions::new(Limits::entries(10));
            let (hybrid, archivist) =
                Hybrid::<Game>::open(documents, vault, options).await.unwrap();
            for game in &games {
                hybrid.save(game.clone(), Expected::Absent).await.unwrap();
            }
            while 0 < hybrid.waiting() {
                archivist.run_due().await;
            }
            hybrid
        })
    });
    held / GAMES as f64
}

/// What the JSON of a game takes, in bytes.
fn json_bytes() -> f64 {
    let games = games(GAMES);
    games.iter().map(|game| game.events.get().len()).sum::<usize>() as f64 / GAMES as f64
}

pub(crate) fn workloads() -> Vec<Workload> {
    vec![
        Workload::figure("archive-games", "/s", Better::Higher, archived).beside("files", files),
        Workload::figure("archive-compression", "x", Better::Higher, compression)
            .beside("one stream", one_stream)
            .rounds(1),
        Workload::figure("room-bytes", "B", Better::Lower, room_bytes)
            .beside("dashmap", || lookup::bytes_in_dashmap(RESIDENT))
            .rounds(1),
        Workload::figure("game-bytes", "x", Better::Lower, game_bytes).rounds(1),
        Workload::figure("archived-game-bytes", "B", Better::Lower, archived_bytes)
            .beside("json", json_bytes)
            .rounds(1),
    ]
}
