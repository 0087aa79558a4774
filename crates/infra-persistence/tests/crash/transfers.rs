//! Eight tasks transfer between accounts in units of work, in a process that is killed at each step of
//! one: the sum is constant, savepoints are right, and a message is in the outbox if and only if its
//! transfer happened. `INFRA_PERSISTENCE_TRANSFER_KILLS` sets how often; once at each step by default.

use std::{
    collections::BTreeMap,
    env,
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use infra_core::{
    ErrorKind, Result, SystemClock,
    codec::Payload,
    random::Random,
    store::{DocumentStore, Scan, Term},
    version::Expected,
};
use infra_persistence::{Entity, Factory, Opened, Outbox, Repository, StorageConfig, UnitOfWork};
use serde::{Deserialize, Serialize};

use super::run;

const PLACE: &str = "INFRA_TRANSFERS_PLACE";
const KILL_AT: &str = "INFRA_TRANSFERS_KILL_AT";
const ACCOUNTS: u64 = 10;
const EACH: i64 = 1_000;

/// The steps of a transfer at which a kill is tried.
const STEPS: u64 = 6;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Account {
    id: u64,
    balance: i64,
    transfers: u64,
}

impl Entity for Account {
    const COLLECTION: &'static str = "accounts";
    const SCHEMA: u32 = 1;

    fn key(&self) -> Bytes {
        Bytes::from(self.id.to_string())
    }

    fn terms(&self) -> Result<Vec<Term>> {
        Ok(Vec::new())
    }
}

/// What a transfer tells: who gave whom what.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    from: u64,
    to: u64,
    amount: i64,
}

/// Opens the store at a place: a folder, or a schema of PostgreSQL.
async fn open(place: &str) -> Opened {
    let config = match place.strip_prefix("postgres:") {
        None => StorageConfig::Embedded { folder: place.into(), archive: None },
        Some(schema) => StorageConfig::Postgres {
            url: infra_testkit::server::shared(infra_testkit::server::Kind::Postgres).unwrap(),
            schema: Some(schema.to_owned()),
            archive: None,
        },
    };
    Factory::new().open(&config).await.unwrap()
}

/// Ends this process as the system would, when the step that was chosen is reached.
fn step(number: u64, left: &AtomicU64, at: u64) {
    if number != at % STEPS || left.fetch_sub(1, Ordering::SeqCst) != 1 {
        return;
    }
    let own = std::process::id().to_string();
    let _killed = Command::new("kill").args(["-9", &own]).status();
    loop {
        std::thread::park();
    }
}

async fn transfer(
    accounts: &Repository<Account>,
    mut unit: UnitOfWork,
    random: &Random,
    step: &(impl Fn(u64) + Sync),
) -> Result<()> {
    let (from, to) = (random.below(ACCOUNTS), random.below(ACCOUNTS));
    let amount = i64::try_from(random.below(50)).unwrap();
    if from == to {
        return Ok(());
    }
    let key = |id: u64| id.to_string();
    let giver = unit.get(accounts, key(from).as_bytes()).await?.unwrap();
    let taker = unit.get(accounts, key(to).as_bytes()).await?.unwrap();
    step(0);
    let moved = |account: &Account, by: i64| Account {
        balance: account.balance + by,
        transfers: account.transfers + 1,
        ..account.clone()
    };
    unit.save(accounts, moved(&giver, -amount));
    let point = unit.savepoint();
    step(1);
    // A mistake that is taken back: had it been kept, the sum would be wrong.
    unit.save(accounts, moved(&taker, amount + 1));
    unit.tell(Payload::json(1, &Told { from, to, amount: -1 })?);
    step(2);
    unit.roll_back_to(point)?;
    unit.save(accounts, moved(&taker, amount));
    unit.tell(Payload::json(1, &Told { from, to, amount })?);
    step(3);
    let committing = tokio::spawn(unit.commit());
    step(4);
    committing.await.unwrap()?;
    step(5);
    Ok(())
}

