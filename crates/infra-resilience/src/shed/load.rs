//! Whether a call is let in under a load: a pure function.

use infra_core::budget::Priority;

use super::memory::Pressure;
use crate::refused::Reason;

/// The loads, from 0 to 1, from which calls of a priority begin to be refused.
///
/// From its cut to the next one up a priority is refused more and more, above it wholly; so a load is
/// met by as few refusals as it needs, of the lowest priorities first. Critical calls are refused
/// for memory alone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cuts {
    /// For low priority; 0.70 by default.
    pub low: f64,
    /// For normal priority; 0.85 by default.
    pub normal: f64,
    /// For high priority, up to 1; 0.95 by default.
    pub high: f64,
}

impl Default for Cuts {
    fn default() -> Self {
        Self { low: 0.70, normal: 0.85, high: 0.95 }
    }
}

impl Cuts {
    /// Returns the share of calls of a priority that are refused under a load: it never falls when
    /// the load rises, and never rises with the priority.
    pub fn refused_share(&self, load: f64, priority: Priority) -> f64 {
        let (from, to) = match priority {
            Priority::Low => (self.low, self.normal),
            Priority::Normal => (self.normal, self.high),
            Priority::High => (self.high, 1.0),
            Priority::Critical => return 0.0,
        };
        if load.is_nan() || load < from {
            return 0.0;
        }
        let width = to - from;
        if width <= 0.0 { 1.0 } else { ((load - from) / width).clamp(0.0, 1.0) }
    }
}

/// What is known of the load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// The scarcest resource's use, from 0 to 1: processor, connections, whatever is measured.
    pub level: f64,
    /// The memory's.
    pub memory: Pressure,
}

/// Decides about one call; `draw` is a number from 0 to 1, drawn evenly.
///
/// # Errors
///
/// The reason for which it is refused.
pub fn admit(cuts: &Cuts, load: &Load, priority: Priority, draw: f64) -> Result<(), Reason> {
    match load.memory {
        Pressure::Hard => return Err(Reason::MemoryHard),
        Pressure::Soft(share) if priority_share(priority) <= share => {
            return Err(Reason::MemorySoft);
        }
        Pressure::Soft(_) | Pressure::None => {}
    }
    if draw < cuts.refused_share(load.level, priority) { Err(Reason::Load) } else { Ok(()) }
}

/// From which part of the way between the soft and the hard limit a priority is refused.
const fn priority_share(priority: Priority) -> f64 {
    match priority {
        Priority::Low => 0.0,
        Priority::Normal => 1.0 / 3.0,
        Priority::High => 2.0 / 3.0,
        Priority::Critical => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use infra_core::random::Random;
    use proptest::prelude::*;

    use super::*;

    fn load(level: f64) -> Load {
        Load { level, memory: Pressure::None }
    }

    /// Loads of 30, 50, 75, 90 and 98 %, a hundred calls of three priorities each.
    #[test]
    fn more_is_refused_the_higher_the_load_and_the_lower_the_priority() {
        let (cuts, random) = (Cuts::default(), Random::seeded(11));
        let priorities = [Priority::Low, Priority::Normal, Priority::High];
        let refused: Vec<[u32; 3]> = [0.30, 0.50, 0.75, 0.90, 0.98]
            .map(|level| {
                let mut refused = [0; 3];
                for call in 0..100 {
                    let result = admit(&cuts, &load(level), priorities[call % 3], random.unit());
                    refused[call % 3] += u32::from(result.is_err());
                }
                refused
            })
            .into();
        let sums: Vec<u32> = refused.iter().map(|refused| refused.iter().sum()).collect();
        assert_eq!(&sums[..2], [0, 0]);
        assert!(5 < sums[2] && 30 < sums[3] && sums[3] < sums[4], "{refused:?}");
        assert_eq!((refused[2][1], refused[3][0], refused[4][1]), (0, 34, 33), "{refused:?}");
    }

    #[test]
    fn memory_refuses_by_priority_between_its_limits_and_all_above() {
        let at =
            |memory, priority| admit(&Cuts::default(), &Load { level: 0.0, memory }, priority, 0.5);
        assert_eq!(at(Pressure::None, Priority::Low), Ok(()));
        assert_eq!(at(Pressure::Soft(0.0), Priority::Low), Err(Reason::MemorySoft));
        assert_eq!(at(Pressure::Soft(0.5), Priority::Normal), Err(Reason::MemorySoft));
        assert_eq!(at(Pressure::Soft(0.5), Priority::High), Ok(()));
        assert_eq!(at(Pressure::Soft(0.99), Priority::Critical), Ok(()));
        assert_eq!(at(Pressure::Hard, Priority::Critical), Err(Reason::MemoryHard));
    }

    proptest! {
        #[test]
        fn a_decision_is_monotone_in_load_and_in_priority(
            (low, normal, high) in (0.0_f64..1.0, 0.0_f64..1.0, 0.0_f64..1.0),
            (lesser, greater) in (0.0_f64..1.2, 0.0_f64..1.2),
            (soft, draw) in (0.0_f64..1.0, 0.0_f64..1.0),
        ) {
            let mut cuts = [low, normal, high];
            cuts.sort_by(f64::total_cmp);
            let cuts = Cuts { low: cuts[0], normal: cuts[1], high: cuts[2] };
            let (lesser, greater) = (lesser.min(greater), lesser.max(greater));
            for memory in [Pressure::None, Pressure::Soft(soft)] {
                let admits = |level, priority| {
                    admit(&cuts, &Load { level, memory }, priority, draw).is_ok()
                };
                for pair in Priority::ALL.windows(2) {
                    prop_assert!(!admits(greater, pair[0]) || admits(lesser, pair[0]));
                    prop_assert!(!admits(lesser, pair[0]) || admits(lesser, pair[1]));
                }
            }
        }
    }
}
