//! Simulated games as lines of JSON, for whoever needs real ones.

use std::io::Write;

use infra_core::error::{Error, ErrorKind, Result};

use super::report::{Report, simulate_each};

/// Plays games as [`simulate`](super::simulate) does and writes every event of them to `out`, a line
/// of JSON each; a game begins with the creation of its room.
///
/// ```
/// use game_server::simulate::{export, simulate};
///
/// let mut lines = Vec::new();
/// let report = export(1, 7, &mut lines).unwrap();
/// assert_eq!(report, simulate(1, 7).unwrap());
/// assert!(lines.starts_with(b"{\"type\":\"room_created\""));
/// ```
///
/// # Errors
///
/// As [`simulate`](super::simulate), and [`Unavailable`](ErrorKind::Unavailable) if `out` cannot be
/// written to.
pub fn export(games: u64, seed: u64, out: &mut impl Write) -> Result<Report> {
    let refuse = |cause| Error::new(ErrorKind::Unavailable, "write events").because(cause);
    let report = simulate_each(games, seed, |game| {
        out.write_all(game.to_json_lines()?.as_bytes()).map_err(refuse)
    })?;
    out.flush().map_err(refuse)?;
    Ok(report)
}
