//! Shedders, and bulkheads per key, against a plain model of who runs, who waits, who goes and why; over
//! random sequences of calls, ends, drops, time, limits and memory.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context as Task, Poll, Waker},
    time::Duration,
};

use infra_core::{
    Result,
    budget::{CallBudget, Priority},
    context::Context,
};
use infra_resilience::{
    Reason, Refused, Shedder, bulkhead,
    bulkhead::PerKey,
    shed::{MemoryGauge, Options, Permit, Rule, Step as Limit, Summary, Windows},
};
use proptest::{prelude::*, sample::Index};

use crate::{
    MILLI, clock,
    model::{cases, paused},
};

/// How long somebody waits, in milliseconds; time passes in hundreds of them.
const WAIT: u64 = 250;

/// Who got a place (`None`), and who was refused one and why.
type Told = BTreeMap<u32, Option<Reason>>;

#[derive(Debug, Clone, Copy)]
struct Waiter {
    id: u32,
    priority: Priority,
    client: usize,
    until: u64,
}

impl Waiter {
    const fn lane(&self) -> (Priority, usize) {
        (self.priority, self.client)
    }
}

/// What a number of places and a line for them should do, written down as plainly as possible.
#[derive(Debug, Default)]
struct Model {
    limit: usize,
    queue: usize,
    running: Vec<u32>,
    /// In the order in which they came.
    line: Vec<Waiter>,
    /// When each client of each priority came, or had its turn: the one longest ago is next.
    turns: BTreeMap<(Priority, usize), u64>,
    ticks: u64,
    told: Told,
    admitted: u64,
    refused: u64,
}

impl Model {
    fn new(limit: usize, queue: usize) -> Self {
        Self { limit, queue, ..Self::default() }
    }

    fn is_idle(&self) -> bool {
        self.running.is_empty() && self.line.is_empty()
    }

    fn ask(&mut self, newcomer: Waiter) {
        if self.line.is_empty() && self.running.len() < self.limit {
            return self.admit(newcomer.id);
        }
        if self.line.len() == self.queue {
            let Some(weaker) = self.weaker_than(&newcomer) else {
                return self.refuse(newcomer.id, Reason::QueueFull);
            };
            self.leave(weaker);
            self.refuse(weaker, Reason::Displaced);
        }
        self.ticks += 1;
        self.turns.entry(newcomer.lane()).or_insert(self.ticks);
        self.line.push(newcomer);
    }

    /// The youngest of who holds most of the lowest priority, if the newcomer has the stronger claim.
    fn weaker_than(&self, newcomer: &Waiter) -> Option<u32> {
        let lowest = self.line.iter().map(|waiter| waiter.priority).min()?;
        let held = |client| self.line.iter().filter(|w| w.lane() == (lowest, client)).count();
        let clients = self.line.iter().filter(|w| w.priority == lowest).map(|w| w.client);
        let most = clients.max_by_key(|client| (held(*client), self.turns[&(lowest, *client)]))?;
        let is_more = held(newcomer.client) + 1 < held(most);
        let is_weaker = lowest < newcomer.priority || lowest == newcomer.priority && is_more;
        let youngest = self.line.iter().rev().find(|waiter| waiter.lane() == (lowest, most))?;
        is_weaker.then_some(youngest.id)
    }

    /// Lets in who is next for as long as there are places.
    fn fill(&mut self) {
        while self.running.len() < self.limit {
            let Some(highest) = self.line.iter().map(|waiter| waiter.priority).max() else {
                return;
            };
            let lane = self.line.iter().filter(|waiter| waiter.priority == highest);
            let next = *lane.min_by_key(|waiter| self.turns[&waiter.lane()]).unwrap();
            self.leave(next.id);
            self.ticks += 1;
            if let Some(turn) = self.turns.get_mut(&next.lane()) {
                *turn = self.ticks;
            }
            self.admit(next.id);
        }
    }

    fn leave(&mut self, id: u32) {
        let at = self.line.iter().position(|waiter| waiter.id == id).unwrap();
        let gone = self.line.remove(at);
        if self.line.iter().all(|waiter| waiter.lane() != gone.lane()) {
            self.turns.remove(&gone.lane());
        }
    }

    fn end(&mut self, id: u32) {
        self.running.retain(|running| *running != id);
        self.fill();
    }

    fn expire(&mut self, now: u64) {
        let late: Vec<u32> =
            self.line.iter().filter(|waiter| waiter.until <= now).map(|waiter| waiter.id).collect();
        for id in late {
            self.leave(id);
            self.refuse(id, Reason::WaitedTooLong);
        }
    }

    fn admit(&mut self, id: u32) {
        self.running.push(id);
        self.admitted += 1;
        self.told.insert(id, None);
    }

