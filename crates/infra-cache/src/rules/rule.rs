//! A rule: on what, if what, when, and what is removed.

use std::{
    collections::{HashMap, HashSet},
    fmt::{self, Debug},
    sync::Arc,
    time::Duration,
};

use infra_core::{Error, Result};

use super::{signal::Signal, template::Template};
use crate::Glob;

/// What is removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    Key(Template),
    Matching(Template),
    Tag(Template),
}

/// What is removed for one signal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Doomed {
    Key(String),
    Matching(Glob),
    Tag(String),
}

impl Target {
    fn of(&self, signal: &Signal) -> Result<Doomed> {
        Ok(match self {
            Self::Key(template) => Doomed::Key(template.fill(signal)?),
            Self::Matching(template) => Doomed::Matching(template.fill_pattern(signal)?),
            Self::Tag(template) => Doomed::Tag(template.fill(signal)?),
        })
    }

    const fn template(&self) -> &Template {
        match self {
            Self::Key(template) | Self::Matching(template) | Self::Tag(template) => template,
        }
    }
}

/// What brings a rule about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trigger {
    Signal(String),
    Every(Duration),
}

type Condition = Arc<dyn Fn(&Signal) -> bool + Send + Sync>;

/// What a signal, or the time, removes from a cache.
///
/// ```
/// use std::time::Duration;
/// use infra_cache::Rule;
///
/// let _at_once = Rule::on("user_updated").key("user:{user.id}")?;
/// let _if = Rule::on("user_updated").key("{tier}:{user.id}")?.when(|signal| signal.is("tier", "premium"));
/// let _later = Rule::on("match_ended").matching("lobby:*")?.after(Duration::from_secs(5));
/// let _cascade = Rule::on("team_left").tag("team:{team}")?.then("user_updated");
/// let _nightly = Rule::every(Duration::from_secs(86_400)).tag("leaderboards")?;
/// # Ok::<(), infra_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Rule {
    pub(super) trigger: Trigger,
    targets: Vec<Target>,
    conditions: Vec<Condition>,
    pub(super) delay: Duration,
    pub(super) then: Vec<String>,
}

impl Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trigger, targets, conditions, delay, then } = self;
        let mut rule = f.debug_struct("Rule");
        rule.field("trigger", trigger).field("targets", targets).field("delay", delay);
        rule.field("conditions", &conditions.len()).field("then", then).finish()
    }
}

impl Rule {
    fn new(trigger: Trigger) -> Self {
        let (targets, conditions, then) = (Vec::new(), Vec::new(), Vec::new());
        Self { trigger, targets, conditions, delay: Duration::ZERO, then }
    }

    /// Creates a rule for all signals of a name; it removes nothing yet.
    pub fn on(name: impl Into<String>) -> Self {
        Self::new(Trigger::Signal(name.into()))
    }

    /// Creates a rule for the passing of time; what it removes has no fields.
    pub fn every(period: Duration) -> Self {
        Self::new(Trigger::Every(period))
    }

    /// Removes the value under one key.
    ///
    /// # Errors
    ///
    /// [`Invalid`](infra_core::ErrorKind::Invalid) if the braces of the template are not in pairs around a name.
    pub fn key(self, template: &str) -> Result<Self> {
        Ok(self.removing(Target::Key(Template::new(template)?)))
    }

    /// Removes the values whose keys match a [pattern](Glob); fields in it stand for themselves.
    ///
    /// # Errors
    ///
    /// As for [`Self::key`].
    pub fn matching(self, template: &str) -> Result<Self> {
        Ok(self.removing(Target::Matching(Template::new(template)?)))
    }

    /// Removes the values that carry a tag.
    ///
    /// # Errors
    ///
    /// As for [`Self::key`].
    pub fn tag(self, template: &str) -> Result<Self> {
        Ok(self.removing(Target::Tag(Template::new(template)?)))
    }

    fn removing(mut self, target: Target) -> Self {
        self.targets.push(target);
        self
    }

    /// Holds only for signals of which this is true; of several conditions all must be.
    #[must_use]
    pub fn when(mut self, condition: impl Fn(&Signal) -> bool + Send + Sync + 'static) -> Self {
        self.conditions.push(Arc::new(condition));
        self
    }

    /// Removes so long after the signal, and not at once.
    #[must_use]
    pub const fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Sends a signal of another name with the same fields after what is removed, for the rules of that name.
    #[must_use]
    pub fn then(mut self, name: impl Into<String>) -> Self {
        self.then.push(name.into());
        self
    }

    pub(super) fn holds(&self, signal: &Signal) -> bool {
        self.conditions.iter().all(|condition| condition(signal))
    }

