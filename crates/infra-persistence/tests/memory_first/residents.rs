//! Who is in memory, and that it is never more than may be.

use super::*;

#[tokio::test]
async fn what_is_in_memory_is_found_by_id_and_by_code_without_a_read_of_the_store() {
    let store = Counting::new();
    let repository = accounts(&store, Limits::entries(1_000));
    for number in 0..100 {
        save(&repository, account(&number.to_string(), number, 0)).await;
    }
    let code = IndexName::new("code").unwrap();
    for number in 0..100 {
        let (id, name) = (number.to_string(), format!("code of {number}"));
        assert_eq!(balance(&repository, &id).await, Some(number));
        let found = repository.find_unique(&code, name.as_bytes()).await.unwrap().unwrap();
        assert_eq!(found.entity.balance, number);
        assert_eq!(repository.resident_key(id.as_bytes()).unwrap().version, Version::new(1));
    }
    assert_eq!(store.reads(), 0);
    // A changed code leads nowhere, also in memory; what is returned is a value of one's own.
    let mut found = repository.get(b"7").await.unwrap().unwrap().entity.as_ref().clone();
    found.balance = -1;
    assert_eq!(balance(&repository, "7").await, Some(7));
    save(&repository, Account { code: "new".to_owned(), ..account("7", 8, 0) }).await;
    assert!(repository.resident("code", b"code of 7").is_none());
    assert!(repository.find_unique(&code, b"code of 7").await.unwrap().is_none());
    assert_eq!(repository.resident("code", b"new").unwrap().entity.balance, 8);
}

#[tokio::test(start_paused = true)]
async fn misses_that_come_at_once_are_one_read_and_an_older_copy_never_covers_a_newer_one() {
    let store = Counting::new();
    let writer = accounts(&store, Limits::entries(10));
    save(&writer, account("a", 1, 0)).await;
    let repository = accounts(&store, Limits::entries(10));
    store.is_shut.store(true, Ordering::SeqCst);
    let mut readers = JoinSet::new();
    for _ in 0..20 {
        let repository = repository.clone();
        readers.spawn(async move { balance(&repository, "a").await });
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(store.reads(), 1, "twenty wait for one read");
    // While the older copy is on its way, a newer one is saved.
    save(&repository, account("a", 2, 0)).await;
    store.is_shut.store(false, Ordering::SeqCst);
    store.opened.notify_waiters();
    while let Some(read) = readers.join_next().await {
        assert!(matches!(read.unwrap(), Some(1 | 2)));
    }
    assert_eq!(balance(&repository, "a").await, Some(2));
    assert_eq!(store.reads(), 1, "and it is read from memory");
    // Absence is remembered, for a bounded time, and not beyond a save.
    for _ in 0..5 {
        assert_eq!(balance(&repository, "none").await, None);
    }
    assert_eq!(store.reads(), 2);
    tokio::time::sleep(Duration::from_millis(1_001)).await;
    assert_eq!(balance(&repository, "none").await, None);
    assert_eq!(store.reads(), 3);
    save(&repository, account("none", 5, 0)).await;
    assert_eq!(balance(&repository, "none").await, Some(5));
    assert_eq!(store.reads(), 3);
    let usage = repository.usage();
    assert_eq!((usage.loads, usage.misses, usage.known_absent), (3, 22, 4));
    // A reader that gives up leaves nothing behind.
    store.is_shut.store(true, Ordering::SeqCst);
    let cut = tokio::time::timeout(Duration::from_millis(1), balance(&repository, "later")).await;
    assert!(cut.is_err());
    store.is_shut.store(false, Ordering::SeqCst);
    assert_eq!(balance(&repository, "later").await, None);
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Save(u8, u8),
    Get(u8),
    Code(u8),
    Remove(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..9_u8, prop_oneof![5 => 0..2_u8, 1 => Just(2_u8)]).prop_map(|(id, s)| Step::Save(id, s)),
        3 => (0..9_u8).prop_map(Step::Get),
        1 => (0..9_u8).prop_map(Step::Code),
        1 => (0..9_u8).prop_map(Step::Remove),
    ];
    proptest::collection::vec(step, 1..60)
}

/// What is in memory as a plain list, the longest unused first.
#[derive(Default)]
struct Resident(Vec<Account>);

impl Resident {
    const MOST: usize = 4;

    fn touch(&mut self, account: Account) {
        self.0.retain(|own| own.id != account.id);
        // A completed one leaves first, then the longest unused; an active one never.
        while Self::MOST <= self.0.len() {
            let mut leaving = [1_u8, 0].into_iter();
            let place = leaving.find_map(|s| self.0.iter().position(|own| own.standing == s));
            let Some(place) = place else { return };
            self.0.remove(place);
        }
        self.0.push(account);
    }

