use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use infra_core::{
    Clock, Error, ErrorKind, Result, SystemClock,
    budget::{CallBudget, Deadline, Priority},
    context::Context,
    lifecycle::Shutdown,
};
use infra_resilience::{
    Policy as _, Reason, Shedder, at_most_once,
    pool::{Connect, Options, Pool},
    shed::{self, Fixed, MemoryGauge},
};
use infra_testkit::{
    clock::ManualClock,
    proxy::{FaultProxy, Faults},
    server::{self, Kind},
};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::{MILLI, SECOND, clock, kind, reason};

/// Connections with numbers, in the order in which they were opened.
#[derive(Debug, Default)]
struct Numbers {
    opened: AtomicU32,
    takes: Duration,
    is_down: Arc<AtomicBool>,
    checked: Arc<AtomicU32>,
}

impl Connect for Numbers {
    type Connection = u32;

    async fn connect(&self) -> Result<u32> {
        tokio::time::sleep(self.takes).await;
        if self.is_down.load(SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "open connection"));
        }
        Ok(self.opened.fetch_add(1, SeqCst) + 1)
    }

    async fn check(&self, _: &mut u32) -> Result<()> {
        self.checked.fetch_add(1, SeqCst);
        self.connect().await.map(drop).map_err(|error| error.detail("check"))
    }
}

fn pool(options: Options) -> (Pool<Numbers>, ManualClock) {
    let clock = ManualClock::new();
    (Pool::new(Numbers::default(), options, Arc::new(clock.clone())).unwrap(), clock)
}

/// At least five, at most ten, a second of life: after 1.1 s the next is a new one.
#[tokio::test(start_paused = true)]
async fn connections_are_retired_by_age_and_by_idle_time() {
    let options = Options::new(10).min(5).lifetime(SECOND).idle(SECOND * 100);
    let (pool, clock) = pool(options);
    pool.reap().await.unwrap();
    assert_eq!((pool.stats().size, pool.stats().taken, pool.stats().opened), (5, 0, 5));
    let mut taken = Vec::new();
    for _ in 0..5 {
        taken.push(pool.get().await.unwrap());
    }
    let numbers: HashSet<_> = taken.iter().map(|connection| **connection).collect();
    assert_eq!(numbers, (1..=5).collect());
    drop(taken);
    clock.advance(MILLI * 1_100);
    assert_eq!(*pool.get().await.unwrap(), 6, "the old ones are used no more");
    assert_eq!(pool.stats().closed, 5);
    clock.advance(SECOND);
    pool.reap().await.unwrap();
    let stats = pool.stats();
    assert_eq!((stats.size, stats.opened, stats.closed), (5, 11, 6));
    // By idle time: only what is above the minimum.
    let (pool, clock) = crate::pool::pool(Options::new(10).min(2).idle(SECOND));
    let mut taken = Vec::new();
    for _ in 0..6 {
        taken.push(pool.get().await.unwrap());
    }
    drop(taken);
    clock.advance(SECOND);
    drop(pool.get().await.unwrap());
    pool.reap().await.unwrap();
    assert_eq!((pool.stats().size, pool.stats().closed), (2, 4));
}

#[tokio::test(start_paused = true)]
async fn the_reaper_runs_until_it_is_asked_to_stop() {
    let is_down = Arc::new(AtomicBool::new(true));
    let numbers = Numbers { is_down: Arc::clone(&is_down), ..Numbers::default() };
    let pool = Pool::new(numbers, Options::new(4).min(3).lifetime(SECOND * 5), clock()).unwrap();
    let shutdown = Shutdown::new();
    shutdown.spawn(pool.clone().run(SECOND, shutdown.stop()));
    tokio::time::sleep(SECOND * 2).await;
    assert_eq!(pool.stats().size, 0, "the service is away");
    is_down.store(false, SeqCst);
    tokio::time::sleep(SECOND).await;
    assert_eq!(pool.stats().size, 3);
    tokio::time::sleep(SECOND * 6).await;
    let stats = pool.stats();
    assert_eq!((stats.size, stats.opened, stats.closed), (3, 6, 3), "replaced by age");
    assert_eq!(shutdown.close(SECOND).await.finished, 1);
    pool.close();
    assert_eq!(kind(pool.get().await), ErrorKind::Closed);
    pool.reap().await.unwrap();
    let stats = pool.stats();
    assert_eq!((stats.size, stats.opened, stats.closed), (0, 6, 6), "closed, and left alone");
}