    pub(super) fn doomed(&self, signal: &Signal) -> Result<Vec<Doomed>> {
        self.targets.iter().map(|target| target.of(signal)).collect()
    }
}

/// The rules of one cache.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    rules: Vec<Rule>,
    by_name: HashMap<String, Vec<usize>>,
}

/// What one signal brings about.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) at_once: Vec<Doomed>,
    pub(super) later: Vec<(Duration, Doomed)>,
    /// How many rules hold, and how many of them through another one.
    pub(super) triggered: u64,
    pub(super) cascaded: u64,
}

impl Rules {
    /// Takes rules.
    ///
    /// # Errors
    ///
    /// [`Invalid`](infra_core::ErrorKind::Invalid) if a rule of the passing of time has fields, a condition, a
    /// delay or a period of zero.
    pub fn new(rules: impl IntoIterator<Item = Rule>) -> Result<Self> {
        let rules: Vec<Rule> = rules.into_iter().collect();
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
        for (number, rule) in rules.iter().enumerate() {
            match &rule.trigger {
                Trigger::Signal(name) => by_name.entry(name.clone()).or_default().push(number),
                Trigger::Every(period) => check_timed(rule, *period)?,
            }
        }
        Ok(Self { rules, by_name })
    }

    /// Returns whether there is a rule for signals of a name.
    pub(super) fn know(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// Returns the rules of the passing of time.
    pub(super) fn timed(&self) -> impl Iterator<Item = (Duration, &Rule)> {
        self.rules.iter().filter_map(|rule| match rule.trigger {
            Trigger::Every(period) => Some((period, rule)),
            Trigger::Signal(_) => None,
        })
    }

    /// Works out what a signal brings about, through all rules that follow one another. Each rule is followed once,
    /// so a circle of rules comes to its end.
    pub(super) fn plan(&self, signal: &Signal) -> Result<Plan> {
        let mut plan = Plan::default();
        self.follow(vec![(signal.clone(), Duration::ZERO, false)], &mut plan)?;
        Ok(plan)
    }

    /// Works out what the rules after a timed one bring about.
    pub(super) fn plan_timed(&self, rule: &Rule) -> Result<Plan> {
        let signal = Signal::new("@time", serde_json::Value::Null);
        let mut plan = Plan { at_once: rule.doomed(&signal)?, triggered: 1, ..Plan::default() };
        let signals = rule.then.iter().map(|name| (signal.renamed(name), Duration::ZERO, true));
        self.follow(signals.collect(), &mut plan)?;
        Ok(plan)
    }

    /// Follows signals, each with its delay and whether a rule sent it.
    fn follow(&self, mut signals: Vec<(Signal, Duration, bool)>, plan: &mut Plan) -> Result<()> {
        let mut followed = HashSet::new();
        // The soonest first: a rule that is reached on two ways holds as early as it can.
        while let Some(place) = (0..signals.len()).min_by_key(|at| signals.get(*at).map(|it| it.1))
        {
            let (signal, delay, is_cascaded) = signals.swap_remove(place);
            for number in self.by_name.get(signal.name()).into_iter().flatten() {
                let Some(rule) = self.rules.get(*number) else { continue };
                if !rule.holds(&signal) || !followed.insert(*number) {
                    continue;
                }
                plan.triggered += 1;
                plan.cascaded += u64::from(is_cascaded);
                let delay = delay.saturating_add(rule.delay);
                let doomed = rule.doomed(&signal)?;
                if delay.is_zero() {
                    plan.at_once.extend(doomed);
                } else {
                    plan.later.extend(doomed.into_iter().map(|doomed| (delay, doomed)));
                }
                signals.extend(rule.then.iter().map(|name| (signal.renamed(name), delay, true)));
            }
        }
        Ok(())
    }
}

fn check_timed(rule: &Rule, period: Duration) -> Result<()> {
    let is_plain = rule.targets.iter().all(|target| target.template().is_plain());
    if is_plain && rule.conditions.is_empty() && rule.delay.is_zero() && !period.is_zero() {
        return Ok(());
    }
    Err(Error::invalid(
        "take rules",
        format!("a rule of time has a period and plain targets: {rule:?}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_that_a_timed_one_reaches_by_two_names_is_planned_once_and_as_a_cascade() {
        let rules = Rules::new([
            Rule::every(Duration::from_secs(1)).then("a").then("b"),
            Rule::on("a").then("c"),
            Rule::on("b").then("c"),
            Rule::on("c").key("k").unwrap(),
        ])
        .unwrap();
        let (_, timed) = rules.timed().next().unwrap();
        let at_once = vec![Doomed::Key("k".to_owned())];
        let expected = Plan { at_once, later: Vec::new(), triggered: 4, cascaded: 3 };
        assert_eq!(rules.plan_timed(timed).unwrap(), expected);
    }
}
