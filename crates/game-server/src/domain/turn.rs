//! A turn: what a play counts for, and who wins.

use super::{
    pieces::Pieces,
    play::{Play, PlayType, classify},
    room_view::Laid,
    seat::Seat,
};

/// Judges what `seat` puts down in a turn that began with `led`, or that it begins itself.
pub(super) fn lay(seat: Seat, pieces: Pieces, led: Option<&Laid>) -> Laid {
    let play = classify(pieces).map(|play| play.play_type);
    let can_win = play.is_some() && led.is_none_or(|led| led.play == play);
    Laid { seat, pieces, play, can_win }
}

/// Returns the play that wins so far: the strongest valid play of the starter's type, and of
/// equal ones the first.
pub fn strongest(table: &[Laid]) -> Option<(Seat, Play)> {
    let led = table.first()?.play?;
    let mut best: Option<(Seat, Play)> = None;
    for laid in table {
        let Some(play) = classify(laid.pieces).filter(|play| play.play_type == led) else {
            continue;
        };
        if best.is_none_or(|(_, strongest)| strongest.points < play.points) {
            best = Some((laid.seat, play));
        }
    }
    best
}

/// Returns the type and points that a follower has to beat, if anything was put down.
pub(super) fn to_beat(table: &[Laid]) -> Option<(PlayType, u32)> {
    strongest(table).map(|(_, play)| (play.play_type, play.points))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::piece::Piece;

    /// Lays down what each seat plays, in order from the first, and names the winner.
    fn check(plays: [&[u8]; 4], can_win: [bool; 4], winner: u8) {
        let mut table: Vec<Laid> = Vec::new();
        for (seat, ids) in Seat::ALL.into_iter().zip(plays) {
            let pieces = ids.iter().copied().filter_map(Piece::new).collect();
            let laid = lay(seat, pieces, table.first());
            assert_eq!(laid.can_win, can_win[usize::from(seat.number())], "{seat} {plays:?}");
            table.push(laid);
        }
        let found = strongest(&table).map(|(seat, _)| seat.number());
        assert_eq!(found, Some(winner), "{plays:?}");
    }

    #[test]
    fn the_strongest_single_wins() {
        check([&[21], &[5], &[0], &[16]], [true; 4], 2);
    }

    #[test]
    fn of_equal_plays_the_first_wins() {
        check([&[31], &[1], &[2], &[17]], [true; 4], 1);
        check([&[5, 7, 9], &[6, 8, 10], &[20, 21, 23], &[1, 2, 3]], [true, true, false, false], 0);
    }

    #[test]
    fn a_play_that_is_not_valid_cannot_win() {
        check([&[30, 31], &[0, 16], &[1, 17], &[27, 28]], [true, false, false, true], 0);
    }

    #[test]
    fn a_play_of_another_type_cannot_win() {
        // Three black soldiers lead; a straight of red generals' house is worth more, in vain.
        check(
            [&[27, 28, 29], &[0, 1, 3], &[4, 5, 6], &[11, 12, 13]],
            [true, false, false, true],
            3,
        );
        // An extended straight leads; four soldiers have as many pieces and another type.
        check(
            [&[21, 22, 23, 25], &[11, 12, 13, 14], &[0, 1, 2, 3], &[27, 28, 29, 30]],
            [true, false, true, false],
            2,
        );
    }

    #[test]
    fn extended_straights_compare_by_each_kind_once() {
        // Two cannons against two chariots of the same colour: both count 18, the first wins.
        check(
            [&[5, 7, 9, 10], &[6, 8, 4, 3], &[21, 22, 23, 25], &[16, 17, 18, 19]],
            [true, false, true, true],
            3,
        );
        let cannons: Pieces = [5, 7, 9, 10].into_iter().filter_map(Piece::new).collect();
        let chariots: Pieces = [5, 6, 7, 9].into_iter().filter_map(Piece::new).collect();
        assert_eq!(classify(cannons), classify(chariots));
    }

    #[test]
    fn an_empty_table_has_no_winner() {
        assert_eq!(strongest(&[]), None);
        assert_eq!(to_beat(&[]), None);
    }
}
