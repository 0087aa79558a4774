//! Which traces are recorded: one decision for each trace, made where it begins.

use infra_core::{random::Random, trace::TraceContext};

/// Decides at the root of a trace; everything below it keeps that decision.
///
/// ```
/// use infra_core::random::Random;
/// use infra_observability::trace::Sampler;
///
/// let random = Random::seeded(1);
/// assert!(Sampler::all().root(&random).is_sampled());
/// assert!(!Sampler::none().root(&random).is_sampled());
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampler(f64);

impl Sampler {
    /// Records every trace.
    pub const fn all() -> Self {
        Self(1.0)
    }

    /// Records no trace that begins here.
    pub const fn none() -> Self {
        Self(0.0)
    }

    /// Records this share of the traces, between 0 and 1.
    pub const fn share(share: f64) -> Self {
        Self(share)
    }

    /// Begins a trace.
    pub fn root(self, random: &Random) -> TraceContext {
        TraceContext::root(random, random.unit() < self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_traces_is_recorded() {
        let random = Random::seeded(3);
        let sampled =
            (0..10_000).filter(|_| Sampler::share(0.1).root(&random).is_sampled()).count();
        assert!((800..1_200).contains(&sampled), "{sampled}");
    }
}
