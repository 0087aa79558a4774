//! Events in time: calls arrive, are let in or not, wait, are served, and are given up.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    time::Duration,
};

use infra_core::{Clock as _, clock::Instant, random::Random};
use infra_resilience::{
    RetryBudget,
    shed::{Rule, Sample, Sampler},
};
use infra_testkit::clock::ManualClock;

use crate::scenario::Scenario;

/// How long a client waits before another attempt, in seconds.
const PAUSE: f64 = 0.1;

/// Who is let in.
#[derive(Debug)]
pub enum Limit {
    None,
    Fixed(usize),
    Adaptive { rule: Box<dyn Rule>, sampler: Sampler, limit: usize },
}

/// What clients do when they gave up or were refused.
#[derive(Debug)]
pub struct Retries {
    /// Attempts after the first.
    pub most: u32,
    pub budget: Option<(RetryBudget, ManualClock)>,
}

impl Retries {
    pub const fn none() -> Self {
        Self { most: 0, budget: None }
    }
}

/// A time in nanoseconds, so that events have a total order.
type Time = u64;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrival,
    /// Attempt number `.1` of a call that arrived at `.0`.
    Attempt(Time, u32),
    Served(usize),
    GivenUp(usize),
    /// The end of a standstill.
    Awake,
}

#[derive(Debug)]
struct Call {
    arrived: Time,
    begun: Time,
    attempt: u32,
    in_flight: usize,
    /// Whether its client still waits.
    is_waited_for: bool,
}

/// What a run has shown.
#[derive(Debug)]
pub struct Run {
    pub mean_wait: f64,
    pub busy: f64,
    pub length: f64,
    /// Calls that arrived, and that were answered in time, by the second of their arrival.
    offered: Vec<u64>,
    good: Vec<u64>,
}

impl Run {
    pub fn goodput(&self) -> u64 {
        self.good.iter().sum()
    }

    /// Returns after how many seconds from `end` on 90 % of all calls of five seconds are answered.
    pub fn recovery(&self, end: f64) -> Option<usize> {
        let end = end.ceil() as usize;
        (0..self.offered.len().saturating_sub(end + 5)).find(|second| {
            let span = end + second..end + second + 5;
            let (offered, good): (u64, u64) =
                (self.offered[span.clone()].iter().sum(), self.good[span].iter().sum());
            offered as f64 * 0.9 <= good as f64
        })
    }

    pub fn share_of_the_last(&self, seconds: usize) -> f64 {
        // The very last calls may still be on their way.
        let span = self.offered.len() - seconds - 2..self.offered.len() - 2;
        let (offered, good): (u64, u64) =
            (self.offered[span.clone()].iter().sum(), self.good[span].iter().sum());
        good as f64 / offered as f64
    }
}

pub struct Simulation<'a> {
    scenario: &'a Scenario,
    random: Random,
    now: Time,
    sequence: u64,
    events: BinaryHeap<Reverse<(Time, u64, Event)>>,
    calls: Vec<Call>,
    queue: VecDeque<usize>,
    serving: usize,
    in_flight: usize,
    waits: (f64, u64),
    busy: f64,
    offered: Vec<u64>,
    good: Vec<u64>,
}

impl<'a> Simulation<'a> {
    pub fn new(scenario: &'a Scenario, seed: u64) -> Self {
        let seconds = scenario.phases.last().unwrap().until.ceil() as usize + 1;
        Self {
            scenario,
            random: Random::seeded(seed),
            now: 0,
            sequence: 0,
            events: BinaryHeap::new(),
            calls: Vec::new(),
            queue: VecDeque::new(),
            serving: 0,
            in_flight: 0,
            waits: (0.0, 0),
            busy: 0.0,
            offered: vec![0; seconds],
            good: vec![0; seconds],
        }
    }

    pub fn run(mut self, mut limit: Limit, retries: Retries) -> Run {
        let length = self.scenario.phases.last().unwrap().until;
        for (_, end) in &self.scenario.stalls {
            self.at(nanos(*end), Event::Awake);
        }
        self.next_arrival();
        while let Some(Reverse((time, _, event))) = self.events.pop() {
            if nanos(length) < time {
                break;
            }
            self.now = time;
            if let Some((_, clock)) = &retries.budget {
                let ahead = Duration::from_nanos(time).saturating_sub(clock.now().since_start());
                clock.advance(ahead);
            }
            self.handle(event, &mut limit, &retries);
        }
        let mean_wait = self.waits.0 / self.waits.1.max(1) as f64;
        Run { mean_wait, busy: self.busy, length, offered: self.offered, good: self.good }
    }

