//! The times of a room and the bounds of a game.

use super::{error::ConfigError, options::Options, resolve::at_least_one};
use crate::domain::{Bounds, LAST_ROUND, Millis, Settings};

/// The defaults of the most minutes, events and bytes of a game: far beyond what one takes that is
/// only played.
const MINUTES: u32 = 1_440;
const EVENTS: u32 = 20_000;
const BYTES: u32 = 4 << 20;

/// Returns the times of a room whose host names none, and the bounds of every room.
pub(super) fn settings(options: &Options) -> Result<Settings, ConfigError> {
    let mut room = Settings { bounds: bounds(options)?, ..Settings::default() };
    let in_range = |room: &Settings, option: &str| {
        room.check().map_err(|_| ConfigError::new(option, "out of range"))
    };
    if let Some(text) = &options.bot_delay {
        (room.bot_min_ms, room.bot_max_ms) = bot_delay(text)?;
        in_range(&room, "bot-delay")?;
    }
    if let Some(pause) = options.round_pause {
        room.scoring_ms = Millis::new(pause);
        in_range(&room, "round-pause")?;
    }
    if let Some(text) = &options.timeouts {
        [room.preparation_ms, room.declaration_ms, room.turn_ms] = timeouts(text)?;
        in_range(&room, "timeouts")?;
    }
    Ok(room)
}

fn bot_delay(text: &str) -> Result<(Millis, Millis), ConfigError> {
    let refuse = || {
        let why = format!("`{text}` is not a range of milliseconds, as in `500..1500`");
        ConfigError::new("bot-delay", why)
    };
    let (least, most) = text.split_once("..").ok_or_else(refuse)?;
    let least: u32 = least.parse().map_err(|_| refuse())?;
    let most: u32 = most.parse().map_err(|_| refuse())?;
    if most < least { Err(refuse()) } else { Ok((Millis::new(least), Millis::new(most))) }
}

fn timeouts(text: &str) -> Result<[Millis; 3], ConfigError> {
    let refuse = || {
        let why =
            format!("`{text}` is not three numbers of seconds above zero, as in `60,120,300`");
        ConfigError::new("timeouts", why)
    };
    let seconds: Vec<u32> = text
        .split(',')
        .map(|part| part.trim().parse())
        .collect::<Result<_, _>>()
        .map_err(|_| refuse())?;
    let millis = |seconds: u32| Millis::new(seconds.saturating_mul(1_000));
    match *seconds.as_slice() {
        [preparation, declaration, turn] if 0 < preparation.min(declaration).min(turn) => {
            Ok([millis(preparation), millis(declaration), millis(turn)])
        }
        _ => Err(refuse()),
    }
}

fn bounds(options: &Options) -> Result<Bounds, ConfigError> {
    let most = |option: &'static str, count: Option<u32>, default: u32| {
        at_least_one(option, count.unwrap_or(default)).map(Some)
    };
    let rounds = match options.game_rounds.map(u8::try_from) {
        // The rules' own last round is no bound beyond them.
        None | Some(Ok(LAST_ROUND)) => None,
        Some(Ok(rounds @ 1..LAST_ROUND)) => Some(rounds),
        Some(_) => {
            let why = format!("it takes 1 to {LAST_ROUND}");
            return Err(ConfigError::new("game-rounds", why));
        }
    };
    Ok(Bounds {
        minutes: most("game-minutes", options.game_minutes, MINUTES)?,
        rounds,
        events: most("game-events", options.game_events, EVENTS)?,
        bytes: most("game-bytes", options.game_bytes, BYTES)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(change: impl FnOnce(&mut Options)) -> Result<Settings, String> {
        let mut options = Options::default();
        change(&mut options);
        settings(&options).map_err(|error| error.to_string())
    }

    #[test]
    fn the_times_of_a_room_can_be_set() {
        let room = resolved(|options| {
            options.bot_delay = Some("0..5".to_owned());
            options.timeouts = Some("1, 2, 3".to_owned());
            options.round_pause = Some(9);
        })
        .unwrap();
        assert_eq!(room.bot_max_ms, Millis::new(5));
        assert_eq!(room.turn_ms, Millis::new(3_000));
        assert_eq!(room.scoring_ms, Millis::new(9));
        let refused = resolved(|options| options.timeouts = Some("1,2,99999".to_owned()));
        assert_eq!(refused.unwrap_err(), "option --timeouts: out of range");
        let refused = resolved(|options| options.round_pause = Some(60_001));
        assert_eq!(refused.unwrap_err(), "option --round-pause: out of range");
    }

    #[test]
    fn the_bounds_of_a_game_can_be_set() {
        let bounds = resolved(|options| {
            (options.game_minutes, options.game_rounds) = (Some(90), Some(5));
            (options.game_events, options.game_bytes) = (Some(900), Some(9_000));
        });
        let (minutes, rounds) = (Some(90), Some(5));
        let expected = Bounds { minutes, rounds, events: Some(900), bytes: Some(9_000) };
        assert_eq!(bounds.unwrap().bounds, expected);
        assert_eq!(resolved(|options| options.game_rounds = Some(20)).unwrap().bounds.rounds, None);
        for rounds in [0, 21, 300] {
            let refused = resolved(|options| options.game_rounds = Some(rounds)).unwrap_err();
            assert_eq!(refused, "option --game-rounds: it takes 1 to 20");
        }
        let refused = |change: fn(&mut Options)| resolved(change).unwrap_err();
        assert!(refused(|o| o.game_minutes = Some(0)).contains("--game-minutes: it takes 1"));
        assert!(refused(|o| o.game_events = Some(0)).contains("--game-events: it takes 1"));
        assert!(refused(|o| o.game_bytes = Some(0)).contains("--game-bytes: it takes 1"));
    }
}