/// The child's life: it ends when it kills itself. As a test of its own it has nothing to do.
#[test]
fn child_of_the_transfers() {
    let Ok(place) = env::var(PLACE) else { return };
    let at: u64 = env::var(KILL_AT).unwrap().parse().unwrap();
    run(async {
        let documents = Arc::clone(open(&place).await.documents());
        let accounts = Repository::<Account>::new(Arc::clone(&documents), 100).unwrap();
        let left = Arc::new(AtomicU64::new(20 + Random::from_system().below(60)));
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let (documents, accounts) = (Arc::clone(&documents), accounts.clone());
            let left = Arc::clone(&left);
            tasks.spawn(async move {
                let random = Random::from_system();
                let step = |number| step(number, &left, at);
                loop {
                    let unit = UnitOfWork::new(Arc::clone(&documents), SystemClock::shared());
                    match transfer(&accounts, unit, &random, &step).await {
                        Err(error) if !matches!(error.kind(), ErrorKind::Conflict { .. }) => {
                            panic!("{error:?}")
                        }
                        _ => {}
                    }
                }
            });
        }
        tasks.join_next().await.unwrap().unwrap();
    });
}

async fn begin(place: &str) {
    let opened = open(place).await;
    let accounts = Repository::<Account>::new(Arc::clone(opened.documents()), 100).unwrap();
    for id in 0..ACCOUNTS {
        let account = Account { id, balance: EACH, transfers: 0 };
        accounts.save(account, Expected::Absent).await.unwrap();
    }
    opened.close().await;
}

/// What each account has and took part in.
type Books = BTreeMap<u64, (i64, u64)>;

/// Reads the accounts, and what they ought to have by the messages of all lives, and how many those are.
async fn read(documents: &Arc<dyn DocumentStore>) -> (Books, Books, u64) {
    let accounts = Repository::<Account>::new(Arc::clone(documents), 100).unwrap();
    let mut owed: Books = (0..ACCOUNTS).map(|id| (id, (EACH, 0))).collect();
    let told = Outbox::new(Arc::clone(documents)).unwrap().pending(1_000_000).await.unwrap();
    for message in &told {
        let Told { from, to, amount } = message.payload.decode().unwrap();
        assert!(0 <= amount, "a message that was taken back");
        for (id, by) in [(from, -amount), (to, amount)] {
            let account = owed.get_mut(&id).unwrap();
            *account = (account.0 + by, account.1 + 1);
        }
    }
    let found = accounts.list(Scan::prefix("", 100)).await.unwrap();
    let found = found
        .iter()
        .map(|found| (found.entity.id, (found.entity.balance, found.entity.transfers)))
        .collect();
    (found, owed, told.len() as u64)
}

/// Holds balances against the messages; returns how many transfers there were.
async fn audit(place: &str, kill: u64) -> u64 {
    let opened = open(place).await;
    let mut tries = 0;
    loop {
        let (found, owed, told) = read(opened.documents()).await;
        let sum: i64 = found.values().map(|(balance, _)| balance).sum();
        if (&found, sum) == (&owed, 10 * EACH) {
            opened.close().await;
            return told;
        }
        // A server may finish what the dead asked for between the two looks; then the next agree.
        tries += 1;
        assert!(tries < 20, "kill {kill}: the accounts have {found:?}, the messages say {owed:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn kill_at_each_step(place: &str) {
    let kills =
        env::var("INFRA_PERSISTENCE_TRANSFER_KILLS").map_or(STEPS, |kills| kills.parse().unwrap());
    run(begin(place));
    let mut transfers = 0;
    for kill in 0..kills {
        let ended = Command::new(env::current_exe().unwrap())
            .args(["--exact", "--nocapture", "transfers::child_of_the_transfers"])
            .env(PLACE, place)
            .env(KILL_AT, kill.to_string())
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert_eq!(ended.signal(), Some(9), "it ended by itself: {ended:?}, see above");
        let now = run(audit(place, kill));
        assert!(transfers < now, "kill {kill}: nothing was done");
        transfers = now;
    }
    println!("{kills} kills, {transfers} transfers");
}

#[test]
fn the_sum_is_constant_and_the_outbox_exact_on_disk() {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    kill_at_each_step(&Path::new(folder.path()).join("documents").display().to_string());
}

#[cfg(feature = "postgres")]
#[test]
fn the_sum_is_constant_and_the_outbox_exact_in_postgres() {
    let schema = format!("postgres:transfers_{:016x}", Random::from_system().next_u64());
    kill_at_each_step(&schema);
}
