//! The counts of a window; not in its file, which the loom test takes in as it is.

use std::{num::NonZeroU32, time::Duration};

use infra_core::clock::Instant;
use proptest::prelude::*;

use super::window::{Counts, Sample, Tally, Window};

fn naive(samples: &[(Sample, u64)]) -> Tally {
    Tally {
        calls: samples.len() as u64,
        failures: samples.iter().filter(|(sample, _)| sample.has_failed()).count() as u64,
        slow: samples.iter().filter(|(sample, _)| sample.is_slow()).count() as u64,
    }
}

fn at(millis: u64) -> Instant {
    Instant::from_start(Duration::from_millis(millis))
}

proptest! {
    #[test]
    fn the_sums_of_the_last_calls_are_those_of_a_naive_count(
        flags in proptest::collection::vec((any::<bool>(), any::<bool>()), 0..80),
        size in 1_u32..12,
        clear_at in 0_usize..80,
    ) {
        let counts = Counts::new(Window::Calls(NonZeroU32::new(size).unwrap()));
        let mut seen = Vec::new();
        for (turn, (failed, slow)) in flags.into_iter().enumerate() {
            if turn == clear_at {
                counts.clear();
                seen.clear();
            }
            let sample = Sample::new(failed, slow);
            seen.push((sample, 0));
            let tally = counts.record(sample, || Instant::START);
            let last = seen.len().saturating_sub(usize::try_from(size).unwrap());
            prop_assert_eq!(tally, naive(&seen[last..]));
        }
    }

    #[test]
    fn the_sums_of_the_last_time_are_those_of_a_naive_count(
        steps in proptest::collection::vec((any::<bool>(), any::<bool>(), 0_u64..700), 0..80),
    ) {
        // A second in ten parts: what began before the ninth part back is forgotten.
        let counts = Counts::new(Window::Time { length: Duration::from_secs(1) });
        let (mut seen, mut now) = (Vec::new(), 0);
        for (failed, slow, step) in steps {
            now += step;
            let sample = Sample::new(failed, slow);
            seen.push((sample, now));
            let tally = counts.record(sample, || at(now));
            let from = (now / 100).saturating_sub(9) * 100;
            let last = seen.iter().position(|(_, when)| from <= *when).unwrap();
            prop_assert_eq!(tally, naive(&seen[last..]));
            prop_assert_eq!(counts.tally(|| at(now)), tally);
        }
        prop_assert_eq!(counts.recorded(), seen.len() as u64);
        counts.clear();
        prop_assert_eq!(counts.tally(|| at(now)), Tally::default());
    }
}

#[test]
fn threads_lose_no_outcome() {
    let counts = Counts::new(Window::Calls(NonZeroU32::new(7).unwrap()));
    std::thread::scope(|scope| {
        for thread in 0..4_u32 {
            let counts = &counts;
            scope.spawn(move || {
                for call in 0..10_000 {
                    let sample = Sample::new((thread + call) % 2 == 0, call % 3 == 0);
                    counts.record(sample, || Instant::START);
                }
            });
        }
    });
    // Once all that the threads wrote is gone from the window, so are its sums.
    let good = || counts.record(Sample::new(false, false), || Instant::START);
    (0..6).for_each(|_| assert!(good().calls == 7));
    let tally = good();
    assert_eq!(tally, Tally { calls: 7, failures: 0, slow: 0 });
    assert_eq!(counts.recorded(), 40_007);
}
