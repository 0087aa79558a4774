//! Rules as data: which limits a message meets, by what it is and who sent it.

use std::net::IpAddr;

use infra_core::limit::Charge;

use crate::{limit::Limit, limiter::Limiter, prefix::address_key};

/// What the server knows of a message, from its own state: nothing of it is read from the message
/// but its name.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Where the connection comes from, as trusted proxies say.
    pub address: IpAddr,
    /// The connection.
    pub connection: &'a str,
    /// Who is signed in on it.
    pub player: Option<&'a str>,
    /// The room in which the server has seated the player.
    pub room: Option<&'a str>,
    /// The player's tier; empty if there is none.
    pub tier: &'a str,
    /// The message's name, or the endpoint's path.
    pub message: &'a str,
}

/// Who pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scope {
    /// The address, IPv6 by /64.
    Address,
    /// The connection.
    Connection,
    /// The player; the address while nobody is signed in.
    Player,
    /// The room; nobody outside of one.
    Room,
    /// All together.
    Global,
}

/// One rule: a limit, who pays, and which messages of which tiers it is for.
///
/// A pattern is a name, or the beginning of one followed by `*`.
#[derive(Debug, Clone)]
pub struct Rule {
    name: &'static str,
    scope: Scope,
    limit: Limit,
    messages: Vec<&'static str>,
    except: Vec<&'static str>,
    tiers: Vec<&'static str>,
    is_exclusive: bool,
    is_flat: bool,
}

impl Rule {
    /// Creates a rule for every message of every tier; its name is its limit's.
    pub fn new(name: &'static str, scope: Scope, limit: impl Into<Limit>) -> Self {
        Self {
            name,
            scope,
            limit: limit.into(),
            messages: vec!["*"],
            except: Vec::new(),
            tiers: Vec::new(),
            is_exclusive: false,
            is_flat: false,
        }
    }

