//! The router: puts each message into the queues that it is for.

use std::{collections::BTreeMap, sync::Arc};

use infra_core::{
    Error, ErrorKind, Result,
    durability::Durability,
    id::QueueName,
    queue::{Message, Queue},
};

use super::{rule::Rule, topic::Dialect, trie::Trie};
use crate::{mint::Mint, telemetry::UNROUTABLE};

/// The header with the name of the one queue that a message is for; see [`Router::direct`].
pub const DESTINATION: &str = "destination";

const ROUTE: &str = "route message";

/// What became of a message at one destination.
#[derive(Debug)]
pub struct Routed {
    /// The queue.
    pub destination: QueueName,
    /// Whether the message was new there, or why it was not taken.
    pub result: Result<bool>,
}

/// A rule with where its messages go.
#[derive(Debug, Clone)]
struct Ruled {
    rank: i32,
    rule: Rule,
    destinations: Vec<QueueName>,
    is_last: bool,
}

/// Routes messages by topic, by rules on the message, or directly by name.
///
/// Rules come first, the highest rank before others; all rules that admit a message count, until one
/// that is the last. If no rule admits it, its topic decides. A queue gets a message once, however
/// many routes lead there, and each queue gets an envelope of its own with an id of its own; a
/// dedup id is kept, since every queue has its own window. What no route is for goes to the
/// alternate queue, or is an error.
///
/// ```
/// # use std::sync::Arc;
/// # use infra_core::{SystemClock, codec::Payload, durability::Durability, id::QueueName};
/// # use infra_core::{queue::Queue, random::Random};
/// use infra_messaging::{MemoryQueue, Mint, Options, route::{Dialect, Router}};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// # let mint = Mint::new(SystemClock::shared(), Random::seeded(1));
/// # let queue = |name: &str| -> infra_core::Result<Arc<dyn Queue>> {
/// #     Ok(Arc::new(MemoryQueue::new(QueueName::new(name)?, Options::new(9), SystemClock::shared())))
/// # };
/// let mut router = Router::new(Dialect::Nats, mint.clone());
/// router.add(queue("games")?)?;
/// router.topic("game.*", "games")?;
/// let message = mint.message(Payload::json(1, "started")?);
/// let routed = router.route("game.started", &message, Durability::Applied).await?;
/// assert_eq!(routed[0].destination.as_str(), "games");
/// # Ok::<(), infra_core::Error>(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct Router {
    queues: BTreeMap<QueueName, Arc<dyn Queue>>,
    topics: Trie<QueueName>,
    rules: Vec<Ruled>,
    alternate: Option<QueueName>,
    mint: Mint,
}

impl Router {
    /// Creates a router without routes; `mint` makes the ids of envelopes.
    pub fn new(dialect: Dialect, mint: Mint) -> Self {
        let (queues, topics, rules) = (BTreeMap::new(), Trie::new(dialect), Vec::new());
        Self { queues, topics, rules, alternate: None, mint }
    }

    /// Adds a queue under its name.
    ///
    /// # Errors
    ///
    /// [`Invalid`](ErrorKind::Invalid) if there is one of that name.
    pub fn add(&mut self, queue: Arc<dyn Queue>) -> Result<()> {
        let name = queue.name().clone();
        if self.queues.contains_key(&name) {
            return Err(Error::invalid("add queue", format!("there is a queue {name}")));
        }
        self.queues.insert(name, queue);
        Ok(())
    }

    /// Sends the topics that a filter admits to a queue.
    ///
    /// # Errors
    ///
    /// [`Invalid`](ErrorKind::Invalid) for a filter of another dialect,
    /// [`NotFound`](ErrorKind::NotFound) for an unknown queue.
    pub fn topic(&mut self, filter: &str, destination: &str) -> Result<()> {
        let destination = self.known(destination)?;
        self.topics.insert(filter, destination)
    }

