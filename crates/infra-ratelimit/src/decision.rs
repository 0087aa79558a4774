//! The decision over all charges of a request: judge each, then pay all or none.

use std::{cmp::Ordering, time::Duration};

use infra_core::{
    Error, Result,
    limit::{Charge, Decision, Verdict},
};
use smallvec::SmallVec;

use crate::{
    algorithm::Answer,
    declared::{Declared, Found},
    keys::{Level, Place},
    limit::Limit,
    time::nanos,
    watch::Sign,
};

pub(crate) const ACQUIRE: &str = "acquire from rate limiter";

/// How many charges one decision takes.
const MOST_CHARGES: usize = 16;

/// What a decision is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Acquire,
    Reserve,
    Peek,
}

/// A charge that was judged.
#[derive(Debug)]
pub(crate) struct Judged<'a> {
    /// Which of the declared limits.
    pub(crate) limit_idx: usize,
    pub(crate) charge: &'a Charge,
    pub(crate) place: Place<'a>,
    pub(crate) decision: Decision,
    pub(crate) is_shadow: bool,
    /// Whether it is a permit, which comes back with its reservation.
    pub(crate) is_held: bool,
    pub(crate) sign: Option<Sign>,
    /// How long the key is blocked from now on, because it met its limit.
    block: Duration,
}

pub(crate) type AllJudged<'a> = SmallVec<[Judged<'a>; 4]>;

/// Refuses charges that no limiter takes.
pub(crate) fn check(charges: &[Charge]) -> Result<()> {
    let refuse = |detail: String| Err(Error::invalid(ACQUIRE, detail));
    if charges.is_empty() {
        return refuse("no charge".to_owned());
    }
    if MOST_CHARGES < charges.len() {
        return refuse(format!("{} charges, of {MOST_CHARGES} at most", charges.len()));
    }
    for (place, charge) in charges.iter().enumerate() {
        let same = |other: &&Charge| other.limit == charge.limit && other.key == charge.key;
        if charges.iter().skip(place + 1).any(|other| same(&other)) {
            return refuse(format!("limit {} is charged twice for {:?}", charge.limit, charge.key));
        }
    }
    Ok(())
}

/// Judges every charge into `judged`; changes nothing but what is forgotten for being idle.
pub(crate) fn judge<'a>(
    all: &mut [Declared],
    charges: &'a [Charge],
    purpose: Purpose,
    now: u64,
    judged: &mut AllJudged<'a>,
) -> Result<()> {
    let mut limits = SmallVec::<[usize; 4]>::new();
    // Slots stay where they are from here on: whatever is removed is removed before.
    for charge in charges {
        let found = all.iter_mut().enumerate().find(|(_, limit)| limit.is_named(charge.limit));
        let undeclared =
            || Error::invalid(ACQUIRE, format!("limit {} is not declared", charge.limit));
        let (limit_idx, declared) = found.ok_or_else(undeclared)?;
        declared.tidy(now);
        limits.push(limit_idx);
    }
    for (charge, limit_idx) in charges.iter().zip(limits) {
        let Some(declared) = all.get(limit_idx) else { continue };
        let found = declared.find(&charge.key, now);
        if found.arithmetic.is_held() && purpose == Purpose::Acquire {
            let detail = format!("limit {} is held, so it is reserved", charge.limit);
            return Err(Error::invalid(ACQUIRE, detail));
        }
        let beside = beside(judged, limit_idx, &found.place);
        judged.push(judge_one(limit_idx, charge, found, beside, now));
    }
    Ok(())
}

