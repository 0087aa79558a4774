//! Results of games, what players have done in all, and the orders and spans that they are ranked in.

use bytes::Bytes;
use infra_core::{
    Error, Result,
    clock::Timestamp,
    id::IndexName,
    store::{Term, ordered},
};
use serde::{Deserialize, Serialize};

use super::entity::Entity;

/// From how many games on a player stands in the order of win rates.
pub const RATED_GAMES: u64 = 10;

/// What a player did in a game.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlayerResult {
    /// The player.
    pub player: String,
    /// The player's name at that time.
    pub name: String,
    /// The score.
    pub score: i64,
    /// Whether the player won, alone or with others.
    pub has_won: bool,
}

/// How a game ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GameResult {
    /// The game's id; a second result of it changes nothing.
    pub game: String,
    /// When it ended.
    pub ended: Timestamp,
    /// Its players, each once.
    pub players: Vec<PlayerResult>,
}

/// What a player has done in all games.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statistics {
    /// The player.
    pub player: String,
    /// The player's last name.
    pub name: String,
    /// Games that were played.
    pub played: u64,
    /// Games that were won.
    pub won: u64,
    /// The sum of all scores.
    pub total_score: i64,
    /// The highest score; it may be negative.
    pub highest_score: i64,
    /// How many of the last games were won in a row.
    pub streak: u64,
    /// The longest such row.
    pub best_streak: u64,
    /// When the last of the games ended.
    pub last_played: Timestamp,
}

impl Statistics {
    /// Returns the share of games that were won, in millionths, rounded down.
    pub fn win_rate(&self) -> u64 {
        let rate = u128::from(self.won) * 1_000_000 / u128::from(self.played.max(1));
        u64::try_from(rate).unwrap_or(u64::MAX)
    }

    /// Adds a result to what there was.
    pub(super) fn after(known: Option<&Self>, result: &PlayerResult, ended: Timestamp) -> Self {
        let streak = known.map_or(0, |known| known.streak);
        let streak = if result.has_won { streak + 1 } else { 0 };
        Self {
            player: result.player.clone(),
            name: result.name.clone(),
            played: known.map_or(0, |known| known.played) + 1,
            won: known.map_or(0, |known| known.won) + u64::from(result.has_won),
            total_score: known.map_or(0, |known| known.total_score).saturating_add(result.score),
            highest_score: known
                .map_or(result.score, |known| known.highest_score.max(result.score)),
            streak,
            best_streak: known.map_or(streak, |known| known.best_streak.max(streak)),
            last_played: known.map_or(ended, |known| known.last_played.max(ended)),
        }
    }
}

/// What a leaderboard is ordered by; the best stands first, and ties end with the player's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Order {
    /// Games won, then the win rate.
    Wins,
    /// The sum of all scores.
    Score,
    /// The win rate, then games won; only who has played [`RATED_GAMES`] games.
    WinRate,
}

impl Order {
    pub(super) const ALL: [Self; 3] = [Self::Wins, Self::Score, Self::WinRate];

    pub(super) fn index(self) -> Result<IndexName> {
        IndexName::new(match self {
            Self::Wins => "wins",
            Self::Score => "score",
            Self::WinRate => "win-rate",
        })
    }

    /// Returns a player's place: lower bytes are better.
    pub(super) fn place(self, statistics: &Statistics) -> Option<Bytes> {
        let down =
            |number: u64| ordered(i64::try_from(number).unwrap_or(i64::MAX).saturating_neg());
        let (won, rate) = (down(statistics.won), down(statistics.win_rate()));
        match self {
            Self::Wins => Some([won, rate].concat().into()),
            Self::Score => Some(ordered(statistics.total_score.saturating_neg())),
            Self::WinRate if statistics.played < RATED_GAMES => None,
            Self::WinRate => Some([rate, won].concat().into()),
        }
    }
}

/// A span of time over which results are counted; its parts begin at midnight UTC, on Mondays and on
/// the first of a month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Window {
    /// A calendar day.
    Day,
    /// A week from Monday on.
    Week,
    /// A calendar month.
    Month,
    /// Since the beginning.
    AllTime,
}

impl Window {
    pub(super) const PARTS: [Self; 3] = [Self::Day, Self::Week, Self::Month];

