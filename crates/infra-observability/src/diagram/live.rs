//! A state machine with live figures.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use infra_core::{Error, Result};
use parking_lot::Mutex;
use serde::Serialize;

use super::Machine;

/// The weight of the newest value in an average that forgets.
const NEWEST: f64 = 0.1;

/// A state.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Node {
    /// Its name.
    pub id: &'static str,
    /// How many are in it now.
    pub active: u64,
    /// How many came in.
    pub entered: u64,
    /// How many went out.
    pub left: u64,
    /// The average time in it in seconds: 0.9 of the old average and 0.1 of the newest value.
    pub average_seconds: Option<f64>,
}

/// A way between two states.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Edge {
    /// From where.
    pub from: &'static str,
    /// To where.
    pub to: &'static str,
    /// How often it was gone.
    pub succeeded: u64,
    /// How often it failed.
    pub failed: u64,
    /// The share that failed, between 0 and 1: the heat of the way.
    pub error_rate: f64,
    /// The average time it took in milliseconds, weighted like that of a state.
    pub average_ms: Option<f64>,
}

/// A state machine and its figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct View {
    /// What this is: `state_diagram`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The machine's name.
    pub name: &'static str,
    /// Its states, in the order of the declaration.
    pub nodes: Vec<Node>,
    /// Its ways, in the order of the declaration.
    pub edges: Vec<Edge>,
}

#[derive(Debug)]
struct Counts {
    nodes: BTreeMap<&'static str, Node>,
    edges: BTreeMap<(&'static str, &'static str), Edge>,
}

/// A declared state machine and where its instances are. Cheap to clone.
///
/// It knows the declared states and ways only, so its memory is fixed, whatever is counted.
#[derive(Debug, Clone)]
pub struct LiveDiagram {
    machine: Machine,
    counts: Arc<Mutex<Counts>>,
}

impl LiveDiagram {
    /// Creates the diagram of a machine without instances.
    pub fn new(machine: Machine) -> Self {
        let node = |id: &&'static str| (*id, Node { id, ..Node::default() });
        let edge = |(from, to): &(&'static str, &'static str)| {
            ((*from, *to), Edge { from, to, ..Edge::default() })
        };
        let nodes = machine.states.iter().map(node).collect();
        let edges = machine.ways.iter().map(edge).collect();
        Self { machine, counts: Arc::new(Mutex::new(Counts { nodes, edges })) }
    }

    /// Counts an instance that begins in a state.
    ///
    /// # Errors
    ///
    /// [`Invalid`](infra_core::ErrorKind::Invalid) if the machine has no such state.
    pub fn enter(&self, state: &str) -> Result<()> {
        let mut counts = self.counts.lock();
        let node = counts.nodes.get_mut(state).ok_or_else(|| unknown("enter state"))?;
        node.active += 1;
        node.entered += 1;
        Ok(())
    }

    /// Counts an instance that ends in a state after a time there; the count of the active never
    /// falls below zero.
    ///
    /// # Errors
    ///
    /// [`Invalid`](infra_core::ErrorKind::Invalid) if the machine has no such state.
    pub fn leave(&self, state: &str, stayed: Duration) -> Result<()> {
        let mut counts = self.counts.lock();
        let node = counts.nodes.get_mut(state).ok_or_else(|| unknown("leave state"))?;
        node.active = node.active.saturating_sub(1);
        node.left += 1;
        node.average_seconds = Some(averaged(node.average_seconds, stayed.as_secs_f64()));
        Ok(())
    }

    /// Tells how long an instance was in a state that it has left by a way.
    ///
    /// # Errors
    ///
    /// [`Invalid`](infra_core::ErrorKind::Invalid) if the machine has no such state.
    pub fn stayed(&self, state: &str, stayed: Duration) -> Result<()> {
        let mut counts = self.counts.lock();
        let node = counts.nodes.get_mut(state).ok_or_else(|| unknown("stay in state"))?;
        node.average_seconds = Some(averaged(node.average_seconds, stayed.as_secs_f64()));
        Ok(())
    }

    /// Counts a way that was tried; who succeeds changes its state.
    ///
    /// # Errors
    ///
    /// [`Invalid`](infra_core::ErrorKind::Invalid) if the machine has no such way.
    pub fn pass(&self, from: &str, to: &str, took: Duration, has_succeeded: bool) -> Result<()> {
        let mut counts = self.counts.lock();
        let edge = counts.edges.values_mut().find(|edge| edge.from == from && edge.to == to);
        let edge = edge.ok_or_else(|| unknown("pass between states"))?;
        if has_succeeded {
            edge.succeeded += 1;
        } else {
            edge.failed += 1;
        }
        #[expect(clippy::cast_precision_loss, reason = "a share")]
        let share = edge.failed as f64 / (edge.failed + edge.succeeded) as f64;
        edge.error_rate = share;
        edge.average_ms = Some(averaged(edge.average_ms, took.as_secs_f64() * 1_000.0));
        if !has_succeeded {
            return Ok(());
        }
        if let Some(node) = counts.nodes.get_mut(from) {
            node.active = node.active.saturating_sub(1);
            node.left += 1;
        }
        if let Some(node) = counts.nodes.get_mut(to) {
            node.active += 1;
            node.entered += 1;
        }
        Ok(())
    }

    /// Returns the machine.
    pub const fn machine(&self) -> Machine {
        self.machine
    }

    /// Returns the machine with its figures of now.
    pub fn view(&self) -> View {
        let counts = self.counts.lock();
        let nodes = self.machine.states.iter().filter_map(|state| counts.nodes.get(state));
        let edges = self.machine.ways.iter().filter_map(|way| counts.edges.get(way));
        View {
            kind: "state_diagram",
            name: self.machine.name,
            nodes: nodes.cloned().collect(),
            edges: edges.cloned().collect(),
        }
    }
}

fn averaged(old: Option<f64>, newest: f64) -> f64 {
    old.map_or(newest, |old| old * (1.0 - NEWEST) + newest * NEWEST)
}

fn unknown(operation: &'static str) -> Error {
    Error::invalid(operation, "the machine does not have it")
}
