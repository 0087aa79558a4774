//! How much the server admits, as the operator writes it.

use std::{fmt, net::IpAddr, num::NonZeroU32, time::Duration};

use infra_ratelimit::{Quota, Window};

use super::{
    backend::{Backend, Role},
    error::ConfigError,
    options::Options,
};

/// So many within so many seconds, written `COUNT/SECONDS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    count: u32,
    seconds: u32,
}

impl Allowance {
    const fn new(count: u32, seconds: u32) -> Self {
        Self { count, seconds }
    }

    fn parse(option: &str, text: &str) -> Result<Self, ConfigError> {
        let refuse = || {
            let why = format!("`{text}` is not a count and seconds above zero, as in `120/60`");
            ConfigError::new(option, why)
        };
        let (count, seconds) = text.split_once('/').ok_or_else(refuse)?;
        let count = count.trim().parse().map_err(|_| refuse())?;
        let seconds = seconds.trim().parse().map_err(|_| refuse())?;
        let allowance = Self { count, seconds };
        let is_sound = allowance.quota().is_ok() && allowance.window().is_ok();
        if is_sound { Ok(allowance) } else { Err(refuse()) }
    }

    fn length(self) -> Duration {
        Duration::from_secs(u64::from(self.seconds))
    }

    /// Returns it as a bucket: all at once, then spread evenly.
    ///
    /// # Errors
    ///
    /// [`Invalid`](infra_core::ErrorKind::Invalid) for zero; a setting that was read is none.
    pub fn quota(self) -> infra_core::Result<Quota> {
        Quota::new(self.count, self.length() / self.count.max(1))
    }

    /// Returns it as a window.
    ///
    /// # Errors
    ///
    /// As for [`Allowance::quota`].
    pub fn window(self) -> infra_core::Result<Window> {
        Window::new(self.count, self.length())
    }
}

impl fmt::Display for Allowance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, self.seconds)
    }
}

/// How much the server admits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Whether nothing is refused, only counted.
    pub is_trial: bool,
    /// The tokens of a player.
    pub player: Allowance,
    /// The tokens of a room.
    pub room: Allowance,
    /// Connections that say `hello`, rooms that are created, joined or watched, from one address.
    pub arrivals: Allowance,
    /// HTTP requests of one address.
    pub requests: Allowance,
    /// A connection's actions.
    pub input: Allowance,
    /// A connection's talk.
    pub chat: Allowance,
    /// A connection's other messages.
    pub control: Allowance,
    /// How many times the table of single messages a player has.
    pub messages: u32,
    /// The most connections of one player.
    pub connections_per_player: u32,
    /// The most spectators of a room.
    pub spectators: u32,
    /// The proxies that are believed when they name the client.
    pub proxies: Vec<IpAddr>,
    /// Where it is counted.
    pub limiter: Backend,
    /// How many servers count there; each enforces its part while nothing can be counted there.
    pub nodes: NonZeroU32,
}

impl Limits {
    /// Makes the limits whole; an address is admitted as often as it may have connections.
    pub(super) fn of(options: &Options, per_address: u32) -> Result<Self, ConfigError> {
        let read = |option: &'static str, text: &Option<String>, default| match text {
            Some(text) => Allowance::parse(option, text),
            None => Ok(default),
        };
        let positive = |option: &'static str, count: Option<u32>, default| {
            super::resolve::at_least_one(option, count.unwrap_or(default))
        };
        let times = |factor| Allowance::new(per_address.saturating_mul(factor), 60);
        Ok(Self {
            is_trial: is_trial(options.limits.as_deref())?,
            player: read("limit-player", &options.limit_player, Allowance::new(120, 120))?,
            room: read("limit-room", &options.limit_room, Allowance::new(300, 60))?,
            arrivals: read("limit-arrivals", &options.limit_arrivals, times(4))?,
            requests: read("limit-requests", &options.limit_requests, times(10))?,
            input: read("limit-input", &options.limit_input, Allowance::new(20, 2))?,
            chat: read("limit-chat", &options.limit_chat, Allowance::new(10, 5))?,
            control: read("limit-control", &options.limit_control, Allowance::new(20, 4))?,
            messages: positive("limit-messages", options.limit_messages, 1)?,
            connections_per_player: positive(
                "connections-per-player",
                options.connections_per_player,
                4,
            )?,
            spectators: positive("spectators", options.spectators, 256)?,
            proxies: options.trust_proxy.clone().unwrap_or_default(),
            limiter: Backend::parse(Role::Limiter, options.limiter.as_deref().unwrap_or("memory:"))
                .map_err(|why| ConfigError::new(Role::Limiter.option(), why))?,
            nodes: NonZeroU32::new(positive("limiter-nodes", options.limiter_nodes, 1)?)
                .unwrap_or(NonZeroU32::MIN),
        })
    }
}

fn is_trial(mode: Option<&str>) -> Result<bool, ConfigError> {
    match mode {
        None | Some("enforce") => Ok(false),
        Some("trial") => Ok(true),
        Some(other) => {
            let why = format!("`{other}` is neither `enforce` nor `trial`");
            Err(ConfigError::new("limits", why))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(change: impl FnOnce(&mut Options)) -> Result<Limits, String> {
        let mut options = Options::default();
        change(&mut options);
        Limits::of(&options, 64).map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_those_of_the_game() {
        let limits = resolved(|_| {}).unwrap();
        assert!(!limits.is_trial && limits.proxies.is_empty());
        assert_eq!(
            limits.player.quota().unwrap(),
            Quota::new(120, Duration::from_secs(1)).unwrap()
        );
        assert_eq!(limits.room.window().unwrap(), Window::per_minute(300).unwrap());
        assert_eq!((limits.arrivals.to_string(), limits.messages), ("256/60".to_owned(), 1));
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_option() {
        let refused = |change: fn(&mut Options)| resolved(change).unwrap_err();
        for text in ["", "120", "0/60", "9/0", "a/b", "-1/60", "1/99999999"] {
            let refused = resolved(|options| options.limit_chat = Some(text.to_owned()));
            assert!(refused.unwrap_err().contains("--limit-chat: `"), "{text}");
        }
        assert!(refused(|o| o.limits = Some("off".to_owned())).contains("--limits: `off` is"));
        assert!(refused(|o| o.limit_messages = Some(0)).contains("--limit-messages: it takes 1"));
        assert!(refused(|o| o.limiter_nodes = Some(0)).contains("--limiter-nodes: it takes 1"));
        assert!(
            refused(|o| o.limiter = Some("valkey://x".to_owned()))
                .starts_with("option --limiter: `valkey` is no scheme for it; it takes `")
        );
        let set = resolved(|options| options.limit_room = Some("9 / 2".to_owned())).unwrap();
        assert_eq!(set.room.to_string(), "9/2");
    }
}