/// Returns what the same request pays at the same place under other keys, which are its neighbours.
fn beside(judged: &[Judged<'_>], limit_idx: usize, place: &Place<'_>) -> u32 {
    if place.level == Level::Own {
        return 0;
    }
    let is_same = |other: &&Judged<'_>| other.limit_idx == limit_idx && other.place == *place;
    judged.iter().filter(is_same).fold(0, |sum, other| sum.saturating_add(other.charge.cost.get()))
}

fn judge_one<'a>(
    limit_idx: usize,
    charge: &'a Charge,
    found: Found<'_, 'a>,
    beside: u32,
    now: u64,
) -> Judged<'a> {
    let Found { place, limit, arithmetic, state } = found;
    let cell = state.map(|state| &state.cell);
    let blocked = state.map_or(0, |state| state.blocked_until.saturating_sub(now));
    let is_possible = charge.cost.get() <= arithmetic.capacity();
    let answer = if 0 < blocked && !limit.is_shadow && is_possible {
        Answer::Wait(Duration::from_nanos(blocked))
    } else {
        arithmetic.judge(cell, charge.cost.saturating_add(beside), now)
    };
    let spent = arithmetic.spent(cell, now);
    let (verdict, after, reset) = match answer {
        Answer::Fits(()) => {
            let cost = charge.cost.get();
            let reset = arithmetic.reset_after(cell, cost, now);
            (Verdict::Admitted, spent.saturating_add(cost), reset)
        }
        Answer::Wait(pause) => {
            let block = if blocked == 0 { limit.block } else { Duration::ZERO };
            let pause = pause.max(block).max(Duration::from_nanos(1));
            (Verdict::RetryAfter(pause), spent, arithmetic.reset(cell, now))
        }
        Answer::Never => (Verdict::Never, spent, arithmetic.reset(cell, now)),
    };
    let capacity = arithmetic.capacity();
    let decision = Decision {
        verdict,
        limit: charge.limit,
        capacity,
        remaining: capacity.saturating_sub(after),
        reset: Duration::from_nanos(reset),
        window: arithmetic.window(),
    };
    let is_met = matches!(answer, Answer::Wait(_)) && blocked == 0 && !limit.is_shadow;
    let block = if is_met { limit.block } else { Duration::ZERO };
    let sign = sign(limit, verdict, spent, after);
    let (is_shadow, is_held) = (limit.is_shadow, arithmetic.is_held());
    Judged { limit_idx, charge, place, decision, is_shadow, is_held, sign, block }
}

/// Returns what a charge says of its limit, if it is worth telling.
pub(crate) fn sign(limit: &Limit, verdict: Verdict, before: u32, after: u32) -> Option<Sign> {
    if verdict != Verdict::Admitted {
        return Some(if limit.is_shadow { Sign::Shadowed } else { Sign::Refused });
    }
    (limit.is_near(after) && !limit.is_near(before)).then_some(Sign::Near)
}

/// Returns the decision over all of them: what can never pass, then the longest wait, then the
/// least left. A limit on trial has no say.
#[expect(single_use_lifetimes, reason = "one that is left out is unstable in an `impl Trait`")]
pub(crate) fn worst<'d>(
    mut told: impl Iterator<Item = (&'d Decision, bool)> + Clone,
) -> Result<Decision> {
    let mut worst: Option<&Decision> = None;
    for (decision, is_shadow) in told.clone() {
        if !is_shadow && worst.is_none_or(|worst| is_worse(decision, worst)) {
            worst = Some(decision);
        }
    }
    let on_trial = || {
        let (decision, _) = told.next()?;
        Some(Decision { verdict: Verdict::Admitted, ..decision.clone() })
    };
    worst.cloned().or_else(on_trial).ok_or_else(|| Error::invalid(ACQUIRE, "no charge"))
}

fn is_worse(one: &Decision, other: &Decision) -> bool {
    let rank = |verdict| match verdict {
        Verdict::Admitted => (0, Duration::ZERO),
        Verdict::RetryAfter(pause) => (1, pause),
        Verdict::Never => (2, Duration::ZERO),
    };
    match rank(one.verdict).cmp(&rank(other.verdict)) {
        Ordering::Greater => true,
        Ordering::Less => false,
        Ordering::Equal => one.is_admitted() && one.remaining < other.remaining,
    }
}

/// Pays each charge that fits.
pub(crate) fn pay(all: &mut [Declared], judged: &[Judged<'_>], now: u64) {
    for Judged { limit_idx, charge, place, decision, .. } in judged {
        if decision.is_admitted()
            && let Some(declared) = all.get_mut(*limit_idx)
        {
            let cost = charge.cost.get();
            declared.change(place, &charge.key, now, |arithmetic, state| {
                state.pay(arithmetic, cost, now);
            });
        }
    }
}

/// Blocks each key that met a limit which blocks.
pub(crate) fn block(all: &mut [Declared], judged: &[Judged<'_>], now: u64) {
    for Judged { limit_idx, charge, place, block, .. } in judged {
        if !block.is_zero()
            && let Some(declared) = all.get_mut(*limit_idx)
        {
            declared.change(place, &charge.key, now, |_, state| {
                state.blocked_until = now.saturating_add(nanos(*block));
            });
        }
    }
}