    /// Sets for which messages it is.
    #[must_use]
    pub fn messages(mut self, patterns: &[&'static str]) -> Self {
        self.messages = patterns.to_vec();
        self
    }

    /// Sets for which of these it is not.
    #[must_use]
    pub fn except(mut self, patterns: &[&'static str]) -> Self {
        self.except = patterns.to_vec();
        self
    }

    /// Sets for which tiers it is; all by default.
    #[must_use]
    pub fn tiers(mut self, tiers: &[&'static str]) -> Self {
        self.tiers = tiers.to_vec();
        self
    }

    /// Makes it one of the rules of which only the first that matches counts.
    #[must_use]
    pub const fn exclusive(mut self) -> Self {
        self.is_exclusive = true;
        self
    }

    /// Counts messages instead of what they cost.
    #[must_use]
    pub const fn flat(mut self) -> Self {
        self.is_flat = true;
        self
    }

    fn is_for(&self, facts: &Facts<'_>) -> bool {
        let any = |patterns: &[&str]| patterns.iter().any(|pattern| fits(pattern, facts.message));
        let is_tier = self.tiers.is_empty() || self.tiers.contains(&facts.tier);
        is_tier && any(&self.messages) && !any(&self.except)
    }

    fn key(&self, facts: &Facts<'_>) -> Option<String> {
        match self.scope {
            Scope::Address => Some(address_key(facts.address)),
            Scope::Connection => Some(facts.connection.to_owned()),
            Scope::Player => {
                Some(facts.player.map_or_else(|| address_key(facts.address), str::to_owned))
            }
            Scope::Room => facts.room.map(str::to_owned),
            Scope::Global => Some(String::new()),
        }
    }
}

fn fits(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or_else(|| pattern == name, |start| name.starts_with(start))
}

/// Rules in the order in which they are looked at.
///
/// ```
/// use std::num::NonZeroU32;
/// use infra_ratelimit::{Facts, Limiter, Quota, Rule, Rules, Scope};
///
/// let rules = Rules::new(vec![
///     Rule::new("premium", Scope::Player, Quota::per_second(30)?).tiers(&["premium"]).exclusive(),
///     Rule::new("basic", Scope::Player, Quota::per_second(10)?).exclusive(),
///     Rule::new("uploads", Scope::Address, Quota::per_minute(5)?).messages(&["/upload/*"]),
/// ]);
/// let facts = Facts {
///     address: "203.0.113.7".parse().unwrap(),
///     connection: "c1",
///     player: Some("ann"),
///     room: None,
///     tier: "premium",
///     message: "/upload/avatar",
/// };
/// let charges = rules.charges(&facts, NonZeroU32::MIN);
/// assert_eq!(charges.iter().map(|charge| charge.limit).collect::<Vec<_>>(), ["premium", "uploads"]);
/// # Ok::<(), infra_core::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Rules(Vec<Rule>);

impl Rules {
    /// Creates rules; the earlier of two exclusive ones that match counts.
    pub const fn new(rules: Vec<Rule>) -> Self {
        Self(rules)
    }

    /// Returns the limits that the rules name, to declare them to a limiter.
    pub fn limits(&self) -> impl Iterator<Item = (&'static str, Limit)> + '_ {
        self.0.iter().map(|rule| (rule.name, rule.limit))
    }

    /// Declares the limits to a limiter in memory.
    #[must_use]
    pub fn declare(&self, limiter: Limiter) -> Limiter {
        self.limits().fold(limiter, |limiter, (name, limit)| limiter.limit(name, limit))
    }

    /// Declares the limits to a limiter in Redis.
    ///
    /// # Errors
    ///
    /// As for [`RedisLimiter::limit`](crate::redis::RedisLimiter::limit).
    #[cfg(feature = "redis")]
    pub fn declare_in_redis(
        &self,
        limiter: crate::redis::RedisLimiter,
    ) -> infra_core::Result<crate::redis::RedisLimiter> {
        self.limits().try_fold(limiter, |limiter, (name, limit)| limiter.limit(name, limit))
    }

    /// Returns what a message is charged, for one atomic decision.
    pub fn charges(&self, facts: &Facts<'_>, cost: std::num::NonZeroU32) -> Vec<Charge> {
        let mut charges = Vec::new();
        let mut has_exclusive = false;
        for rule in &self.0 {
            if (rule.is_exclusive && has_exclusive) || !rule.is_for(facts) {
                continue;
            }
            has_exclusive |= rule.is_exclusive;
            if let Some(key) = rule.key(facts) {
                let charge = Charge::one(rule.name, key);
                charges.push(if rule.is_flat { charge } else { charge.cost(cost) });
            }
        }
        charges
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroU32, time::Duration};

    use super::*;
    use crate::Quota;

    fn charged(rules: &Rules, message: &str, tier: &str) -> Vec<(&'static str, String, u32)> {
        let facts = Facts {
            address: "2001:db8::7".parse().unwrap(),
            connection: "c1",
            player: None,
            room: None,
            tier,
            message,
        };
        let charges = rules.charges(&facts, NonZeroU32::new(5).unwrap());
        charges.into_iter().map(|one| (one.limit, one.key, one.cost.get())).collect()
    }

    #[test]
    fn a_rule_is_for_its_messages_and_tiers_and_the_first_exclusive_one_counts() {
        let quota = Quota::new(9, Duration::from_secs(1)).unwrap();
        let rule = |name, scope| Rule::new(name, scope, quota);
        let rules = Rules::new(vec![
            rule("gold", Scope::Connection).tiers(&["gold"]).exclusive(),
            rule("room", Scope::Room),
            rule("chat", Scope::Player).messages(&["chat", "emoji"]).flat(),
            rule("admin", Scope::Global).messages(&["/admin/*"]).except(&["/admin/health"]),
            rule("rest", Scope::Address).exclusive(),
        ]);
        let network = || "2001:db8::/64".to_owned();
        let rest = || ("rest", network(), 5);
        assert_eq!(charged(&rules, "chat", ""), [("chat", network(), 1), rest()]);
        assert_eq!(charged(&rules, "chatter", ""), [rest()]);
        assert_eq!(charged(&rules, "/admin/x", ""), [("admin", String::new(), 5), rest()]);
        assert_eq!(charged(&rules, "/admin/health", ""), [rest()]);
        assert_eq!(charged(&rules, "play", "gold"), [("gold", "c1".to_owned(), 5)]);
    }
}