#[tokio::test(start_paused = true)]
async fn there_are_never_more_than_maximum_and_overflow_and_waiting_is_bounded() {
    let clock = clock();
    let options = Options::new(2).overflow(1).queue(2, SECOND);
    let pool = Pool::new(Numbers::default(), options, Arc::clone(&clock)).unwrap();
    let taken = [pool.get().await.unwrap(), pool.get().await.unwrap(), pool.get().await.unwrap()];
    let begun = clock.now();
    let mut waiting = JoinSet::new();
    for _ in 0..3 {
        let (pool, clock) = (pool.clone(), Arc::clone(&clock));
        waiting.spawn(async move { (reason(pool.get().await), clock.now().since(begun)) });
    }
    let mut ends = waiting.join_all().await;
    ends.sort_by_key(|(_, after)| *after);
    assert_eq!(ends[0], (Some(Reason::PoolExhausted), Duration::ZERO));
    assert_eq!(ends[1..], [(Some(Reason::WaitedTooLong), SECOND); 2]);
    let soon = Context::default().deadline(Deadline::after(clock.now(), MILLI * 20));
    let begun = clock.now();
    assert_eq!(reason(soon.scope(pool.get()).await), Some(Reason::WaitedTooLong));
    assert_eq!(clock.now().since(begun), MILLI * 20);
    drop(taken);
    let stats = pool.stats();
    assert_eq!((stats.size, stats.closed, stats.waiting), (2, 1, 0), "the overflow is closed");
    assert!(
        format!("{pool:?} {:?}", pool.get().await).starts_with("Pool { stats: Stats { size: 2")
    );
}

