use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use infra_core::{
    ErrorKind, SystemClock,
    budget::{CallBudget, Deadline, Priority},
    context::Context,
    random::Random,
};
use infra_resilience::{
    Bulkhead, Policy as _, Reason, at_most_once,
    bulkhead::{Options, PerKey},
};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::{MILLI, SECOND, clock, fail, reason};

fn bulkhead(concurrent: usize, queue: usize) -> Bulkhead {
    Bulkhead::new(Options::new(concurrent).queue(queue).wait(SECOND), clock())
}

/// Three places, two in the queue, ten calls of 100 ms at once.
#[tokio::test(start_paused = true)]
async fn of_ten_calls_three_run_two_wait_and_five_are_refused_at_once() {
    let (clock, bulkhead) = (clock(), bulkhead(3, 2));
    let begun = clock.now();
    let mut tasks = JoinSet::new();
    for _ in 0..10 {
        let (bulkhead, clock) = (bulkhead.clone(), Arc::clone(&clock));
        tasks.spawn(async move {
            let call = at_most_once(|| async {
                tokio::time::sleep(MILLI * 100).await;
                Ok(())
            });
            let result = bulkhead.run("ask", call).await;
            (reason(result), clock.now().since(begun))
        });
    }
    let mut ends = tasks.join_all().await;
    ends.sort_by_key(|(_, at)| *at);
    let expected: Vec<_> = std::iter::repeat_n((Some(Reason::QueueFull), Duration::ZERO), 5)
        .chain(std::iter::repeat_n((None, MILLI * 100), 3))
        .chain(std::iter::repeat_n((None, MILLI * 200), 2))
        .collect();
    assert_eq!(ends, expected);
    let stats = bulkhead.stats();
    assert_eq!((stats.peak, stats.running, stats.waiting), (3, 0, 0));
    assert_eq!((stats.admitted, stats.refused), (5, 5));
}

/// Ten threads' worth of tasks, twenty jobs each: panics and drops give their places back.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn panicking_and_cancelled_jobs_give_their_places_back() {
    let bulkhead = Bulkhead::new(Options::new(5).queue(200), SystemClock::shared());
    let (running, peak) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    // All five places at once, held until the others wait.
    let mut seats = Vec::new();
    for _ in 0..5 {
        seats.push(bulkhead.enter("fill").await.unwrap());
    }
    let mut tasks = JoinSet::new();
    for job in 0..200_u32 {
        let (bulkhead, running, peak) = (bulkhead.clone(), Arc::clone(&running), Arc::clone(&peak));
        let handle = tasks.spawn(async move {
            let call = at_most_once(|| async {
                peak.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                (0..job % 4).for_each(|_| std::thread::yield_now());
                running.fetch_sub(1, Ordering::SeqCst);
                if job % 10 == 3 { panic!("as planned") } else { Ok(()) }
            });
            bulkhead.run("work", call).await
        });
        if job % 10 == 7 {
            handle.abort();
        }
    }
    while bulkhead.stats().waiting < 150 {
        tokio::task::yield_now().await;
    }
    drop(seats);
    let (mut done, mut panicked, mut cancelled) = (0, 0, 0);
    while let Some(joined) = tasks.join_next().await {
        match joined {
            Ok(result) => {
                result.unwrap();
                done += 1;
            }
            Err(error) if error.is_panic() => panicked += 1,
            Err(_) => cancelled += 1,
        }
    }
    assert_eq!((done, panicked, cancelled), (160, 20, 20));
    let end = bulkhead.stats();
    assert_eq!((end.running, end.waiting, end.peak), (0, 0, 5));
    assert!(peak.load(Ordering::SeqCst) <= 5);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_than_the_limit_or_its_deadline() {
    let (clock, bulkhead) = (clock(), bulkhead(1, 10));
    let seat = bulkhead.enter("hold").await.unwrap();
    let begun = clock.now();
    assert_eq!(reason(bulkhead.enter("wait").await), Some(Reason::WaitedTooLong));
    assert_eq!(clock.now().since(begun), SECOND);
    let soon = Context::default().deadline(Deadline::after(clock.now(), MILLI * 50));
    let begun = clock.now();
    assert_eq!(reason(soon.scope(bulkhead.enter("wait")).await), Some(Reason::WaitedTooLong));
    assert_eq!(clock.now().since(begun), MILLI * 50);
    assert_eq!(bulkhead.stats().waiting, 0, "who is gone waits no more");
    drop(seat);
    drop(bulkhead.enter("free").await.unwrap());
}

