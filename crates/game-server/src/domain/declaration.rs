//! How many piles a seat may declare.

use super::{
    deal::HAND,
    refusal::Refusal,
    seat::{BySeat, SEATS},
};

/// After how many rounds of declaring 0 a seat must declare at least 1.
pub const ZEROS_IN_A_ROW: u8 = 2;

/// Checks a declaration of `piles` by a seat that declared 0 in the last `zeros` rounds,
/// after the declarations of this round in `made`.
///
/// # Errors
///
/// In this order: out of range, the two-zeros rule, and, for the last seat, a sum of 8.
pub fn check_declaration(piles: u8, zeros: u8, made: &BySeat<Option<u8>>) -> Result<(), Refusal> {
    if HAND < piles {
        return Err(Refusal::DeclarationOutOfRange);
    }
    if piles == 0 && ZEROS_IN_A_ROW <= zeros {
        return Err(Refusal::MustDeclareAtLeastOne);
    }
    let before: Vec<u8> = made.values().copied().flatten().collect();
    let is_last = before.len() + 1 == SEATS;
    if is_last && before.iter().sum::<u8>().saturating_add(piles) == HAND {
        return Err(Refusal::DeclarationSumsToEight);
    }
    Ok(())
}

/// Returns what a seat may declare; there is always something.
pub fn allowed_declarations(zeros: u8, made: &BySeat<Option<u8>>) -> Vec<u8> {
    (0..=HAND).filter(|piles| check_declaration(*piles, zeros, made).is_ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(piles: &[u8]) -> BySeat<Option<u8>> {
        BySeat::from_fn(|seat| piles.get(usize::from(seat.number())).copied())
    }

    fn check(piles: u8, zeros: u8, before: &[u8], expected: Result<(), Refusal>) {
        assert_eq!(check_declaration(piles, zeros, &made(before)), expected, "{piles} {before:?}");
    }

    #[test]
    fn a_declaration_is_from_zero_to_eight() {
        check(0, 0, &[], Ok(()));
        check(8, 0, &[], Ok(()));
        check(9, 0, &[], Err(Refusal::DeclarationOutOfRange));
        check(255, 0, &[8, 8, 8], Err(Refusal::DeclarationOutOfRange));
    }

    #[test]
    fn the_last_may_not_name_the_number_that_makes_eight() {
        check(3, 0, &[2, 2, 1], Err(Refusal::DeclarationSumsToEight));
        check(2, 0, &[2, 2, 1], Ok(()));
        check(4, 0, &[2, 2, 1], Ok(()));
        check(0, 0, &[8, 0, 0], Err(Refusal::DeclarationSumsToEight));
        check(8, 0, &[0, 0, 0], Err(Refusal::DeclarationSumsToEight));
        check(0, 0, &[8, 8, 8], Ok(()));
    }

    #[test]
    fn the_first_three_may_reach_eight() {
        check(3, 0, &[5], Ok(()));
        check(3, 0, &[4, 1], Ok(()));
    }

    #[test]
    fn who_declared_zero_twice_must_declare_at_least_one() {
        check(0, 1, &[], Ok(()));
        check(0, 2, &[], Err(Refusal::MustDeclareAtLeastOne));
        check(0, 3, &[], Err(Refusal::MustDeclareAtLeastOne));
        check(1, 2, &[], Ok(()));
    }

    #[test]
    fn there_is_always_something_to_declare() {
        for sum in 0..=24_u8 {
            let before = [sum.min(8), sum.saturating_sub(8).min(8), sum.saturating_sub(16)];
            for zeros in 0..=2 {
                let allowed = allowed_declarations(zeros, &made(&before));
                assert!(7 <= allowed.len(), "{before:?} {zeros}");
                assert!(!allowed.contains(&(8_u8.wrapping_sub(sum))) || 8 < sum);
            }
        }
    }
}
