//! Fallback, pipeline, chaos and registry against plain models of them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
};

use infra_core::{Clock, ErrorKind, Result};
use infra_resilience::{
    Breaker, Call, Fallback, Idempotent, Keyed, Pipeline, Policy, Reason, Refused, at_most_once,
    breaker, idempotent,
};
use infra_testkit::clock::ManualClock;
use parking_lot::Mutex;
use proptest::{prelude::*, sample::Index};

use crate::{
    fail, kind,
    model::{cases, paused},
};

const KINDS: [ErrorKind; 4] =
    [ErrorKind::Unavailable, ErrorKind::Timeout, ErrorKind::Denied, ErrorKind::Invalid];

/// An answer, or a failure by its place in [`KINDS`].
type End = std::result::Result<u32, usize>;

fn end() -> impl Strategy<Value = End> {
    prop_oneof![(0..9_u32).prop_map(Ok), (0..KINDS.len()).prop_map(Err)]
}

fn told(end: End) -> Result<u32> {
    end.or_else(|kind| fail(KINDS[kind].clone()))
}

fn ended(result: Result<u32>) -> std::result::Result<u32, ErrorKind> {
    result.map_err(|error| error.kind().clone())
}

/// What a policy of these tests does with a call, and what it wrote down.
#[derive(Debug, Clone)]
struct Layer {
    does: Does,
    log: Arc<Mutex<Vec<Does>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    /// Makes the call.
    Passes,
    /// Makes it again if it failed.
    Repeats,
    /// Makes it and forgets its failure.
    Forgives,
    /// Does not make it.
    Refuses,
}

fn does() -> impl Strategy<Value = Does> {
    prop_oneof![Just(Does::Passes), Just(Does::Repeats), Just(Does::Forgives), Just(Does::Refuses)]
}

impl Policy<Idempotent, ()> for Layer {
    async fn run<C: Call<Safety = Idempotent, Output = ()>>(
        &self,
        _: &'static str,
        call: C,
    ) -> Result<()> {
        self.log.lock().push(self.does);
        match self.does {
            Does::Passes => call.attempt().await,
            Does::Repeats => match call.attempt().await {
                Ok(()) => Ok(()),
                Err(_) => call.attempt().await,
            },
            Does::Forgives => call.attempt().await.or(Ok(())),
            Does::Refuses => fail(ErrorKind::Overloaded),
        }
    }
}

/// What layers make of a service that answers as planned: whether it succeeds, and who did what.
fn piped(layers: &[Does], plan: &mut impl Iterator<Item = bool>, log: &mut Vec<Does>) -> bool {
    let [does, inner @ ..] = layers else { return plan.next().unwrap_or(true) };
    log.push(*does);
    match does {
        Does::Passes => piped(inner, plan, log),
        Does::Repeats => piped(inner, plan, log) || piped(inner, plan, log),
        Does::Forgives => {
            piped(inner, plan, log);
            true
        }
        Does::Refuses => false,
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn a_fallback_answers_for_the_failures_it_applies_to_and_for_no_others(
        calls in proptest::collection::vec((end(), end()), 1..20),
        applies in proptest::array::uniform4(any::<bool>()),
    ) {
        paused(async {
            let (instead, asked) = (Mutex::new(Ok(0)), AtomicU32::new(0));
            let fallback = Fallback::new(|_| {
                asked.fetch_add(1, SeqCst);
                let instead = *instead.lock();
                async move { told(instead) }
            });
            let fallback = fallback.when(move |error| {
                KINDS.iter().zip(applies).any(|(kind, applies)| applies && error.kind() == kind)
            });
            let mut answered = 0;
            for (end, otherwise) in calls {
                *instead.lock() = otherwise;
                let wanted = match end {
                    Err(kind) if applies[kind] => {
                        answered += 1;
                        told(otherwise)
                    }
                    end => told(end),
                };
                let result = fallback.run("ask", at_most_once(|| async { told(end) })).await;
                prop_assert_eq!(ended(result), ended(wanted));
                prop_assert_eq!(asked.load(SeqCst), answered);
            }
            Ok(())
        })?;
    }

    #[test]
    fn a_pipeline_does_what_its_policies_do_from_the_outside_in(
        layers in proptest::array::uniform4(does()),
        plan in proptest::collection::vec(any::<bool>(), 0..20),
    ) {
        let log = Arc::<Mutex<Vec<Does>>>::default();
        let [a, b, c, d] = layers.map(|does| Layer { does, log: Arc::clone(&log) });
        let (service, left) = (Mutex::new(plan.clone().into_iter()), plan.clone());
        let call = idempotent(|| async {
            let is_good = service.lock().next().unwrap_or(true);
            if is_good { Ok(()) } else { fail(ErrorKind::Unavailable) }
        });
        // A pipeline within one is as if its policies stood there.
        let pipeline = Pipeline::new().then(a).then(Pipeline::new().then(b).then(c)).then(d);
        let result = paused(pipeline.run("ask", call));
        let (mut left, mut wanted) = (left.into_iter(), Vec::new());
        prop_assert_eq!(result.is_ok(), piped(&layers, &mut left, &mut wanted));
        prop_assert_eq!(&*log.lock(), &wanted);
        prop_assert_eq!(service.into_inner().len(), left.len(), "the service was asked as often");
    }

    #[test]
    fn a_registry_forgets_what_nobody_holds_and_has_not_failed_and_nothing_else(
        steps in proptest::collection::vec((0..5_u8, 0..8_u32, any::<Index>()), 1..80),
        capacity in 1..5_usize,
    ) {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new());
        let keyed = Keyed::new(capacity, move |_: &u32| {
            Breaker::new(breaker::Options::default(), Arc::clone(&clock))
        });
        // Of each key that is there: whether it has failed since it was made or reset.
        let mut there: BTreeMap<u32, bool> = BTreeMap::new();
        let mut held: Vec<(u32, Breaker)> = Vec::new();
        for (step, key, which) in steps {
            match step {
                0 | 1 => {
                    let was_there = there.contains_key(&key);
                    let is_free = |key: &u32| held.iter().all(|(held, _)| held != key);
                    let may_go =
                        |(key, has_failed): (&u32, &bool)| !*has_failed && is_free(key);
                    let has_room = there.len() < capacity || there.iter().any(may_go);
                    match keyed.of(&key) {
                        Ok(breaker) => {
                            prop_assert!(was_there || has_room);
                            if !was_there {
                                there.insert(key, false);
                                let mut kept = Vec::new();
                                keyed.each(|key, _| kept.push(*key));
                                let (_, gone): (BTreeMap<_, _>, BTreeMap<_, _>) =
                                    there.iter().partition(|(key, _)| kept.contains(key));
                                prop_assert!(gone.len() <= 1 && gone.into_iter().all(may_go));
                                there.retain(|key, _| kept.contains(key));
                            }
                            let has_failed = 0 < breaker.tally().failures;
                            prop_assert_eq!(has_failed, there[&key], "it is the same breaker");
                            held.push((key, breaker));
                        }
                        Err(error) => {
                            prop_assert!(!was_there && !has_room);
                            let reason = Refused::of(&error).map(Refused::reason);
                            prop_assert_eq!(reason, Some(Reason::KeysFull));
                        }
                    }
                }
                _ if held.is_empty() => {}
                2 => drop(held.swap_remove(which.index(held.len()))),
                3 => {
                    let (key, breaker) = &held[which.index(held.len())];
                    breaker.admit("ask").map(breaker::Permit::failure).unwrap_or_default();
                    there.insert(*key, true);
                }
                _ => {
                    let (key, breaker) = &held[which.index(held.len())];
                    breaker.reset();
                    there.insert(*key, false);
                }
            }
            prop_assert_eq!(keyed.len(), there.len());
            prop_assert!(keyed.len() <= capacity, "the bound holds");
        }
    }
}

