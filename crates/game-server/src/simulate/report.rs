//! What a simulation reports.

use std::fmt;

use infra_core::error::Result;
use sha2::{Digest, Sha256};

use super::{
    table::{Transcript, play_game},
    tally::Tally,
};
use crate::domain::PlayType;

/// What came of simulated games.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The seed that the games came from.
    pub seed: u64,
    /// What was counted.
    pub tally: Tally,
    /// SHA-256 over every event of every game as a line of JSON, in hexadecimal.
    pub digest: String,
}

/// Plays games 0 to `games - 1` of `seed`.
///
/// ```
/// use game_server::simulate::simulate;
///
/// let report = simulate(2, 7).unwrap();
/// assert_eq!(report.digest, simulate(2, 7).unwrap().digest);
/// assert_ne!(report.digest, simulate(2, 8).unwrap().digest);
/// assert!(report.to_string().starts_with("2 games of seed 7"));
/// ```
///
/// # Errors
///
/// [`Internal`](infra_core::error::ErrorKind::Internal) if a game breaks a rule of the room: a bug.
pub fn simulate(games: u64, seed: u64) -> Result<Report> {
    simulate_each(games, seed, |_| Ok(()))
}

/// Plays games as [`simulate`] does and shows each one to `visit`, to be exported or examined.
///
/// # Errors
///
/// As [`simulate`], and the first error of `visit`.
pub fn simulate_each(
    games: u64,
    seed: u64,
    mut visit: impl FnMut(&Transcript) -> Result<()>,
) -> Result<Report> {
    let mut tally = Tally::default();
    let mut hash = Sha256::new();
    for number in 0..games {
        let transcript = play_game(seed, number)?;
        tally.read(&transcript.events);
        hash.update(transcript.to_json_lines()?);
        visit(&transcript)?;
    }
    Ok(Report { seed, tally, digest: hexadecimal(&hash.finalize()) })
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { games, events, wins, shared_wins, rounds, led, redeals, .. } = &self.tally;
        let Tally { kept, ties, after_two_zeros, silences, .. } = &self.tally;
        writeln!(f, "{games} games of seed {}, {events} events", self.seed)?;
        write!(f, "won by   ")?;
        for (seat, count) in wins.iter() {
            write!(f, " {seat}: {count},")?;
        }
        writeln!(f, " shared: {shared_wins}")?;
        write!(f, "rounds   ")?;
        for (count, games) in rounds {
            write!(f, " {count}: {games}")?;
        }
        writeln!(f)?;
        writeln!(f, "turns led by")?;
        for play_type in PlayType::ALL {
            let count = led.get(&play_type).copied().unwrap_or(0);
            writeln!(f, "  {:<26}{count}", format!("{play_type:?}"))?;
        }
        writeln!(f, "ties {ties}, redeals taken {redeals}, weak hands kept {kept}")?;
        writeln!(f, "declarations after two zeros {after_two_zeros}, silences {silences}")?;
        write!(f, "digest {}", self.digest)
    }
}