    fn refuse(&mut self, id: u32, reason: Reason) {
        self.refused += 1;
        self.told.insert(id, Some(reason));
    }
}

type Asking<P> = Pin<Box<dyn Future<Output = Result<P>>>>;

/// Those who ask, and those who hold a place.
struct Crowd<P> {
    asking: Vec<(u32, Asking<P>)>,
    held: Vec<(u32, P)>,
}

impl<P> Crowd<P> {
    const fn new() -> Self {
        Self { asking: Vec::new(), held: Vec::new() }
    }

    fn ask(
        &mut self,
        id: u32,
        priority: Priority,
        future: impl Future<Output = Result<P>> + 'static,
    ) {
        let budget = CallBudget::default().priority(priority);
        self.asking.push((id, Box::pin(Context::default().budget(budget).scope(future))));
    }

    /// Returns what those who ask were told; twice, since who comes now may take the place of an earlier one.
    fn look(&mut self) -> Told {
        let mut told = self.poll();
        told.append(&mut self.poll());
        told
    }

    fn poll(&mut self) -> Told {
        let (mut told, mut task) = (Told::new(), Task::from_waker(Waker::noop()));
        for (id, mut future) in std::mem::take(&mut self.asking) {
            match future.as_mut().poll(&mut task) {
                Poll::Pending => self.asking.push((id, future)),
                Poll::Ready(Ok(place)) => {
                    self.held.push((id, place));
                    told.insert(id, None);
                }
                Poll::Ready(Err(error)) => {
                    told.insert(id, Some(Refused::of(&error).unwrap().reason()));
                }
            }
        }
        told
    }

    /// Takes somebody out who holds a place.
    fn pick_held(&mut self, which: Index) -> Option<(u32, P)> {
        if self.held.is_empty() {
            None
        } else {
            Some(self.held.swap_remove(which.index(self.held.len())))
        }
    }

    /// Lets somebody go who asks.
    fn drop_asking(&mut self, which: Index) -> Option<u32> {
        if self.asking.is_empty() {
            return None;
        }
        Some(self.asking.remove(which.index(self.asking.len())).0)
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// A client asks at a priority, for a key.
    Ask(usize, usize, usize),
    /// Somebody ends: well, by overload, without a word, or dropped.
    End(Index, usize),
    GiveUp(Index),
    /// So many hundred milliseconds pass.
    Pass(u64),
    /// The rule wants another limit.
    Want(usize),
    /// The memory is fine, above its soft limit, above its hard one.
    Memory(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..3_usize, 0..4_usize, 0..4_usize).prop_map(|(a, b, c)| Step::Ask(a, b, c)),
        5 => (any::<Index>(), 0..4_usize).prop_map(|(which, how)| Step::End(which, how)),
        1 => any::<Index>().prop_map(Step::GiveUp),
        2 => (1..4_u64).prop_map(Step::Pass),
        1 => (1..5_usize).prop_map(Step::Want),
        1 => (0..3_usize).prop_map(Step::Memory),
    ]
}

/// A rule that wants what the test wants.
#[derive(Debug)]
struct Wanted(Arc<AtomicUsize>);

impl Rule for Wanted {
    fn initial(&self) -> usize {
        self.0.load(SeqCst)
    }

    fn update(&mut self, _: &Summary) -> Limit {
        Limit { limit: self.initial(), only_new: false }
    }
}

const MEMORY: [u64; 3] = [0, 150, 200];

/// Why memory refuses a call, if it does.
fn memory_refuses(used: u64, priority: Priority) -> Option<Reason> {
    match used {
        200 => Some(Reason::MemoryHard),
        150 if priority <= Priority::Normal => Some(Reason::MemorySoft),
        _ => None,
    }
}

