//! One bit of one file of a store is flipped: it is reported, at the start or when what it hit is
//! read; a read never gives a wrong value, and never misses one. `INFRA_PERSISTENCE_FLIPS` sets how
//! often; 24 by default.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use infra_core::{Result, random::Random};

use super::*;

const DOCUMENTS: u64 = 300;

fn body(number: u64) -> String {
    format!("{number:04}").repeat(60)
}

fn key(number: u64) -> String {
    format!("key {number:05}")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let all = entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] });
    all.filter(|path| 0 < path.metadata().unwrap().len()).collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, target).unwrap();
        }
    }
}

/// Makes a store most of which is in tables, the rest in the journal; each document is found by a term.
async fn make(folder: &Path) {
    let (store, _) = embedded(Options::new(folder).write_buffer(32 * 1024)).await.unwrap();
    for number in 0..DOCUMENTS {
        let term = Term::new(index(), (number % 10).to_string());
        let write = put("c", &key(number), Expected::Absent, &body(number), vec![term]);
        store.commit(Batch::new().write(write)).await.unwrap();
    }
    store.close().await;
}

/// What a damaged store says: whether anything was reported; a lie is a panic.
async fn ask(folder: &Path, hit: &str) -> bool {
    let store = match embedded(Options::new(folder)).await {
        Ok((store, _)) => store,
        Err(error) => {
            assert_eq!(*error.kind(), ErrorKind::Corrupt, "{hit}: {error:?}");
            return true;
        }
    };
    let mut is_reported = false;
    let mut heard = |said: Result<Vec<Document>>, wanted: Vec<u64>| match said {
        Ok(found) => {
            let found: Vec<_> = found
                .iter()
                .map(|found| (found.key.to_vec(), found.decode::<String>().unwrap()))
                .collect();
            let wanted: Vec<_> =
                wanted.into_iter().map(|number| (key(number).into_bytes(), body(number))).collect();
            assert!(found == wanted, "{hit}: {} documents of {}", found.len(), wanted.len());
        }
        Err(error) => {
            assert_eq!(*error.kind(), ErrorKind::Corrupt, "{hit}: {error:?}");
            is_reported = true;
        }
    };
    let c = collection("c");
    for number in 0..DOCUMENTS {
        let said = store.get(&c, key(number).as_bytes()).await;
        heard(said.map(|found| found.into_iter().collect()), vec![number]);
    }
    let all = store.scan(&c, Scan::prefix("", 1_000)).await;
    heard(all, (0..DOCUMENTS).collect());
    for term in 0..10 {
        let found = store.query(&c, Query::equal(index(), term.to_string(), 1_000)).await;
        heard(found, (0..DOCUMENTS).filter(|number| number % 10 == term).collect());
    }
    store.close().await;
    is_reported
}

#[test]
fn a_flipped_bit_is_reported_and_never_a_wrong_or_missing_value() {
    let flips = env::var("INFRA_PERSISTENCE_FLIPS").map_or(24, |flips| flips.parse().unwrap());
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let sound = place.path().join("sound");
    run(make(&sound));
    let random = Random::from_system();
    let (mut reported, mut harmless) = (0, 0);
    for flip in 0..flips {
        let damaged = place.path().join(format!("damaged {flip}"));
        copy(&sound, &damaged);
        let all = files(&damaged);
        // Half of the flips hit any file alike, so that the small ones are hit too.
        let lengths: Vec<u64> = all
            .iter()
            .map(|file| if flip % 2 == 0 { 1 } else { file.metadata().unwrap().len() })
            .collect();
        let mut at = random.below(lengths.iter().sum());
        let chosen = lengths.iter().position(|length| {
            let is_here = at < *length;
            at = at.saturating_sub(*length);
            is_here
        });
        let file = &all[chosen.unwrap()];
        let mut bytes = fs::read(file).unwrap();
        let bit = random.below(bytes.len() as u64 * 8);
        bytes[usize::try_from(bit / 8).unwrap()] ^= 1 << (bit % 8);
        fs::write(file, &bytes).unwrap();
        let hit = format!("bit {bit} of {} bytes of {}", bytes.len(), file.display());
        if run(ask(&damaged, &hit)) {
            reported += 1;
        } else {
            harmless += 1;
        }
        fs::remove_dir_all(&damaged).unwrap();
    }
    println!("{flips} flips: {reported} reported, {harmless} hit nothing that is read");
    assert!(0 < reported);
}