#[cfg(feature = "chaos")]
mod chaos {
    use std::time::Duration;

    use infra_core::random::Random;
    use infra_resilience::chaos::{Chaos, Faults};

    use super::*;
    use crate::{MILLI, SECOND, clock};

    /// What becomes of one call.
    #[derive(Debug, PartialEq, Eq)]
    enum Fate {
        Panics,
        Ends(std::result::Result<u32, ErrorKind>),
    }

    /// What chaos does to a call by five numbers: which fault is drawn, and how late it is. A call that is
    /// dropped at its first wait has ended if it does not wait.
    fn struck(faults: &Faults, draws: [f64; 5], waits: bool) -> (Fate, Duration) {
        let [error, panic, drop, delay, length] = draws;
        let delayed = faults.delay.mul_f64(length);
        let delay = if delay < faults.delays { delayed } else { Duration::ZERO };
        let unknown = Fate::Ends(Err(ErrorKind::Indeterminate));
        let work = if waits { SECOND } else { Duration::ZERO };
        match (panic < faults.panics, error < faults.errors, drop < faults.drops) {
            (true, _, _) => (Fate::Panics, delay),
            (_, true, _) => (Fate::Ends(Err(faults.kind.clone())), delay),
            (_, _, true) if waits => (unknown, delay),
            _ => (Fate::Ends(Ok(7)), delay + work),
        }
    }

    async fn fate(chaos: Chaos, waits: bool) -> (Fate, Duration) {
        let clock = clock();
        let begun = clock.now();
        let call = tokio::spawn(async move {
            let work = at_most_once(|| async {
                if waits {
                    tokio::time::sleep(SECOND).await;
                }
                Ok(7)
            });
            chaos.run("ask", work).await
        });
        let fate = match call.await {
            Ok(result) => Fate::Ends(ended(result)),
            Err(panic) => {
                assert!(panic.is_panic());
                Fate::Panics
            }
        };
        (fate, clock.now().since(begun))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 32, ..cases() })]

        #[test]
        fn chaos_does_to_each_call_what_its_numbers_say(
            (errors, panics, drops, delays) in (0.0..0.6, 0.0..0.2, 0.0..0.6, 0.0..1.0),
            calls in proptest::collection::vec(any::<bool>(), 1..12),
            seed: u64,
        ) {
            let (kind, delay) = (ErrorKind::Overloaded, SECOND);
            let faults = Faults { errors, kind, delays, delay, panics, drops };
            paused(async {
                let (chaos, random) = (Chaos::new(faults.clone(), seed), Random::seeded(seed));
                prop_assert_eq!(fate(chaos.clone(), true).await.0, Fate::Ends(Ok(7)), "it is off");
                chaos.switch_on();
                for waits in calls {
                    let draws = [(); 5].map(|()| random.unit());
                    let (wanted, late) = struck(&faults, draws, waits);
                    let (found, took) = fate(chaos.clone(), waits).await;
                    prop_assert_eq!(found, wanted);
                    // The timer counts whole milliseconds, rounded up, for each of two waits.
                    prop_assert!(late <= took && took <= late + MILLI * 2, "{:?} {:?}", late, took);
                }
                Ok(())
            })?;
        }
    }
}

#[tokio::test]
async fn an_empty_pipeline_makes_the_call() {
    let denied = idempotent(|| async { fail::<()>(ErrorKind::Denied) });
    assert_eq!(kind(Pipeline::new().run("ask", denied).await), ErrorKind::Denied);
}