async fn shed(steps: Vec<Step>) {
    let (wanted, gauge) = (Arc::new(AtomicUsize::new(2)), MemoryGauge::new(100, 200));
    let options = Options::new(Wanted(Arc::clone(&wanted)))
        .windows(Windows { length: Duration::ZERO, samples: 1 })
        .queue(3, MILLI * u32::try_from(WAIT).unwrap())
        .memory(gauge.clone());
    let shedder = Shedder::new(options, clock());
    let (mut model, mut crowd) = (Model::new(2, 3), Crowd::new());
    let (mut now, mut used) = (0, 0);
    for (id, step) in (0..).zip(steps) {
        match step {
            Step::Ask(client, priority, _) => {
                let priority = Priority::ALL[priority];
                let asked = shedder.client(format!("client {client}"));
                crowd.ask(id, priority, async move { asked.enter("ask").await });
                match memory_refuses(used, priority) {
                    Some(reason) => model.refuse(id, reason),
                    None => model.ask(Waiter { id, priority, client, until: now + WAIT }),
                }
            }
            Step::End(which, how) => {
                if let Some((id, permit)) = crowd.pick_held(which) {
                    [Permit::record, Permit::overloaded, Permit::ignore, drop][how](permit);
                    if how < 2 {
                        model.limit = wanted.load(SeqCst);
                    }
                    model.end(id);
                }
            }
            Step::GiveUp(which) => {
                if let Some(id) = crowd.drop_asking(which) {
                    model.leave(id);
                }
            }
            Step::Pass(hundreds) => {
                tokio::time::advance(MILLI * 100 * u32::try_from(hundreds).unwrap()).await;
                now += hundreds * 100;
                model.expire(now);
            }
            Step::Want(limit) => wanted.store(limit, SeqCst),
            Step::Memory(level) => {
                used = MEMORY[level];
                gauge.set(used);
            }
        }
        assert_eq!(crowd.look(), std::mem::take(&mut model.told));
        let stats = shedder.stats();
        assert_eq!((stats.running, stats.waiting), (model.running.len(), model.line.len()));
        assert_eq!((stats.admitted, stats.refused), (model.admitted, model.refused));
        assert_eq!(stats.limit, model.limit);
    }
    drop(crowd);
    assert_eq!((shedder.stats().running, shedder.stats().waiting), (0, 0));
}

const KEYS: usize = 2;

/// Holds the bulkheads that there are against those that are in use by their models.
fn compare(rooms: &PerKey<usize>, models: &BTreeMap<usize, Model>) {
    assert!(rooms.len() <= KEYS, "the bound holds");
    let mut in_use = 0;
    rooms.each(|key, room| {
        let (stats, model) = (room.stats(), models.get(key));
        let modelled = model.map_or((0, 0), |model| (model.running.len(), model.line.len()));
        assert_eq!((stats.running, stats.waiting), modelled, "key {key}");
        in_use += usize::from(modelled != (0, 0));
    });
    let wanted = models.values().filter(|model| !model.is_idle()).count();
    assert_eq!(in_use, wanted, "no key in use is forgotten");
}

async fn per_key(steps: Vec<Step>) {
    let options = bulkhead::Options::new(2).queue(2).wait(MILLI * u32::try_from(WAIT).unwrap());
    let rooms: PerKey<usize> = PerKey::bulkheads(KEYS, options, clock());
    let mut models: BTreeMap<usize, Model> = BTreeMap::new();
    let (mut crowd, mut keys, mut now) = (Crowd::new(), BTreeMap::new(), 0);
    for (id, step) in (0..).zip(steps) {
        let mut told = Told::new();
        match step {
            Step::Ask(_, priority, key) => {
                let priority = Priority::ALL[priority];
                let is_there = models.contains_key(&key);
                if !is_there && models.len() == KEYS {
                    // What is idle may go; which of them does not matter, for none remembers anything.
                    models.retain(|_, model| !model.is_idle());
                }
                let asked = rooms.clone();
                crowd.ask(id, priority, async move { asked.enter(&key, "act").await });
                if !is_there && models.len() == KEYS {
                    told.insert(id, Some(Reason::KeysFull));
                } else {
                    keys.insert(id, key);
                    let waiter = Waiter { id, priority, client: 0, until: now + WAIT };
                    models.entry(key).or_insert_with(|| Model::new(2, 2)).ask(waiter);
                }
            }
            Step::End(which, _) => {
                if let Some((id, seat)) = crowd.pick_held(which) {
                    drop(seat);
                    models.get_mut(&keys[&id]).unwrap().end(id);
                }
            }
            Step::GiveUp(which) => {
                if let Some(id) = crowd.drop_asking(which) {
                    models.get_mut(&keys[&id]).unwrap().leave(id);
                }
            }
            Step::Pass(hundreds) => {
                tokio::time::advance(MILLI * 100 * u32::try_from(hundreds).unwrap()).await;
                now += hundreds * 100;
                for model in models.values_mut() {
                    model.expire(now);
                }
            }
            Step::Want(_) | Step::Memory(_) => {}
        }
        for model in models.values_mut() {
            told.append(&mut model.told);
        }
        assert_eq!(crowd.look(), told);
        compare(&rooms, &models);
    }
    drop(crowd);
    rooms.each(|_, room| assert_eq!((room.stats().running, room.stats().waiting), (0, 0)));
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn a_shedder_does_what_its_model_does(steps in proptest::collection::vec(step(), 1..120)) {
        paused(shed(steps));
    }

    #[test]
    fn bulkheads_per_key_do_what_their_models_do(
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        paused(per_key(steps));
    }
}
