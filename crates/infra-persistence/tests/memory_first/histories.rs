//! Any history of many tasks equals a plain map, and units of work come out as if one after the other.

use super::*;

/// Eight tasks do what they like; per key, the versions that writers were given and readers saw must be
/// those of a map with versions, and the indexes those of the entities.
async fn check_any_history(documents: Arc<dyn DocumentStore>, in_memory: usize) {
    let repository: Repository<Account> = Repository::new(documents, in_memory).unwrap();
    let mut tasks = JoinSet::new();
    for task in 0..8_i64 {
        let repository = repository.clone();
        tasks.spawn(async move {
            let mut committed = Vec::new();
            let mut seen = [Version::ZERO; 6];
            for step in 0..40_i64 {
                let id = usize::try_from((step * 7 + task) % 6).unwrap();
                let key = id.to_string();
                let found = repository.get(key.as_bytes()).await.unwrap();
                let version = found.as_ref().map_or(Version::ZERO, |found| found.version);
                assert!(seen[id] <= version, "a reader goes back from {} to {version}", seen[id]);
                seen[id] = version;
                let expected = match version {
                    Version::ZERO => Expected::Absent,
                    version => Expected::Exactly(version),
                };
                let before = found.map_or(0, |found| found.entity.balance);
                let next = account(&key, before + 1, u8::try_from(step % 2).unwrap());
                match repository.save(next, expected).await {
                    Ok(new) => {
                        assert_eq!(new, version.next());
                        committed.push((id, new));
                        seen[id] = new;
                    }
                    Err(error) => {
                        assert!(matches!(error.kind(), ErrorKind::Conflict { .. }), "{error}");
                    }
                }
            }
            committed
        });
    }
    let mut committed: Vec<(usize, Version)> = tasks.join_all().await.concat();
    let total = committed.len();
    committed.sort_unstable();
    committed.dedup();
    assert_eq!(committed.len(), total, "two saves were given one version");
    let all = repository.list(Scan::prefix("", 99)).await.unwrap();
    let sum: i64 = all.iter().map(|found| found.entity.balance).sum();
    assert_eq!(usize::try_from(sum).unwrap(), total, "each save counts once");
    for found in all {
        assert_eq!(found.version.get().cast_signed(), found.entity.balance);
        let by = |index, value| Query::equal(IndexName::new(index).unwrap(), value, 9);
        let by_code =
            repository.find(by("code", Bytes::from(found.entity.code.clone()))).await.unwrap();
        assert_eq!(by_code.len(), 1);
        let same = repository.find(by("balance", ordered(found.entity.balance))).await.unwrap();
        assert!(same.iter().any(|other| other.entity.id == found.entity.id));
    }
    let index = IndexName::new("balance").unwrap();
    let every = Query { from: Unbounded, to: Unbounded, ..Query::equal(index, "", 99) };
    assert_eq!(
        repository.find(every).await.unwrap().len(),
        6,
        "no term of an older version is left"
    );
}

#[test]
fn any_history_of_eight_tasks_equals_a_map_with_versions_in_memory_and_on_disk() {
    run(async {
        for in_memory in [1, 3, 100] {
            let documents = Arc::new(memory(SystemClock::shared()).unwrap());
            check_any_history(documents, in_memory).await;
            let folder = tempfile::tempdir().unwrap();
            let options = infra_persistence::Options::new(folder.path());
            let documents = Arc::new(infra_persistence::embedded(options).await.unwrap().0);
            check_any_history(documents, in_memory).await;
        }
    });
}

/// Takes what waits in an outbox, seven at a time.
async fn take_all(outbox: &Outbox) -> Vec<(u64, u64)> {
    let mut told = Vec::new();
    loop {
        let pending = outbox.pending(7).await.unwrap();
        if pending.is_empty() {
            return told;
        }
        told.extend(pending.iter().map(|message| message.payload.decode::<(u64, u64)>().unwrap()));
        outbox.acknowledge(&pending).await.unwrap();
    }
}