#[tokio::test(start_paused = true)]
async fn what_was_idle_is_checked_and_what_is_broken_is_closed() {
    let (is_down, checked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let numbers = Numbers {
        is_down: Arc::clone(&is_down),
        checked: Arc::clone(&checked),
        ..Numbers::default()
    };
    let clock = ManualClock::new();
    let options = Options::new(2).check_after(SECOND);
    let pool = Pool::new(numbers, options, Arc::new(clock.clone())).unwrap();
    drop(pool.get().await.unwrap());
    drop(pool.get().await.unwrap());
    assert_eq!(checked.load(SeqCst), 0, "it was just used");
    clock.advance(SECOND);
    assert_eq!(*pool.get().await.unwrap(), 1);
    assert_eq!(checked.load(SeqCst), 1);
    clock.advance(SECOND);
    is_down.store(true, SeqCst);
    assert_eq!(kind(pool.get().await), ErrorKind::Unavailable, "closed, and no new one");
    assert_eq!((pool.stats().size, pool.stats().closed), (0, 1));
    is_down.store(false, SeqCst);
    let mut connection = pool.get().await.unwrap();
    *connection += 100;
    connection.discard();
    assert_eq!((pool.stats().size, pool.stats().closed), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_does_not_open_in_time_is_given_up() {
    let numbers = Numbers { takes: SECOND * 10, ..Numbers::default() };
    let pool = Pool::new(numbers, Options::new(1).connect_within(SECOND), clock()).unwrap();
    assert_eq!(kind(pool.get().await), ErrorKind::Timeout);
    // Dropped at any time while it opens: the slot is free again.
    for millis in [0, 1, 500, 999] {
        assert!(tokio::time::timeout(MILLI * millis, pool.get()).await.is_err());
        assert_eq!((pool.stats().size, pool.stats().waiting), (0, 0));
    }
}

/// Connections to a service that says nothing any more, after a while.
#[derive(Debug, Default)]
struct Mute(Arc<AtomicBool>);

impl Connect for Mute {
    type Connection = ();

    async fn connect(&self) -> Result<()> {
        if self.0.load(SeqCst) {
            std::future::pending::<()>().await;
        }
        Ok(())
    }

    async fn check(&self, (): &mut ()) -> Result<()> {
        self.connect().await
    }
}

#[tokio::test(start_paused = true)]
async fn idle_connections_that_are_dead_cost_one_wait_together_and_never_the_deadline() {
    let (is_mute, clock) = (Arc::new(AtomicBool::new(false)), clock());
    let options = Options::new(9).queue(9, SECOND * 2).connect_within(SECOND).check_after(SECOND);
    let pool = Pool::new(Mute(Arc::clone(&is_mute)), options, Arc::clone(&clock)).unwrap();
    let mut all = Vec::new();
    while all.len() < 9 {
        all.push(pool.get().await.unwrap());
    }
    drop(all);
    tokio::time::advance(SECOND).await;
    is_mute.store(true, SeqCst);
    let begun = clock.now();
    let hurried = Context::default().deadline(Deadline::after(begun, MILLI * 500));
    assert_eq!(kind(hurried.scope(pool.get()).await), ErrorKind::Timeout);
    assert_eq!(
        clock.now().since(begun),
        MILLI * 500,
        "the deadline is before the first check's end"
    );
    let begun = clock.now();
    assert_eq!(kind(pool.get().await), ErrorKind::Timeout);
    assert_eq!(clock.now().since(begun), SECOND * 3, "not nine seconds, one for each");
    let closed = pool.stats().closed;
    assert!((4..=5).contains(&closed), "{closed} were tried and closed");
    is_mute.store(false, SeqCst);
    assert!(pool.get().await.is_ok());
}

/// Real Redis connections through a proxy that cuts some of them.
#[derive(Debug)]
struct Redis(SocketAddr);

impl Connect for Redis {
    type Connection = redis::aio::MultiplexedConnection;

    async fn connect(&self) -> Result<Self::Connection> {
        let failed = |cause| Error::new(ErrorKind::Unavailable, "open connection").because(cause);
        let client = redis::Client::open(format!("redis://{}", self.0)).map_err(failed)?;
        client.get_multiplexed_async_connection().await.map_err(failed)
    }

    async fn check(&self, connection: &mut Self::Connection) -> Result<()> {
        let failed = |cause| Error::new(ErrorKind::Unavailable, "ping").because(cause);
        redis::cmd("PING").query_async::<()>(connection).await.map_err(failed)
    }
}

/// Twenty tasks, fifty uses each, over connections of which each tenth is cut.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn under_stress_no_connection_is_held_twice_and_all_come_back() {
    let url: url::Url = server::shared(Kind::Redis).unwrap().parse().unwrap();
    let address = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap());
    let proxy = FaultProxy::start(address.parse().unwrap()).await.unwrap();
    let options = Options::new(10).min(2).overflow(5).queue(20, SECOND * 30);
    let pool = Pool::new(Redis(proxy.addr()), options, SystemClock::shared()).unwrap();
    let (held, broken) = (Arc::new(Mutex::new(HashSet::new())), Arc::new(AtomicU64::new(0)));
    let uses = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for task in 0..20_u32 {
        let (pool, held, broken) = (pool.clone(), Arc::clone(&held), Arc::clone(&broken));
        let uses = Arc::clone(&uses);
        tasks.spawn(async move {
            for use_ in 0..50_u32 {
                let Ok(mut connection) = pool.get().await else {
                    broken.fetch_add(1, SeqCst);
                    continue;
                };
                assert!(pool.stats().size <= 15);
                let id = redis::cmd("CLIENT").arg("ID").query_async::<u64>(&mut *connection).await;
                let Ok(id) = id else {
                    broken.fetch_add(1, SeqCst);
                    connection.discard();
                    continue;
                };
                assert!(held.lock().insert(id), "connection {id} is held twice");
                tokio::time::sleep(MILLI * ((task + use_) % 4)).await;
                held.lock().remove(&id);
                uses.fetch_add(1, SeqCst);
            }
        });
    }
    let mut turn = 0_u32;
    while !tasks.is_empty() {
        let cut_after = turn.is_multiple_of(10).then_some(40);
        proxy.set(Faults { cut_after, ..Faults::default() });
        turn += 1;
        while let Some(done) = tasks.try_join_next() {
            done.unwrap();
        }
        tokio::time::sleep(MILLI).await;
    }
    assert_eq!(uses.load(SeqCst) + broken.load(SeqCst), 1_000);
    let stats = pool.stats();
    assert_eq!((stats.taken, stats.waiting), (0, 0), "all are returned");
    assert!(2 <= stats.opened && stats.size <= 10, "{stats:?}");
    assert_eq!(stats.opened - stats.closed, stats.size as u64);
}

/// Memory limits of 100 and 200 MB, a pool of ten and five, fifty calls of 50 ms at once.
#[tokio::test(start_paused = true)]
async fn exhausted_resources_shed_an_exact_number_and_the_pool_keeps_its_bound() {
    let gauge = MemoryGauge::new(100_000_000, 200_000_000);
    gauge.set(75_000_000);
    let options = shed::Options::new(Fixed(20)).queue(10, SECOND).memory(gauge.clone()).seed(1);
    let shedder = Shedder::new(options, clock());
    shedder.report_load(0.80);
    let pool_options = Options::new(10).overflow(5).queue(100, SECOND);
    let pool = Pool::new(Numbers::default(), pool_options, clock()).unwrap();
    let round = async |priority: Priority| {
        let mut tasks = JoinSet::new();
        let peak = Arc::new(AtomicU64::new(0));
        for _ in 0..50 {
            let (shedder, pool, peak) = (shedder.clone(), pool.clone(), Arc::clone(&peak));
            let context = Context::default().budget(CallBudget::default().priority(priority));
            tasks.spawn(context.scope(async move {
                let call = at_most_once(|| async {
                    let _connection = pool.get().await?;
                    peak.fetch_max(pool.stats().size as u64, SeqCst);
                    tokio::time::sleep(MILLI * 50).await;
                    Ok(())
                });
                reason(shedder.run("work", call).await)
            }));
        }
        tokio::task::yield_now().await;
        let (waiting, in_pool) = (shedder.stats().waiting, pool.stats().waiting);
        let ends = tasks.join_all().await;
        let count = |reason| ends.iter().filter(|end| **end == reason).count();
        assert!(peak.load(SeqCst) <= 15);
        let shed = [Reason::QueueFull, Reason::MemorySoft, Reason::MemoryHard, Reason::Load];
        (count(None), shed.map(|reason| count(Some(reason))), waiting, in_pool)
    };
    assert_eq!(round(Priority::Normal).await, (30, [20, 0, 0, 0], 10, 5));
    gauge.set(150_000_000);
    assert_eq!(round(Priority::Normal).await, (0, [0, 50, 0, 0], 0, 0));
    assert_eq!(round(Priority::High).await, (30, [20, 0, 0, 0], 10, 5));
    gauge.set(200_000_000);
    assert_eq!(round(Priority::Critical).await, (0, [0, 0, 50, 0], 0, 0));
    gauge.set(0);
    shedder.report_load(0.99);
    assert_eq!(round(Priority::Normal).await, (0, [0, 0, 0, 50], 0, 0));
    assert_eq!((pool.stats().size, pool.stats().taken), (10, 0));
}
