//! Our bots against bots that play random legal moves.

use infra_core::error::Result;

use super::{chance::Chance, table::Table};
use crate::domain::{Event, Seat, Style, choose};

/// How games of two of our bots against two random ones ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Contest {
    /// How many games were played.
    pub games: u64,
    /// In how many the highest score was ours alone.
    pub won: u64,
    /// In how many both sides shared the highest score.
    pub shared: u64,
}

impl Contest {
    /// Returns the share of games that our side won alone, 0 to 1.
    #[expect(clippy::cast_precision_loss, reason = "counts of games are far below 2^52")]
    pub fn share_won(&self) -> f64 {
        self.won as f64 / self.games.max(1) as f64
    }
}

/// Plays `games` games of `seed`: bots of `style` on two opposite seats, which change with each
/// game, against two that choose among the legal moves by chance.
///
/// # Errors
///
/// [`Internal`](infra_core::error::ErrorKind::Internal) if a game breaks a rule of the room: a bug.
pub fn contest(games: u64, seed: u64, style: Style) -> Result<Contest> {
    let mut contest = Contest::default();
    for number in 0..games {
        let is_ours = |seat: Seat| u64::from(seat.number()) % 2 == number % 2;
        let table = Table::new(number, Chance::of_game(seed, number), 4)?;
        let transcript = table.play_to_the_end(|view, seat, chance| {
            if is_ours(seat) { choose(view, seat, style) } else { chance.legal_move(view) }
        })?;
        contest.games += 1;
        if let Some(Event::GameEnded { winners, .. }) = transcript.events.last() {
            let ours = winners.iter().filter(|seat| is_ours(**seat)).count();
            contest.won += u64::from(ours == winners.len());
            contest.shared += u64::from(0 < ours && ours < winners.len());
        }
    }
    Ok(contest)
}