    pub(super) const fn letter(self) -> u8 {
        match self {
            Self::Day => b'd',
            Self::Week => b'w',
            Self::Month => b'm',
            Self::AllTime => b'a',
        }
    }

    /// Returns the number of the part that a time lies in; the first of each kind is 0.
    pub fn part(self, time: Timestamp) -> u32 {
        let days = time.as_millis() / 86_400_000;
        let part = match self {
            Self::Day => days,
            // The first day of all was a Thursday.
            Self::Week => (days + 3) / 7,
            Self::Month => month(days),
            Self::AllTime => 0,
        };
        u32::try_from(part).unwrap_or(u32::MAX)
    }
}

/// Returns the number of the month that a day lies in (Howard Hinnant, "chrono-compatible low-level
/// date algorithms", 2013: years are counted from March on, in eras of 400).
const fn month(days: u64) -> u64 {
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    // March is the third month of the civil year, January the eleventh from March on.
    (era * 400 + year) * 12 + from_march + 2 - 1_970 * 12
}

/// What a player has done in a part of a window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct InWindow {
    pub(super) window: Window,
    pub(super) part: u32,
    pub(super) statistics: Statistics,
}

pub(super) fn window_key(window: Window, part: u32, player: &str) -> Bytes {
    [&[window.letter()], &part.to_be_bytes()[..], player.as_bytes()].concat().into()
}

impl Entity for InWindow {
    const COLLECTION: &'static str = "statistics-windows";
    const SCHEMA: u32 = 1;

    fn key(&self) -> Bytes {
        window_key(self.window, self.part, &self.statistics.player)
    }

    fn terms(&self) -> Result<Vec<Term>> {
        let board = [&[self.window.letter()], &self.part.to_be_bytes()[..]].concat();
        let places = Order::ALL
            .into_iter()
            .filter_map(|order| Some((order, order.place(&self.statistics)?)));
        let term = |(order, place): (Order, Bytes)| {
            Ok(Term::new(order.index()?, [board.as_slice(), &place].concat()))
        };
        places.map(term).collect()
    }
}

impl Entity for Statistics {
    const COLLECTION: &'static str = "statistics";
    const SCHEMA: u32 = 1;

    fn key(&self) -> Bytes {
        Bytes::copy_from_slice(self.player.as_bytes())
    }

    fn terms(&self) -> Result<Vec<Term>> {
        let places = Order::ALL.into_iter().filter_map(|order| Some((order, order.place(self)?)));
        places.map(|(order, place)| Ok(Term::new(order.index()?, place))).collect()
    }
}

/// Refuses a result without an id, or that names a player twice.
pub(super) fn check(result: &GameResult) -> Result<()> {
    let mut players: Vec<&str> =
        result.players.iter().map(|player| player.player.as_str()).collect();
    players.sort_unstable();
    let is_double = players.windows(2).any(|pair| pair.first() == pair.last());
    if is_double
        || result.game.is_empty()
        || players.first().is_some_and(|player| player.is_empty())
    {
        let detail =
            format!("game {:?} of {players:?}: a player twice or an empty id", result.game);
        return Err(Error::invalid("record result", detail));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_begin_at_midnight_on_mondays_and_on_the_first() {
        let at = |days: u64, millis: u64| Timestamp::from_millis(days * 86_400_000 + millis);
        // 1970-01-01 was a Thursday; the fifth day was the first Monday.
        assert_eq!([0, 3, 4, 10, 11].map(|day| Window::Week.part(at(day, 0))), [0, 0, 1, 1, 2]);
        assert_eq!(Window::Day.part(at(7, 86_399_999)), 7);
        assert_eq!(Window::Day.part(at(8, 0)), 8);
        // Ends of January, February (1972 leaps), December 1999, February 2000 (leaps), 2100 (not).
        for (day, part) in [
            (30, 0),
            (31, 1),
            (58, 1),
            (59, 2),
            (789, 25),
            (790, 26),
            (10_956, 359),
            (10_957, 360),
            (11_015, 361),
            (11_016, 361),
            (11_017, 362),
            (47_540, 1_561),
            (47_541, 1_562),
        ] {
            assert_eq!(Window::Month.part(at(day, 0)), part, "day {day}");
        }
        assert_eq!(Window::AllTime.part(at(11_016, 5)), 0);
    }
}
