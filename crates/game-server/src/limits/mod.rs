//! How much each player, room, connection and address may do: the limits of the game, put together
//! from what the operator chose. What a message costs is decided here, from what the server knows.

mod counting;
mod kinds;

use std::{net::IpAddr, num::NonZeroU32, sync::Arc, time::Duration};

use http::request::Parts;
use infra_core::{
    Clock, Result,
    health::HealthCheck,
    limit::{Charge, Decision, RateLimiter, Verdict},
};
use infra_ratelimit::{
    Facts, Limit, Rung, Rungs, address_key,
    game::{Action, Counted, GameLimiter, Options, Phase},
    tower::{Proxies, RateLimitLayer},
};

use self::counting::Counting;
pub(crate) use self::kinds::{action_of, class_of};
use crate::config;

/// The limit of HTTP requests.
const REQUESTS: &str = "requests";

/// How long a client waits before it sends again what can never pass.
const NEVER: Duration = Duration::from_mins(1);

/// The limits of a server.
#[derive(Debug, Clone)]
pub struct Limits {
    limiter: Arc<dyn RateLimiter>,
    health: Option<Arc<dyn HealthCheck>>,
    game: GameLimiter,
    rungs: Option<Rungs>,
    proxies: Arc<Proxies>,
}

impl Limits {
    /// Creates the limits, counted where the settings say.
    ///
    /// # Errors
    ///
    /// [`Invalid`](infra_core::ErrorKind::Invalid) for a limit of nothing at all, or for an address
    /// of a limiter that is none.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing behind.
    pub async fn new(
        limits: &config::Limits,
        connections_per_address: u32,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self> {
        let mut options = Options::new()?
            .player(limits.player.quota()?)
            .room(Limit::sliding(limits.room.window()?))
            .arrivals(limits.arrivals.quota()?)
            .arriving(&kinds::ARRIVING)
            .messages(&kinds::table(limits.messages))
            .connections(connections_per_address, limits.connections_per_player, limits.spectators);
        let mut requests = Limit::bucket(limits.requests.quota()?);
        if limits.is_trial {
            options = options.trial();
            requests = requests.shadow();
        }
        let rules = options.rules()?;
        let mut declared: Vec<_> = rules.limits().chain([(REQUESTS, requests)]).collect();
        declared.extend(options.limits()?);
        let Counting { limiter, health } = Counting::of(declared, limits, clock).await?;
        let rungs =
            Rungs::new(limits.input.quota()?, limits.chat.quota()?, limits.control.quota()?);
        Ok(Self {
            game: GameLimiter::new(Arc::clone(&limiter), rules),
            limiter,
            health,
            rungs: (!limits.is_trial).then_some(rungs),
            proxies: Arc::new(Proxies::new(limits.proxies.iter().map(ToString::to_string))?),
        })
    }

    /// Returns the ladder of a new connection; none while the limits are on trial.
    pub fn ladder(&self) -> Option<Rung> {
        self.rungs.map(|rungs| rungs.ladder())
    }

    /// Returns what is to be watched of the limiter, if it is elsewhere.
    pub fn health(&self) -> Option<Arc<dyn HealthCheck>> {
        self.health.clone()
    }

    /// Returns the proxies that are believed.
    pub(crate) fn proxies(&self) -> Arc<Proxies> {
        Arc::clone(&self.proxies)
    }

    /// Returns the layer of the public listener: each request but those for health is counted
    /// against its client's address. `peer` finds who sent it.
    pub fn layer<P>(
        &self,
        peer: P,
    ) -> RateLimitLayer<impl Fn(&Parts) -> Vec<Charge> + Clone + use<P>>
    where
        P: Fn(&Parts) -> Option<IpAddr> + Clone,
    {
        let proxies = self.proxies();
        RateLimitLayer::new(Arc::clone(&self.limiter), move |parts: &Parts| {
            if parts.uri.path().starts_with("/health/") {
                return Vec::new();
            }
            let client = peer(parts).map(|peer| proxies.client(peer, &parts.headers));
            let price = price_of(parts.uri.path());
            let charge = |client| Charge::one(REQUESTS, address_key(client)).cost(price);
            client.map(charge).into_iter().collect()
        })
    }

    /// Counts a connection of a player until the guard is dropped, or says when to try again.
    pub(crate) async fn arrive(
        &self,
        address: IpAddr,
        player: &str,
    ) -> std::result::Result<Option<Counted>, Duration> {
        counted(self.game.connect(address, Some(player)).await)
    }

    /// Counts a spectator of a room until the guard is dropped, or says when to try again. The four
    /// seats are not counted: no crowd keeps a player out of its room.
    pub(crate) async fn watch(&self, room: &str) -> std::result::Result<Option<Counted>, Duration> {
        counted(self.game.enter(room).await)
    }

    /// Pays for a message by its rules; `Some` says how long to wait instead.
    ///
    /// Talk has one price in all phases: nothing else is to be done in the lobby.
    pub(crate) async fn pay(
        &self,
        facts: &Facts<'_>,
        action: Action,
        phase: Option<Phase>,
    ) -> Option<Duration> {
        let phase = phase.filter(|_| !matches!(action, Action::Chat | Action::Emoji));
        match self.game.act(facts, action, phase).await {
            Ok(decision) => pause(&decision),
            Err(error) => {
                unknown(&error);
                None
            }
        }
    }
}

/// Returns how many requests one of this path counts as: what the rules say of a replay and of
/// statistics.
fn price_of(path: &str) -> NonZeroU32 {
    let action = if path.starts_with("/api/games/") {
        Action::Replay
    } else if path.starts_with("/api/") {
        Action::Statistics
    } else {
        Action::Unknown
    };
    action.cost()
}

fn counted(
    told: Result<(Decision, Option<Counted>)>,
) -> std::result::Result<Option<Counted>, Duration> {
    match told {
        Ok((decision, counted)) => pause(&decision).map_or(Ok(counted), Err),
        Err(error) => {
            unknown(&error);
            Ok(None)
        }
    }
}

const fn pause(decision: &Decision) -> Option<Duration> {
    match decision.verdict {
        Verdict::Admitted => None,
        Verdict::RetryAfter(pause) => Some(pause),
        Verdict::Never => Some(NEVER),
    }
}

/// A limiter in memory has no outage; one elsewhere lets the game go on.
fn unknown(error: &infra_core::Error) {
    tracing::warn!(error = error as &dyn std::error::Error, "rate limit not known");
}
