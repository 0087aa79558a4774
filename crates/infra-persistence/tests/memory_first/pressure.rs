//! Ten times more entities than fit, read and written by many at once.

use super::*;

const FIT: usize = 60;
const ALL: usize = 10 * FIT;
const ACTIVE: usize = 20;

fn id(number: usize) -> String {
    format!("account {number}")
}

/// Each entity has one writer, so what it ought to be is known; others read it meanwhile.
#[test]
fn ten_times_more_entities_than_fit_lose_nothing_and_active_ones_are_never_read_from_the_store() {
    run(async {
        // The model looks through all its documents at each commit.
        let store = Counting::over(Arc::new(memory(SystemClock::shared()).unwrap()));
        let repository = accounts(&store, Limits::entries(FIT));
        for number in 0..ACTIVE {
            save(&repository, account(&id(number), 0, 2)).await;
        }
        let mut tasks = JoinSet::new();
        for task in 0..8 {
            let repository = repository.clone();
            tasks.spawn(async move {
                let random = infra_core::random::Random::from_system();
                for round in 1..=3 {
                    for number in (ACTIVE..ALL).filter(|number| number % 8 == task) {
                        let wanted = if round == 1 { None } else { Some(round - 1) };
                        assert_eq!(balance(&repository, &id(number)).await, wanted, "{number}");
                        save(&repository, account(&id(number), round, 0)).await;
                        let other = usize::try_from(random.below(ALL as u64)).unwrap();
                        balance(&repository, &id(other)).await;
                        assert!(repository.usage().entries <= FIT);
                    }
                }
            });
        }
        while tasks.join_next().await.transpose().unwrap().is_some() {}
        let reads = store.reads();
        for number in 0..ACTIVE {
            assert_eq!(balance(&repository, &id(number)).await, Some(0));
            assert!(repository.resident_key(id(number).as_bytes()).is_some());
        }
        assert_eq!(store.reads(), reads, "an active entity was read from the store");
        assert_eq!(repository.usage().active, ACTIVE);
        // Another process that has nothing in memory finds the same.
        let fresh = accounts(&store, Limits::entries(1));
        for number in ACTIVE..ALL {
            assert_eq!(balance(&fresh, &id(number)).await, Some(3), "{number}");
        }
        assert_eq!(fresh.count().await.unwrap(), ALL as u64);
    });
}