fn at(priority: Priority) -> Context {
    Context::default().budget(CallBudget::default().priority(priority))
}

#[tokio::test(start_paused = true)]
async fn higher_priorities_go_first_and_take_places_of_lower_ones() {
    let bulkhead = bulkhead(1, 3);
    let seat = bulkhead.enter("hold").await.unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = JoinSet::new();
    let names = ["low", "normal", "low too", "critical", "high"];
    let priorities =
        [Priority::Low, Priority::Normal, Priority::Low, Priority::Critical, Priority::High];
    for (name, priority) in names.into_iter().zip(priorities) {
        let (bulkhead, order) = (bulkhead.clone(), Arc::clone(&order));
        tasks.spawn(at(priority).scope(async move {
            match bulkhead.enter("wait").await {
                Ok(_seat) => order.lock().push(name),
                Err(error) => {
                    assert_eq!(reason::<()>(Err(error)), Some(Reason::Displaced));
                    order.lock().push("displaced");
                }
            }
        }));
        tokio::task::yield_now().await;
    }
    drop(seat);
    tasks.join_all().await;
    assert_eq!(*order.lock(), ["displaced", "displaced", "critical", "high", "normal"]);
}

/// One client with 900 calls and ten with ten each, in a seeded order: the light ones are served
/// whole, the heavy one gets what is left.
#[tokio::test(start_paused = true)]
async fn light_clients_are_served_whole_before_a_heavy_one_exceeds_its_share() {
    for seed in 0..5 {
        let bulkhead = Bulkhead::new(Options::new(10).queue(300).wait(SECOND * 100), clock());
        let mut arrivals: Vec<usize> =
            (0..=10).flat_map(|client| vec![client; if client == 0 { 900 } else { 10 }]).collect();
        let random = Random::seeded(seed);
        for index in (1..arrivals.len()).rev() {
            arrivals.swap(index, usize::try_from(random.below(index as u64 + 1)).unwrap());
        }
        let mut tasks = JoinSet::new();
        for client in arrivals {
            let bulkhead = bulkhead.client(format!("client {client}"));
            tasks.spawn(async move {
                let call = at_most_once(|| async {
                    tokio::time::sleep(MILLI * 10).await;
                    Ok(())
                });
                (client, bulkhead.run("ask", call).await.is_ok())
            });
        }
        let (mut served, mut shed) = ([0; 11], 0);
        for (client, is_served) in tasks.join_all().await {
            served[client] += usize::from(is_served);
            shed += usize::from(!is_served);
        }
        assert!(served[1..].iter().all(|light| *light == 10), "{served:?}");
        // Ten places and three hundred in line, a hundred of them for the light clients.
        assert_eq!((served[0], shed), (210, 690));
    }
}

#[tokio::test(start_paused = true)]
async fn a_bulkhead_of_one_per_key_keeps_the_order_of_each_key() {
    let options = Options::new(1).queue(50).wait(SECOND * 60);
    let rooms: PerKey<u32> = PerKey::bulkheads(3, options, clock());
    let order = Arc::new(Mutex::new(vec![Vec::new(); 3]));
    let mut tasks = JoinSet::new();
    for call in 0..30_u32 {
        let (rooms, order) = (rooms.clone(), Arc::clone(&order));
        tasks.spawn(async move {
            let room = call % 3;
            let _seat = rooms.enter(&room, "act").await.unwrap();
            tokio::time::sleep(MILLI * u64::from(call * 7 % 5 + 1).try_into().unwrap()).await;
            order.lock()[room as usize].push(call);
        });
        tokio::task::yield_now().await;
    }
    tokio::task::yield_now().await;
    assert_eq!(reason(rooms.enter(&9, "act").await), Some(Reason::KeysFull));
    tasks.join_all().await;
    assert!(order.lock().iter().all(|calls| calls.is_sorted() && calls.len() == 10));
    assert!(rooms.enter(&9, "act").await.is_ok(), "an idle key makes room");
}

#[tokio::test]
async fn a_call_that_fails_gives_its_place_back() {
    let bulkhead = bulkhead(1, 0);
    for _ in 0..3 {
        let result =
            bulkhead.run("ask", at_most_once(|| async { fail::<()>(ErrorKind::Internal) }));
        assert_eq!(*result.await.unwrap_err().kind(), ErrorKind::Internal);
    }
    assert!(format!("{bulkhead:?}").contains("admitted: 3"));
}