    fn handle(&mut self, event: Event, limit: &mut Limit, retries: &Retries) {
        match event {
            Event::Arrival => {
                self.offered[(self.now / SECOND) as usize] += 1;
                if let Some((budget, _)) = &retries.budget {
                    budget.deposit();
                }
                self.attempt(self.now, 0, limit, retries);
                self.next_arrival();
            }
            Event::Attempt(arrived, attempt) => self.attempt(arrived, attempt, limit, retries),
            Event::Served(call) => self.served(call, limit),
            Event::GivenUp(call) => self.given_up(call, limit, retries),
            Event::Awake => self.serve(),
        }
    }

    fn attempt(&mut self, arrived: Time, attempt: u32, limit: &Limit, retries: &Retries) {
        let most = match limit {
            Limit::None => usize::MAX,
            Limit::Fixed(limit) | Limit::Adaptive { limit, .. } => *limit,
        };
        if most <= self.in_flight {
            self.retry(arrived, attempt, retries);
            return;
        }
        self.in_flight += 1;
        let call = self.calls.len();
        let in_flight = self.in_flight;
        self.calls.push(Call { arrived, begun: self.now, attempt, in_flight, is_waited_for: true });
        if self.scenario.deadline.is_finite() {
            self.at(self.now + nanos(self.scenario.deadline), Event::GivenUp(call));
        }
        self.queue.push_back(call);
        self.serve();
    }

    /// Begins to serve who waits in the backend, also those whose clients are gone: it cannot know.
    fn serve(&mut self) {
        let now = self.now as f64 / SECOND as f64;
        if self.scenario.stalls.iter().any(|(from, to)| *from <= now && now < *to) {
            return;
        }
        while self.serving < self.scenario.servers
            && let Some(call) = self.queue.pop_front()
        {
            self.serving += 1;
            self.waits.0 += (self.now - self.calls[call].begun) as f64 / SECOND as f64;
            self.waits.1 += 1;
            let service = self.exponential(self.scenario.service * self.phase().slowness);
            self.busy += service;
            self.at(self.now + nanos(service), Event::Served(call));
        }
    }

    fn served(&mut self, call: usize, limit: &mut Limit) {
        self.serving -= 1;
        let ended = &mut self.calls[call];
        let is_in_time = std::mem::take(&mut ended.is_waited_for);
        if is_in_time {
            let second = (ended.arrived / SECOND) as usize;
            self.good[second] += 1;
            self.leave(call, false, limit);
        }
        self.serve();
    }

    fn given_up(&mut self, call: usize, limit: &mut Limit, retries: &Retries) {
        if std::mem::take(&mut self.calls[call].is_waited_for) {
            self.leave(call, true, limit);
            let (arrived, attempt) = (self.calls[call].arrived, self.calls[call].attempt);
            self.retry(arrived, attempt, retries);
        }
    }

    fn retry(&mut self, arrived: Time, attempt: u32, retries: &Retries) {
        let may = retries.budget.as_ref().is_none_or(|(budget, _)| budget.withdraw());
        if attempt < retries.most && may {
            self.at(self.now + nanos(PAUSE), Event::Attempt(arrived, attempt + 1));
        }
    }

    fn leave(&mut self, call: usize, is_overload: bool, limit: &mut Limit) {
        self.in_flight -= 1;
        let Limit::Adaptive { rule, sampler, limit } = limit else { return };
        let at = |time| Instant::from_start(Duration::from_nanos(time));
        let (begun, ended) = (at(self.calls[call].begun), at(self.now));
        let in_flight = self.calls[call].in_flight;
        if let Some(seen) = sampler.add(Sample { begun, ended, in_flight, is_overload }) {
            let step = rule.update(&seen);
            *limit = step.limit;
            if step.only_new {
                sampler.only_since(ended);
            }
        }
    }

    fn next_arrival(&mut self) {
        let gap = self.exponential(1.0 / self.phase().rate);
        self.at(self.now + nanos(gap), Event::Arrival);
    }

    fn phase(&self) -> crate::scenario::Phase {
        let now = self.now as f64 / SECOND as f64;
        let phases = &self.scenario.phases;
        *phases.iter().find(|phase| now < phase.until).unwrap_or(phases.last().unwrap())
    }

    fn exponential(&self, mean: f64) -> f64 {
        -mean * (1.0 - self.random.unit()).ln()
    }

    fn at(&mut self, time: Time, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((time, self.sequence, event)));
    }
}

const SECOND: Time = 1_000_000_000;

fn nanos(seconds: f64) -> Time {
    (seconds * SECOND as f64) as Time
}
