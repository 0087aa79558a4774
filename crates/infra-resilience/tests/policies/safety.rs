//! Which calls a policy runs is known to the compiler.

use std::marker::PhantomData;

use infra_resilience::{
    Around, AtMostOnce, Breaker, Bulkhead, Direct, Hedge, Idempotent, Ordered, Pipeline, Policy,
    Retry, Safety, Timeout,
};

/// Whether policy `P` runs calls of safety `S`, as a constant: the inherent one is there only if its
/// bounds hold, and is preferred then.
struct Runs<P, S>(PhantomData<(P, S)>);

trait Otherwise {
    const IT: bool = false;
}

impl<P, S> Otherwise for Runs<P, S> {}

impl<P: Policy<S, ()>, S: Safety> Runs<P, S> {
    const IT: bool = true;
}

macro_rules! runs {
    ($policy:ty) => {
        [
            Runs::<$policy, Idempotent>::IT,
            Runs::<$policy, AtMostOnce>::IT,
            Runs::<$policy, Ordered>::IT,
        ]
    };
}

type Within<P> = Pipeline<Around<Around<Around<Direct, Timeout>, P>, Breaker>>;

#[test]
fn a_call_that_must_not_be_made_twice_is_refused_by_retry_and_hedge() {
    for all in [runs!(Breaker), runs!(Bulkhead), runs!(Timeout), runs!(Within<Bulkhead>)] {
        assert_eq!(all, [true; 3]);
    }
    for some in [runs!(Retry), runs!(Hedge), runs!(Within<Retry>), runs!(Within<Hedge>)] {
        assert_eq!(some, [true, false, false]);
    }
}