    /// Ends a route of topics; returns whether there was one.
    ///
    /// # Errors
    ///
    /// As for [`Router::topic`].
    pub fn remove_topic(&mut self, filter: &str, destination: &str) -> Result<bool> {
        Ok(0 < self.topics.remove(filter, |name| name.as_str() == destination)?)
    }

    /// Sends messages that a rule admits to queues; rules of a higher rank come first, of equal rank
    /// in their order. After one that `is_last` admits a message, no other is asked.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) for an unknown queue.
    pub fn rule(&mut self, rank: i32, rule: Rule, destinations: &[&str], then: Then) -> Result<()> {
        let destinations =
            destinations.iter().map(|name| self.known(name)).collect::<Result<_>>()?;
        let place = self.rules.partition_point(|other| rank <= other.rank);
        let is_last = then == Then::Stop;
        self.rules.insert(place, Ruled { rank, rule, destinations, is_last });
        Ok(())
    }

    /// Sends what no route is for to a queue; without one it is an error.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) for an unknown queue.
    pub fn alternate(&mut self, destination: &str) -> Result<()> {
        self.alternate = Some(self.known(destination)?);
        Ok(())
    }

    /// Puts a message into every queue that it is for, and says of each what came of it; one that
    /// refuses it hinders no other.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) if it is unroutable, [`Invalid`](ErrorKind::Invalid) for a
    /// topic of another dialect.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves it in some of the queues; a dedup id makes a repeat safe.
    pub async fn route(
        &self,
        topic: &str,
        message: &Message,
        durability: Durability,
    ) -> Result<Vec<Routed>> {
        let mut names = self.by_rules(message);
        if names.is_empty() {
            names = self.topics.matches(topic)?.into_iter().cloned().collect();
        }
        names.sort();
        names.dedup();
        self.send(names, &format!("topic {topic}"), message, durability).await
    }

    /// Puts a message into the queue that its header [`DESTINATION`] names.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) if it names none or an unknown one, and there is no
    /// alternate.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves it there or not.
    pub async fn direct(&self, message: &Message, durability: Durability) -> Result<Vec<Routed>> {
        let named = message.headers.get(DESTINATION);
        let known = named.and_then(|name| self.known(name).ok());
        let what = named.map_or("no destination", String::as_str);
        self.send(known.into_iter().collect(), what, message, durability).await
    }

    fn by_rules(&self, message: &Message) -> Vec<QueueName> {
        let mut names = Vec::new();
        for ruled in self.rules.iter().filter(|ruled| ruled.rule.admits(message)) {
            names.extend(ruled.destinations.iter().cloned());
            if ruled.is_last {
                break;
            }
        }
        names
    }

    async fn send(
        &self,
        mut names: Vec<QueueName>,
        what: &str,
        message: &Message,
        durability: Durability,
    ) -> Result<Vec<Routed>> {
        if names.is_empty() {
            UNROUTABLE.add(1);
            names.extend(self.alternate.clone());
        }
        if names.is_empty() {
            return Err(Error::new(ErrorKind::NotFound, ROUTE).detail(format!("{what}: no route")));
        }
        let mut routed = Vec::new();
        for destination in names {
            let Some(queue) = self.queues.get(&destination) else { continue };
            let envelope = Message { id: self.mint.id(), ..message.clone() };
            let said = queue.publish(vec![envelope], durability).await;
            let result = said.map(|new| new.first().copied().unwrap_or_default());
            routed.push(Routed { destination, result });
        }
        Ok(routed)
    }

    fn known(&self, name: &str) -> Result<QueueName> {
        let known = self.queues.get_key_value(name).map(|(name, _)| name.clone());
        known.ok_or_else(|| Error::new(ErrorKind::NotFound, ROUTE).detail(format!("queue {name}")))
    }
}

/// What follows a rule that admits a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Then {
    /// The next rules are asked too.
    #[default]
    GoOn,
    /// No other rule is asked.
    Stop,
}
