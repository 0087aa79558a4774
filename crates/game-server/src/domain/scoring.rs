//! What a round is worth, when the game is over, and who has won.

use super::seat::{BySeat, Seat};

/// The score that ends the game.
pub const WINNING_SCORE: i32 = 50;

/// The last round.
pub const LAST_ROUND: u8 = 20;

/// Returns what a seat wins or loses in a round.
pub fn score(declared: u8, captured: u8, multiplier: u16) -> i32 {
    let plain = match (i32::from(declared), i32::from(captured)) {
        (0, 0) => 3,
        (0, captured) => -captured,
        (declared, captured) if declared == captured => declared + 5,
        (declared, captured) => -(declared - captured).abs(),
    };
    plain.saturating_mul(i32::from(multiplier))
}

/// Returns whether the game is over after `round`.
pub fn is_over(scores: &BySeat<i32>, round: u8) -> bool {
    LAST_ROUND <= round || scores.values().any(|score| WINNING_SCORE <= *score)
}

/// Returns who shares the highest score.
pub fn winners(scores: &BySeat<i32>) -> Vec<Seat> {
    let highest = scores.values().max();
    scores.iter().filter(|(_, score)| Some(*score) == highest).map(|(seat, _)| seat).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_is_scored_by_the_table() {
        for (declared, captured, expected) in [
            (0, 0, 3),
            (0, 1, -1),
            (0, 8, -8),
            (1, 1, 6),
            (8, 8, 13),
            (3, 3, 8),
            (3, 1, -2),
            (1, 3, -2),
            (8, 0, -8),
        ] {
            assert_eq!(score(declared, captured, 1), expected, "{declared} {captured}");
        }
    }

    #[test]
    fn the_multiplier_counts_for_gains_and_losses() {
        assert_eq!(score(3, 3, 2), 16);
        assert_eq!(score(0, 0, 3), 9);
        assert_eq!(score(0, 4, 2), -8);
        assert_eq!(score(5, 3, 3), -6);
        assert_eq!(score(8, 8, u16::MAX), 13 * 65_535);
    }

    #[test]
    fn the_game_is_over_at_fifty_points_or_after_round_twenty() {
        assert!(!is_over(&BySeat::new([49, 0, -80, 3]), 19));
        assert!(is_over(&BySeat::new([0, 50, 0, 0]), 1));
        assert!(is_over(&BySeat::new([0, 0, 0, 63]), 7));
        assert!(is_over(&BySeat::new([1, 2, 3, 4]), 20));
    }

    #[test]
    fn the_highest_score_wins_and_ties_share_the_win() {
        assert_eq!(winners(&BySeat::new([10, 50, 20, 30])), [Seat::Second]);
        assert_eq!(winners(&BySeat::new([52, 50, 20, 52])), [Seat::First, Seat::Fourth]);
        assert_eq!(winners(&BySeat::new([-3, -3, -3, -3])).len(), 4);
    }
}
