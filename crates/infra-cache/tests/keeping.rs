//! What is kept, for how long, and who goes: against plain models, on a manual clock.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_wrap,
    clippy::indexing_slicing,
    clippy::similar_names,
    clippy::large_futures,
    clippy::too_many_lines,
    clippy::cast_possible_truncation,
    clippy::len_zero,
    clippy::needless_for_each,
    clippy::unchecked_time_subtraction,
    clippy::allow_attributes,
    reason = "a panic is how a test fails"
)]

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use infra_cache::{Cause, Change, Computed, Loaded, LocalCache, Options, Policy};
use infra_testkit::{clock::ManualClock, seed::Seed};
use parking_lot::Mutex;
use rand::RngExt as _;

const SECOND: Duration = Duration::from_secs(1);
const NANO: Duration = Duration::from_nanos(1);
const POLICIES: [Policy; 5] =
    [Policy::TinyLfu, Policy::Lru, Policy::ExactLru, Policy::ExactLfu, Policy::ExactFifo];

fn cache(options: Options) -> (ManualClock, LocalCache<u32, u64>) {
    let clock = ManualClock::new();
    (clock.clone(), LocalCache::new(options, Arc::new(clock)))
}

/// How many seeds a property has; `TEST_SEEDS` sets another number for the full run.
fn seeds(count: u64) -> impl Iterator<Item = Seed> {
    Seed::each(std::env::var("TEST_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(count))
}

#[test]
fn any_program_of_operations_gives_what_a_plain_map_gives() {
    for policy in POLICIES {
        for seed in seeds(20) {
            let mut dice = seed.dice();
            let (clock, cache) = cache(Options::new(1_000).policy(policy));
            let mut model: BTreeMap<u32, (u64, Option<Duration>)> = BTreeMap::new();
            let mut now = Duration::ZERO;
            for step in 0..400_u64 {
                let key = dice.random_range(0..12);
                model.retain(|_, (_, end)| end.is_none_or(|end| now < end));
                let there = model.get(&key).map(|(value, _)| *value);
                match dice.random_range(0..8) {
                    0 => {
                        cache.put(key, step);
                        model.insert(key, (step, None));
                    }
                    1 => {
                        let ttl = SECOND * dice.random_range(0..4);
                        cache.put_for(key, step, Some(ttl));
                        model.insert(key, (step, Some(now + ttl)));
                    }
                    2 => assert_eq!(cache.invalidate(&key), model.remove(&key).is_some(), "{seed}"),
                    3 => {
                        clock.advance(SECOND / 2);
                        now += SECOND / 2;
                    }
                    4 => assert_eq!(cache.contains(&key), there.is_some(), "{seed}"),
                    5 => {
                        let all: BTreeMap<_, _> = cache.entries().into_iter().collect();
                        let expected =
                            model.iter().map(|(key, (value, _))| (*key, *value)).collect();
                        assert_eq!(all, expected, "{seed}");
                    }
                    6 if dice.random_ratio(1, 20) => {
                        cache.clear();
                        model.clear();
                    }
                    _ => assert_eq!(cache.get(&key), there, "{seed}, step {step}, {policy:?}"),
                }
            }
        }
    }
}

#[test]
fn nothing_and_a_stored_nothing_are_not_the_same() {
    let clock = Arc::new(ManualClock::new());
    let cache: LocalCache<&str, Option<u64>> = LocalCache::new(Options::new(10), clock);
    cache.put("null", None);
    assert_eq!((cache.get(&"null"), cache.get(&"never")), (Some(None), None));
}

#[test]
fn a_time_of_its_own_goes_before_the_usual_one_in_both_directions() {
    for policy in POLICIES {
        let (clock, cache) = cache(Options::new(10).ttl(SECOND).policy(policy));
        cache.put(1, 1);
        cache.put_for(2, 2, Some(SECOND * 5));
        cache.put_for(3, 3, Some(SECOND / 2));
        cache.put_for(4, 4, None);
        cache.put_for(5, 5, Some(Duration::ZERO));
        assert_eq!(cache.get(&5), None, "a time of zero is over at once");
        for (key, end) in [(3, SECOND / 2), (1, SECOND), (2, SECOND * 5)] {
            let passed = cache.look(&4).unwrap().age;
            clock.advance(end - passed - NANO);
            assert!(cache.get(&key).is_some(), "{key} just before its end");
            clock.advance(NANO);
            assert_eq!(cache.get(&key), None, "{key} at its end");
        }
        clock.advance(SECOND * 1_000_000);
        assert_eq!(cache.get(&4), Some(4));
    }
}

#[test]
fn what_nobody_reads_is_swept_and_counted() {
    for policy in POLICIES {
        let (clock, cache) = cache(Options::new(10_000).ttl(SECOND).policy(policy));
        (0..1_000).for_each(|key| cache.put(key, 1));
        (1_000..1_100).for_each(|key| cache.put_for(key, 1, Some(SECOND * 3)));
        clock.advance(SECOND - NANO);
        assert_eq!(cache.sweep(), 0);
        clock.advance(NANO);
        assert_eq!(cache.sweep(), 1_000);
        let told = cache.statistics();
        assert_eq!((told.expired, told.len), (1_000, 100), "{policy:?}");
        // Without a sweeper each write takes some of them away, so the dead do not pile up.
        clock.advance(SECOND * 2);
        (2_000..2_400).for_each(|key| cache.put_for(key, 1, None));
        assert_eq!(cache.statistics().expired, 1_100, "{policy:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_sweeper_sweeps_until_it_is_stopped_or_alone() {
    let (clock, cache) = cache(Options::new(10).ttl(SECOND));
    let shutdown = infra_core::lifecycle::Shutdown::new();
    shutdown.spawn(cache.sweeper(SECOND).run(shutdown.stop()));
    let other: LocalCache<u32, u64> = LocalCache::new(Options::new(10), Arc::new(clock.clone()));
    shutdown.spawn(other.sweeper(SECOND).run(shutdown.stop()));
    drop(other);
    cache.put(1, 1);
    clock.advance(SECOND);
    tokio::time::sleep(SECOND * 2).await;
    assert_eq!(cache.statistics().expired, 1);
    assert!(format!("{shutdown:?}").contains('2'), "both ran: {shutdown:?}");
    assert_eq!(shutdown.close(SECOND).await.finished, 2);
}

#[test]
fn what_is_not_read_for_a_while_is_over_and_a_read_prolongs_it() {
    let (clock, cache) = cache(Options::new(10).idle(SECOND).ttl(SECOND * 3));
    cache.put(1, 1);
    cache.put(2, 2);
    for _ in 0..4 {
        clock.advance(SECOND / 2);
        assert_eq!(cache.get(&1), Some(1));
    }
    assert_eq!(cache.get(&2), None);
    assert_eq!(cache.sweep(), 1, "the read one stays");
    clock.advance(SECOND - NANO);
    assert_eq!(cache.get(&1), Some(1));
    clock.advance(NANO);
    assert_eq!(cache.get(&1), None, "no read prolongs its time to live");
    assert_eq!(cache.sweep(), 1);
}

#[test]
fn jitter_shortens_times_within_its_bound_and_never_lengthens_them() {
    let (clock, cache) = cache(Options::new(10_000).ttl(SECOND).jitter(20).seed(7));
    (0..1_000).for_each(|key| cache.put(key, 1));
    clock.advance(SECOND * 8 / 10 - NANO);
    assert_eq!(cache.sweep(), 0, "four fifths of the time are sure");
    clock.advance(SECOND / 10);
    let half = cache.sweep();
    assert!((300..700).contains(&half), "{half} of 1,000 after half of the rest");
    clock.advance(SECOND / 10 + NANO);
    assert_eq!(cache.sweep() + half, 1_000);
}

/// The victim lists by the book, each O(n).
struct Shelf {
    policy: Policy,
    capacity: usize,
    /// Keys with how often and when they were used, and when they were put.
    held: Vec<(u32, u64, u64)>,
    step: u64,
    aged: u64,
}

impl Shelf {
    fn touch(&mut self, key: u32) {
        self.step += 1;
        if self.policy == Policy::ExactLfu
            && 10 * self.held.len().max(1) as u64 <= self.step - self.aged
        {
            self.aged = self.step;
            self.held.iter_mut().for_each(|held| held.1 = (held.1 / 2).max(1));
        }
        let (step, policy) = (self.step, self.policy);
        if let Some(held) = self.held.iter_mut().find(|held| held.0 == key)
            && policy != Policy::ExactFifo
        {
            *held = (key, held.1 + u64::from(policy == Policy::ExactLfu), step);
        }
    }

    fn insert(&mut self, key: u32) {
        self.step += 1;
        let old = self.held.iter().position(|held| held.0 == key).map(|at| self.held.remove(at));
        if self.held.len() == self.capacity {
            let victim = self.held.iter().min_by_key(|held| (held.1, held.2)).unwrap().0;
            self.held.retain(|held| held.0 != victim);
        }
        let is_lfu = self.policy == Policy::ExactLfu;
        let frequency = old.map_or(1, |old| old.1 + u64::from(is_lfu));
        self.held.push((key, if is_lfu { frequency } else { 0 }, self.step));
    }
}

fn evicts_by_the_book(policy: Policy) {
    for seed in seeds(8) {
        let mut dice = seed.dice();
        for capacity in [1, 2, 3, 7, 16, 64] {
            let (_, cache) = cache(Options::new(capacity as u64).policy(policy));
            let mut shelf = Shelf { policy, capacity, held: Vec::new(), step: 0, aged: 0 };
            let mut deletes = 0;
            for step in 0..600 {
                let key = dice.random_range(0..capacity as u32 * 2 + 1);
                match dice.random_range(0..10) {
                    0..5 => {
                        let was_there = shelf.held.iter().any(|held| held.0 == key);
                        assert_eq!(cache.get(&key).is_some(), was_there, "{seed}, step {step}");
                        shelf.touch(key);
                    }
                    5..9 => {
                        cache.put(key, 1);
                        shelf.insert(key);
                    }
                    _ => {
                        deletes += u64::from(cache.invalidate(&key));
                        shelf.held.retain(|held| held.0 != key);
                    }
                }
                let kept: BTreeSet<u32> = cache.entries().into_iter().map(|(key, _)| key).collect();
                let expected: BTreeSet<u32> = shelf.held.iter().map(|held| held.0).collect();
                assert_eq!(kept, expected, "{seed}, capacity {capacity}, step {step}");
                assert!(kept.len() <= capacity);
            }
            let told = cache.statistics();
            assert_eq!(told.removed, deletes);
            assert_eq!(
                told.evicted,
                told.inserts - told.removed - told.replaced - told.len,
                "{seed}"
            );
        }
    }
}

#[test]
fn exact_lru_evicts_by_the_book_at_any_capacity() {
    evicts_by_the_book(Policy::ExactLru);
    let (_, cache) = cache(Options::new(3).policy(Policy::ExactLru));
    (1..=3).for_each(|key| cache.put(key, 1));
    assert!(cache.get(&1).is_some() && cache.get(&2).is_some());
    cache.put(4, 1);
    assert_eq!([1, 2, 3, 4].map(|key| cache.contains(&key)), [true, true, false, true]);
}

#[test]
fn exact_lfu_evicts_by_the_book_and_of_equals_the_least_recently_used() {
    evicts_by_the_book(Policy::ExactLfu);
    let (_, cache) = cache(Options::new(3).policy(Policy::ExactLfu));
    (1..=3).for_each(|key| cache.put(key, 1));
    [1, 1, 1, 2, 2].iter().for_each(|key| assert!(cache.get(key).is_some()));
    cache.put(4, 1);
    assert_eq!([1, 2, 3, 4].map(|key| cache.contains(&key)), [true, true, false, true]);
    cache.put(5, 1);
    assert!(!cache.contains(&4), "a fresh key has a frequency of one, and the older of two goes");
}

#[test]
fn exact_fifo_evicts_by_the_book() {
    evicts_by_the_book(Policy::ExactFifo);
}

#[test]
fn what_was_hot_once_does_not_stay_for_ever() {
    let (_, cache) = cache(Options::new(3).policy(Policy::ExactLfu));
    cache.put(1, 1);
    (0..1_000).for_each(|_| assert!(cache.get(&1).is_some()));
    // Others are used now, three times each; the old favourite is not.
    let rounds = (2..2_000).take_while(|key| {
        (0..3).for_each(|_| {
            cache.put(*key, 1);
            cache.get(key);
        });
        cache.contains(&1)
    });
    let rounds = rounds.count();
    assert!((1..100).contains(&rounds), "it went after {rounds} others");
}

#[test]
fn what_is_over_goes_before_what_is_not() {
    for policy in [Policy::ExactLru, Policy::ExactLfu, Policy::ExactFifo] {
        let (clock, cache) = cache(Options::new(3).policy(policy));
        cache.put(1, 1);
        cache.put(2, 1);
        cache.put_for(3, 1, Some(SECOND));
        clock.advance(SECOND);
        cache.put(4, 1);
        assert_eq!([1, 2, 3, 4].map(|key| cache.contains(&key)), [true, true, false, true]);
        assert_eq!((cache.statistics().expired, cache.statistics().evicted), (1, 0));
    }
}

#[test]
fn the_capacity_is_a_sum_of_weights_if_entries_are_weighed() {
    for policy in POLICIES {
        let clock = Arc::new(ManualClock::new());
        let options = Options::new(1_000).policy(policy);
        let cache: LocalCache<u32, String> = LocalCache::builder(options, clock)
            .weigher(|_, text: &String| text.len() as u32)
            .build();
        (0..1_000).for_each(|key| cache.put(key, "x".repeat(1 + key as usize % 90)));
        let told = cache.statistics();
        let measured: usize = cache.entries().iter().map(|(_, text)| text.len()).sum();
        assert_eq!(told.weight, measured as u64, "{policy:?}");
        assert!(0 < told.weight && told.weight <= 1_000, "{policy:?} {told:?}");
        cache.put(5_000, "x".repeat(2_000));
        assert!(0 < cache.len(), "what never fits flushes nobody");
        assert_eq!(cache.get(&5_000), None, "and is not kept");
    }
}

#[test]
fn a_batch_is_as_its_operations_one_after_the_other() {
    for seed in seeds(30) {
        let mut dice = seed.dice();
        let (_, batched) = cache(Options::new(1_000));
        let (_, single) = cache(Options::new(1_000));
        for _ in 0..30 {
            let mut some = |many: usize| -> Vec<u32> {
                (0..dice.random_range(0..many)).map(|_| dice.random_range(0..20)).collect()
            };
            let puts: Vec<(u32, u64)> = some(10).into_iter().zip(0..).collect();
            batched.put_many(puts.clone());
            puts.iter().for_each(|(key, value)| single.put(*key, *value));
            let asked = some(30);
            let expected: HashMap<u32, u64> =
                asked.iter().filter_map(|key| Some((*key, single.get(key)?))).collect();
            assert_eq!(batched.get_many(&asked), expected, "{seed}");
            let gone = some(10);
            let removed = gone.iter().filter(|key| single.invalidate(key)).count() as u64;
            assert_eq!(batched.invalidate_many(&gone), removed, "{seed}");
        }
    }
    let (_, cache) = cache(Options::new(10_000));
    cache.put_many([(1, 1), (2, 2), (3, 3)]);
    assert_eq!(cache.get_many(&[1, 2, 4]), [(1, 1), (2, 2)].into());
    assert_eq!(cache.invalidate_many(&[1, 2, 4, 1]), 2);
    assert_eq!((cache.get(&1), cache.get(&3)), (None, Some(3)));
}

#[test]
fn the_keys_of_each_tag_are_those_of_the_live_entries_that_carry_it() {
    const TAGS: [&str; 4] = ["red", "green", "blue", "grey"];
    for policy in POLICIES {
        for seed in seeds(15) {
            let mut dice = seed.dice();
            let (clock, cache) = cache(Options::new(20).policy(policy));
            let mut carried: HashMap<u32, Vec<&str>> = HashMap::new();
            for step in 0..300 {
                let key = dice.random_range(0..40);
                match dice.random_range(0..8) {
                    0..4 => {
                        let tags: Vec<&str> =
                            TAGS.into_iter().filter(|_| dice.random_ratio(1, 3)).collect();
                        let ttl = SECOND * dice.random_range(1..9);
                        let loaded = tags.iter().fold(Loaded::new(step), |it, tag| it.tagged(*tag));
                        cache.put_loaded(key, loaded.ttl(ttl));
                        carried.insert(key, tags);
                    }
                    4 => drop(cache.invalidate(&key)),
                    5 => clock.advance(SECOND / 2),
                    6 => {
                        let tag = TAGS[dice.random_range(0..4)];
                        let tagged = cache.tagged(tag).len() as u64;
                        if dice.random() {
                            assert_eq!(cache.remove_tag(tag), tagged, "{seed}, step {step}");
                        } else {
                            cache.invalidate_tag(tag);
                        }
                        assert_eq!(cache.tagged(tag), Vec::<u32>::new());
                    }
                    _ => drop(cache.get(&key)),
                }
                cache.len();
                let live: Vec<u32> = cache.entries().into_iter().map(|(key, _)| key).collect();
                for tag in TAGS {
                    let carry = live.iter().filter(|key| carried[*key].contains(&tag));
                    let expected: BTreeSet<u32> = carry.copied().collect();
                    let found: BTreeSet<u32> = cache.tagged(tag).into_iter().collect();
                    assert_eq!(found, expected, "{seed}, step {step}, {tag}, {policy:?}");
                }
            }
        }
    }
}

#[test]
fn a_group_ends_with_its_handle_and_takes_no_more_than_its_share() {
    let (_, cache) = cache(Options::new(1_000));
    let (one, two) = (cache.group(5), cache.group(5));
    let kept = (0..10).filter(|key| one.put(*key, 1)).count();
    assert_eq!((kept, one.len()), (5, 5));
    assert!(two.put(100, 2) && !two.is_empty());
    cache.put(200, 3);
    assert!(!one.put(7, 1) && !cache.contains(&7), "a full group refuses");
    two.put(0, 9);
    assert_eq!((one.len(), two.len()), (4, 2), "a key that changes hands is counted where it is");
    drop(one);
    assert_eq!(
        [0, 1, 4, 100, 200].map(|key| cache.get(&key)),
        [Some(9), None, None, Some(2), Some(3)]
    );
    cache.sweep();
    assert_eq!((cache.len(), cache.statistics().invalidated), (3, 4));
}

#[tokio::test]
async fn what_is_loaded_for_a_group_that_ended_is_not_kept() {
    let (_, cache) = cache(Options::new(10));
    let room = cache.group(1);
    assert_eq!(room.get_or_load(&1, || async { Ok(7) }).await.unwrap(), 7);
    assert_eq!((cache.get(&1), room.len()), (Some(7), 1));
    assert_eq!(room.get_or_load(&2, || async { Ok(8) }).await.unwrap(), 8);
    assert_eq!(cache.get(&2), None, "it is full");
    let other = cache.group(10);
    let (end, ends) = tokio::sync::oneshot::channel::<()>();
    {
        let load = other.get_or_load(&3, || async move {
            ends.await.unwrap();
            Ok(9)
        });
        let mut load = std::pin::pin!(load);
        tokio::select! {
            biased;
            _ = &mut load => panic!("it waits"),
            () = tokio::task::yield_now() => {}
        }
    }
    drop(other);
    end.send(()).unwrap();
    while cache.statistics().superseded == 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(cache.get(&3), None);
}

#[test]
fn a_listener_hears_of_each_value_that_left_and_truly_why() {
    for policy in POLICIES {
        let clock = ManualClock::new();
        let heard: Arc<Mutex<Vec<(u32, u64, Cause)>>> = Arc::default();
        let told = Arc::clone(&heard);
        let options = Options::new(3).policy(policy);
        let cache: LocalCache<u32, u64> = LocalCache::builder(options, Arc::new(clock.clone()))
            .listener(move |key, value, cause| told.lock().push((*key, *value, cause)))
            .build();
        cache.put(1, 10);
        cache.put(1, 11);
        cache.put_for(2, 20, Some(SECOND));
        clock.advance(SECOND);
        // The newer one is fresh; it is the older one that is over.
        cache.put(2, 21);
        cache.invalidate(&1);
        cache.put_loaded(1, Loaded::new(12).tagged("red"));
        cache.remove_tag("red");
        cache.clear();
        cache.len();
        let expected = [
            (1, 10, Cause::Replaced),
            (2, 20, Cause::Expired),
            (1, 11, Cause::Removed),
            (1, 12, Cause::Invalidated),
            (2, 21, Cause::Invalidated),
        ];
        assert_eq!(*heard.lock(), expected, "{policy:?}");
        heard.lock().clear();
        (0..30).for_each(|key| cache.put(key, 1));
        assert_eq!(cache.len() as usize + heard.lock().len(), 30);
        assert!(heard.lock().iter().all(|(_, _, cause)| *cause == Cause::Evicted), "{policy:?}");
    }
}

#[test]
fn changes_of_a_key_by_a_function_never_lose_one_another() {
    let (_, cache) = cache(Options::new(100));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..500 {
                    cache.compute(&1, |count| Change::Put((count.unwrap_or(0) + 1).into()));
                }
            });
        }
    });
    assert_eq!(cache.get(&1), Some(4_000));
    assert_eq!(cache.compute(&1, |_| Change::Keep), Computed::Kept);
    assert_eq!(cache.compute(&1, |_| Change::Remove), Computed::Removed);
    assert_eq!(cache.compute(&1, |_| Change::Remove), Computed::Kept);
    assert_eq!(cache.compute(&1, |_| Change::Put(1.into())), Computed::Inserted);
    assert_eq!(cache.compute(&1, |_| Change::Put(2.into())), Computed::Replaced);
    assert_eq!(cache.invalidate_if(|_, value| *value == 1), 0);
    assert_eq!(cache.invalidate_if(|key, _| *key == 1), 1);
}

