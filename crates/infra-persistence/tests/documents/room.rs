//! A volume that is full to its last byte: what is refused, what is there all the same, and that a store
//! takes writes again once there is room, without being opened by anyone.
//!
//! The test runs itself once more in a mount namespace of its own, on a volume of a few megabytes: that takes
//! root, or a kernel that lets users have namespaces. Where neither is so, as for users in a chroot, it says
//! that it shows nothing; want of room is injected in the coordinator's own tests, too.

use std::{
    collections::BTreeMap, env, fs, io::Write as _, path::Path, process::Command, time::Duration,
};

use infra_core::{Error, Result};

use super::*;

const VOLUME: &str = "INFRA_PERSISTENCE_VOLUME";

/// Makes a volume, and begins the test named anew with it.
const MOUNT: &str =
    r#"mount -t tmpfs -o size=16m tmpfs "$0" && exec "$1" --exact "$2" --nocapture"#;

/// What was told of each batch: that it is done, or that its fate is not known; what was refused is not here.
#[derive(Debug, Default)]
struct Told {
    done: Vec<u32>,
    unknown: Vec<u32>,
    refused: Vec<u32>,
}

fn on_a_small_volume(test: &str, story: impl AsyncFnOnce(&Path)) {
    if let Some(volume) = env::var_os(VOLUME) {
        return run(story(Path::new(&volume)));
    }
    let volume = tempfile::tempdir().unwrap();
    let may = |own: &[&str]| {
        let tried = Command::new("unshare").args(own).arg("true").output();
        tried.is_ok_and(|tried| tried.status.success())
    };
    let ways: [&[&str]; 2] = [&["--mount"], &["--mount", "--map-root-user"]];
    let Some(way) = ways.into_iter().find(|way| may(way)) else {
        let said = b"no volume may be mounted here: a full one is not shown\n";
        return std::io::stderr().write_all(said).unwrap();
    };
    let mut again = Command::new("unshare");
    again.args(way).args(["sh", "-c", MOUNT]).arg(volume.path());
    again.arg(env::current_exe().unwrap()).arg(test).env(VOLUME, volume.path());
    let output = again.output().unwrap();
    let said =
        [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    assert!(output.status.success() && said[0].contains("1 passed"), "{}", said.join("\n"));
}

fn fill(ballast: &Path) {
    let mut file = fs::File::create(ballast).unwrap();
    for size in [1 << 16, 1 << 12, 1] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
}

/// Three documents that are there together or not at all.
fn batch(number: u32) -> Batch {
    let body = number.to_string().repeat(500);
    (0..3).fold(Batch::new(), |batch, part| {
        batch.write(put("c", &format!("{number:04} {part}"), Expected::Any, &body, Vec::new()))
    })
}

fn is_no_room(error: &Error) -> bool {
    *error.kind() == ErrorKind::Unavailable && error.to_string().contains("no room")
}

impl Told {
    async fn commit(&mut self, store: &Documents, durability: Durability) -> Result<()> {
        let number = self.next();
        let said = store.commit(batch(number).durability(durability)).await;
        match said.as_ref().map_err(Error::kind) {
            Ok(_) => self.done.push(number),
            Err(ErrorKind::Indeterminate) => self.unknown.push(number),
            Err(ErrorKind::Unavailable) => self.refused.push(number),
            Err(other) => panic!("{other:?}"),
        }
        said.map(|_| ())
    }

    fn next(&self) -> u32 {
        u32::try_from(self.done.len() + self.unknown.len() + self.refused.len()).unwrap()
    }

    /// Holds what was told against what is there.
    async fn check(&self, store: &Documents) {
        let all = store.scan(&collection("c"), Scan::prefix("", usize::MAX)).await.unwrap();
        let mut found: BTreeMap<u32, usize> = BTreeMap::new();
        for document in all {
            let number: u32 = std::str::from_utf8(&document.key[..4]).unwrap().parse().unwrap();
            assert_eq!(document.decode::<String>().unwrap(), number.to_string().repeat(500));
            *found.entry(number).or_default() += 1;
        }
        assert!(found.values().all(|parts| *parts == 3), "{found:?}");
        assert!(self.done.iter().all(|number| found.contains_key(number)), "{self:?} {found:?}");
        assert!(self.refused.iter().all(|number| !found.contains_key(number)), "{self:?}");
    }
}

/// The volume is full, is told so, and has room again; what was told holds throughout.
async fn meet_a_full_volume(store: &Documents, told: &mut Told, ballast: &Path) {
    // What is not in the journal yet is among what must not go.
    for _ in 0..2 {
        told.commit(store, Durability::Applied).await.unwrap();
    }
    fill(ballast);
    while told.commit(store, Durability::Durable).await.is_ok() {}
    for _ in 0..5 {
        let refused = told.commit(store, Durability::Durable).await.unwrap_err();
        assert!(is_no_room(&refused), "{refused:?}");
    }
    let finding = store.check().await;
    assert_eq!(finding.status, Status::Down);
    assert!(finding.detail.contains("no room"), "{finding:?}");
    told.check(store).await;
    fs::remove_file(ballast).unwrap();
    let mut tries = 0;
    while let Err(refused) = told.commit(store, Durability::Durable).await {
        assert!(is_no_room(&refused) && tries < 600, "{refused:?}");
        tries += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(store.check().await.status, Status::Up);
    told.check(store).await;
}

#[test]
fn a_store_that_found_no_room_takes_writes_again_once_there_is_some() {
    let test = "room::a_store_that_found_no_room_takes_writes_again_once_there_is_some";
    on_a_small_volume(test, async |volume| {
        let (data, ballast) = (volume.join("data"), volume.join("ballast"));
        let (store, _) = embedded(Options::new(&data)).await.unwrap();
        let mut told = Told::default();
        for _ in 0..20 {
            told.commit(&store, Durability::Durable).await.unwrap();
        }
        for _ in 0..3 {
            meet_a_full_volume(&store, &mut told, &ballast).await;
        }
        store.close().await;
        drop(store);
        let (store, report) = embedded(Options::new(&data)).await.unwrap();
        assert_eq!(report.lost, 0);
        told.check(&store).await;
        told.commit(&store, Durability::Durable).await.unwrap();
    });
}