/// Eight tasks move money between four accounts; some units are rolled back in part, each tells.
async fn check_transfers(documents: Arc<dyn DocumentStore>) {
    let clock = SystemClock::shared();
    let repository: Repository<Account> = Repository::new(Arc::clone(&documents), 2).unwrap();
    for id in 0..4 {
        save(&repository, account(&id.to_string(), 100, 0)).await;
    }
    let mut tasks = JoinSet::new();
    for task in 0..8_u64 {
        let (repository, documents, clock) =
            (repository.clone(), Arc::clone(&documents), Arc::clone(&clock));
        tasks.spawn(async move {
            for step in 0..15_u64 {
                let (from, to) = ((task + step) % 4, (task + step + 1 + step % 3) % 4);
                let work = |mut unit: UnitOfWork| {
                    let repository = repository.clone();
                    async move {
                        let get = |found: Option<Arc<Account>>| found.unwrap().as_ref().clone();
                        let (from, to) = (from.to_string(), to.to_string());
                        let mut giver = get(unit.get(&repository, from.as_bytes()).await?);
                        giver.balance -= 1;
                        unit.save(&repository, giver);
                        let point = unit.savepoint();
                        unit.save(&repository, account("nobody", 1_000, 0));
                        unit.tell(Payload::json(1, "never")?);
                        unit.roll_back_to(point)?;
                        let mut taker = get(unit.get(&repository, to.as_bytes()).await?);
                        taker.balance += 1;
                        unit.save(&repository, taker);
                        unit.tell(Payload::json(1, &(task, step))?);
                        Ok((unit, ()))
                    }
                };
                UnitOfWork::run(&documents, &clock, 10_000, work).await.unwrap();
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    let mut sum = 0;
    for id in 0..4 {
        sum += balance(&repository, &id.to_string()).await.unwrap();
    }
    assert_eq!((sum, balance(&repository, "nobody").await), (400, None));
    let mut told = take_all(&Outbox::new(documents).unwrap()).await;
    told.sort_unstable();
    let wanted: Vec<_> = (0..8).flat_map(|task| (0..15).map(move |step| (task, step))).collect();
    assert_eq!(
        told, wanted,
        "one message for each unit that was committed, none of what was rolled back"
    );
}

#[test]
fn units_that_run_at_once_keep_the_sum_and_tell_once_each() {
    run(async {
        check_transfers(Arc::new(memory(SystemClock::shared()).unwrap())).await;
        let folder = tempfile::tempdir().unwrap();
        let options = infra_persistence::Options::new(folder.path());
        check_transfers(Arc::new(infra_persistence::embedded(options).await.unwrap().0)).await;
    });
}

#[cfg(feature = "postgres")]
fn postgres() -> infra_persistence::PostgresOptions {
    use infra_testkit::server::{Kind, shared};
    let number = infra_core::random::Random::from_system().next_u64();
    infra_persistence::PostgresOptions::new(shared(Kind::Postgres).unwrap())
        .schema(format!("first_{number:016x}"))
        .connections(8)
}

#[cfg(feature = "postgres")]
#[test]
fn histories_and_units_come_out_the_same_in_postgres() {
    run(async {
        let store = infra_persistence::PostgresDocuments::connect(&postgres()).await.unwrap();
        check_any_history(Arc::new(store), 3).await;
        let store = infra_persistence::PostgresDocuments::connect(&postgres()).await.unwrap();
        check_transfers(Arc::new(store)).await;
    });
}

#[tokio::test]
async fn a_unit_sees_its_own_changes_and_is_a_conflict_if_what_it_read_has_changed() {
    let clock = SystemClock::shared();
    let documents: Arc<dyn DocumentStore> = Arc::new(memory(Arc::clone(&clock)).unwrap());
    let repository: Repository<Account> = Repository::new(Arc::clone(&documents), 10).unwrap();
    save(&repository, account("read", 1, 0)).await;
    let unit = || UnitOfWork::new(Arc::clone(&documents), Arc::clone(&clock));
    let mut first = unit();
    assert_eq!(first.get(&repository, b"read").await.unwrap().unwrap().balance, 1);
    assert!(first.get(&repository, b"none").await.unwrap().is_none());
    first.save(&repository, account("new", 5, 0));
    assert_eq!(first.get(&repository, b"new").await.unwrap().unwrap().balance, 5);
    first.remove(&repository, b"new");
    assert!(first.get(&repository, b"new").await.unwrap().is_none());
    first.save(&repository, account("new", 6, 0));
    assert_eq!(balance(&repository, "new").await, None, "nobody else sees it");
    save(&repository, account("read", 2, 0)).await;
    let conflict = first.commit().await.unwrap_err();
    assert!(matches!(conflict.kind(), ErrorKind::Conflict { .. }), "{conflict}");
    assert_eq!(balance(&repository, "new").await, None);
    let mut second = unit();
    assert!(second.get(&repository, b"none").await.unwrap().is_none());
    second.save(&repository, account("other", 1, 0));
    save(&repository, account("none", 1, 0)).await;
    assert!(second.commit().await.is_err(), "what it saw absent has come");
    let mut third = unit();
    let (one, two) = (third.savepoint(), third.savepoint());
    third.roll_back_to(one).unwrap();
    assert_eq!(*third.roll_back_to(two).unwrap_err().kind(), ErrorKind::Invalid);
    third.remove(&repository, b"read");
    third.commit().await.unwrap();
    assert_eq!(balance(&repository, "read").await, None, "memory learns of it");
    drop(unit());
}