#[test]
fn the_counts_add_up_whatever_runs_at_the_same_time() {
    for policy in POLICIES {
        let (clock, cache) = cache(Options::new(50).ttl(SECOND).policy(policy));
        let gets: u64 = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|thread| {
                    let (clock, cache) = (&clock, &cache);
                    scope.spawn(move || {
                        let mut dice = Seed(thread).dice();
                        let mut gets = 0;
                        for step in 0..2_000 {
                            let key = dice.random_range(0..100);
                            match dice.random_range(0..12) {
                                0..3 => cache.put(key, step),
                                3 => cache.put_loaded(key, Loaded::new(step).tagged("red")),
                                4 => drop(cache.invalidate(&key)),
                                5 if dice.random_ratio(1, 50) => drop(cache.remove_tag("red")),
                                6 if dice.random_ratio(1, 200) => cache.clear(),
                                7 if dice.random_ratio(1, 50) => clock.advance(SECOND / 4),
                                8 => {
                                    cache.get_many(&[key, key + 1]);
                                    gets += 2;
                                }
                                _ => {
                                    cache.get(&key);
                                    gets += 1;
                                }
                            }
                        }
                        gets
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        cache.sweep();
        let told = cache.statistics();
        assert_eq!(told.hits + told.misses, gets, "{policy:?} {told:?}");
        let left = told.expired + told.evicted + told.replaced + told.removed + told.invalidated;
        assert_eq!(told.inserts, told.len + left, "{policy:?} {told:?}");
        assert!(told.hit_ratio() < 1.0 && 0.0 < told.hit_ratio());
        assert_eq!(told.weight, told.len);
    }
    let (_, cache) = cache(Options::new(10_000));
    cache.put(1, 1);
    assert_eq!((cache.get(&1), cache.get(&2), cache.invalidate(&1)), (Some(1), None, true));
    let told = cache.statistics();
    assert_eq!((told.hits, told.misses, told.inserts, told.removed), (1, 1, 1, 1));
    assert!((told.hit_ratio() - 0.5).abs() < f64::EPSILON);
}

#[test]
fn the_most_read_keys_are_those_of_a_plain_count() {
    for seed in seeds(20) {
        let mut dice = seed.dice();
        let (_, cache) = cache(Options::new(10).frequent(50));
        let mut counts: Vec<(u32, u32)> = Vec::new();
        for _ in 0..500 {
            let key = dice.random_range(0..30_u32).min(dice.random_range(0..30));
            cache.get(&key);
            match counts.iter_mut().find(|(own, _)| *own == key) {
                Some((_, count)) => *count += 1,
                None => counts.push((key, 1)),
            }
        }
        // Of equals the one that was seen first: the sort is stable.
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let expected: Vec<u32> = counts.iter().take(10).map(|(key, _)| *key).collect();
        assert_eq!(cache.frequent(10), expected, "{seed}");
    }
    let (_, uncounted) = cache(Options::new(10));
    uncounted.get(&1);
    assert_eq!(uncounted.frequent(10), Vec::<u32>::new());
}

/// Returns how many reads hit of a loop over a quarter more keys than there is room for.
fn hits_of_a_loop(options: Options) -> u32 {
    let (_clock, cache) = cache(options);
    let read = |key: u32| {
        let is_hit = cache.get(&key).is_some();
        if !is_hit {
            cache.put(key, 0);
        }
        u32::from(is_hit)
    };
    (0..60_000).map(|read| read % 1_250).map(read).sum()
}

#[test]
fn a_time_to_live_that_never_ends_changes_nothing_of_who_goes() {
    let endless = hits_of_a_loop(Options::new(1_000));
    let timed = hits_of_a_loop(Options::new(1_000).ttl(3_600 * SECOND));
    assert!(endless * 95 / 100 <= timed, "{timed} of {endless}");
}