    fn has_room_for(&self, account: &Account) -> bool {
        let others = self.0.iter().filter(|own| own.id != account.id && own.standing == 2);
        account.standing != 2 || others.count() < Self::MOST
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn memory_holds_what_a_list_says_in_its_order_and_nothing_is_lost(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = Counting::new();
            let repository = accounts(&store, Limits::entries(Resident::MOST).absence(Duration::ZERO));
            let (mut resident, mut model) = (Resident::default(), BTreeMap::new());
            for (number, step) in (0_i64..).zip(steps) {
                match step {
                    Step::Save(id, standing) => {
                        let account = account(&id.to_string(), number, standing);
                        let said = repository.save(account.clone(), Expected::Any).await;
                        assert_eq!(said.is_ok(), resident.has_room_for(&account), "{step:?}");
                        if said.is_ok() {
                            model.insert(account.id.clone(), account.clone());
                            resident.touch(account);
                        }
                    }
                    Step::Get(id) => {
                        let id = id.to_string();
                        let found = repository.get(id.as_bytes()).await.unwrap();
                        let found = found.map(|found| found.entity.as_ref().clone());
                        assert_eq!(found.as_ref(), model.get(&id));
                        if let Some(found) = found {
                            resident.touch(found);
                        }
                    }
                    Step::Code(id) => {
                        let (code, id) = (format!("code of {id}"), id.to_string());
                        let index = IndexName::new("code").unwrap();
                        let found = repository.find_unique(&index, code.as_bytes()).await.unwrap();
                        assert_eq!(found.is_some(), model.contains_key(&id));
                        // It is a use of what is in memory, and does not bring what is not.
                        if let Some(found) = resident.0.iter().find(|own| own.id == id).cloned() {
                            resident.touch(found);
                        }
                    }
                    Step::Remove(id) => {
                        let id = id.to_string();
                        repository.remove(id.as_bytes(), Expected::Any).await.unwrap();
                        model.remove(&id);
                        resident.0.retain(|own| own.id != id);
                    }
                }
                let usage = repository.usage();
                assert_eq!(usage.entries, resident.0.len(), "after step {number}, {step:?}");
                let active = resident.0.iter().filter(|own| own.standing == 2).count();
                assert_eq!(usage.active, active);
                let mut wanted: Vec<_> =
                    resident.0.iter().rev().filter(|own| own.standing != 1).cloned().collect();
                for limit in [9, 2, 0] {
                    wanted.truncate(limit);
                    let found = repository.recent(limit);
                    let found: Vec<_> = found.iter().map(|own| own.entity.as_ref().clone()).collect();
                    assert_eq!(found, wanted, "after step {number}, {step:?}");
                }
            }
            let fresh = accounts(&store, Limits::entries(1));
            for (id, account) in &model {
                assert_eq!(fresh.get(id.as_bytes()).await.unwrap().unwrap().entity.as_ref(), account);
            }
        });
    }
}

#[tokio::test]
async fn bytes_are_bounded_too_and_counted_as_they_are_stored() {
    let store = Counting::new();
    let repository = accounts(&store, Limits::entries(1_000).bytes(1_000));
    save(&repository, account("a", 1, 0)).await;
    let one = repository.usage().bytes;
    let stored = serde_json::to_vec(&account("a", 1, 0)).unwrap().len();
    assert!((stored..stored + 300).contains(&one), "{one} bytes for a body of {stored}");
    for number in 0..50 {
        save(&repository, account(&number.to_string(), number, 0)).await;
        assert!(repository.usage().bytes <= 1_000);
    }
    assert_eq!(repository.usage().entries, 1_000 / (one + 3));
    let huge = Account { code: "x".repeat(900), ..account("huge", 1, 2) };
    let refused = repository.save(huge, Expected::Any).await.unwrap_err();
    assert_eq!(*refused.kind(), ErrorKind::Overloaded);
    let huge = Account { code: "x".repeat(900), ..account("huge", 1, 0) };
    save(&repository, huge).await;
    assert_eq!(
        balance(&repository, "huge").await,
        Some(1),
        "too large for memory, not for the store"
    );
}

#[test]
fn tasks_on_two_threads_never_see_more_than_the_limit_nor_less_than_was_saved() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.unwrap().block_on(async {
        let documents = Arc::new(memory(SystemClock::shared()).unwrap());
        let repository: Repository<Account> = Repository::new(documents, 100).unwrap();
        let mut tasks = JoinSet::new();
        for task in 0..3 {
            let repository = repository.clone();
            tasks.spawn(async move {
                for number in 0..50 {
                    save(&repository, account(&format!("{task}-{number}"), number, 0)).await;
                    assert!(repository.usage().entries <= 100);
                    assert_eq!(
                        balance(&repository, &format!("{task}-{number}")).await,
                        Some(number)
                    );
                }
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
        let usage = repository.usage();
        assert_eq!((usage.entries, usage.evicted), (100, 50));
        for task in 0..3 {
            for number in 0..50 {
                assert_eq!(balance(&repository, &format!("{task}-{number}")).await, Some(number));
            }
        }
        assert_eq!(repository.count().await.unwrap(), 150);
    });
}

#[tokio::test]
async fn usage_equals_the_trace_that_made_it() {
    let store = Counting::new();
    let repository = accounts(&store, Limits::entries(4));
    for number in 0..5 {
        save(&repository, account(&number.to_string(), number, u8::from(number == 4) * 2)).await;
    }
    for _ in 0..10 {
        balance(&repository, "4").await;
    }
    balance(&repository, "0").await;
    balance(&repository, "none").await;
    balance(&repository, "none").await;
    let bytes = repository.usage().bytes;
    let mut wanted = Usage::default();
    (wanted.entries, wanted.active, wanted.bytes) = (4, 1, bytes);
    (wanted.hits, wanted.misses, wanted.known_absent) = (10, 2, 1);
    (wanted.loads, wanted.evicted) = (2, 2);
    assert_eq!(repository.usage(), wanted);
}
