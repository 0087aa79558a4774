//! Which task may run next: pure.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap},
};

use infra_core::{Error, Result};

/// A task's place in the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) name: String,
    pub(super) priority: i32,
    pub(super) after: Vec<String>,
}

/// A graph without circles, each of whose names is known.
#[derive(Debug, Clone)]
pub(super) struct Graph {
    priorities: Vec<i32>,
    /// How many tasks each one waits for, and which ones wait for it.
    waits: Vec<usize>,
    dependents: Vec<Vec<usize>>,
}

impl Graph {
    pub(super) fn new(nodes: &[Node]) -> Result<Self> {
        let mut numbers = HashMap::new();
        for (number, node) in nodes.iter().enumerate() {
            if numbers.insert(node.name.as_str(), number).is_some() {
                return Err(refused(format!("two tasks `{}`", node.name)));
            }
        }
        let mut graph = Self {
            priorities: nodes.iter().map(|node| node.priority).collect(),
            waits: vec![0; nodes.len()],
            dependents: vec![Vec::new(); nodes.len()],
        };
        for (number, node) in nodes.iter().enumerate() {
            for name in node.after.iter().collect::<BTreeSet<_>>() {
                let before = numbers.get(name.as_str()).ok_or_else(|| {
                    refused(format!("`{}` is after `{name}`, which is no task", node.name))
                })?;
                graph.waits.iter_mut().skip(number).take(1).for_each(|waits| *waits += 1);
                graph.dependents.iter_mut().skip(*before).take(1).for_each(|of| of.push(number));
            }
        }
        graph.check_circles(nodes)?;
        Ok(graph)
    }

    /// Runs through the graph; what is never ready stands on a circle, or behind one.
    fn check_circles(&self, nodes: &[Node]) -> Result<()> {
        let mut turn = self.begin();
        let mut reached = BTreeSet::new();
        while let Some(number) = turn.next() {
            reached.insert(number);
            turn.finish(self, number, true);
        }
        let never = nodes.iter().enumerate().filter(|(number, _)| !reached.contains(number));
        let names: Vec<&str> = never.map(|(_, node)| node.name.as_str()).collect();
        if names.is_empty() {
            return Ok(());
        }
        Err(refused(format!("tasks that wait for each other: {}", names.join(", "))))
    }

    pub(super) fn begin(&self) -> Turn {
        let mut turn =
            Turn { waits: self.waits.iter().copied().map(Some).collect(), ready: BTreeSet::new() };
        for (number, waits) in self.waits.iter().enumerate() {
            if *waits == 0 {
                turn.ready.insert(self.rank(number));
            }
        }
        turn
    }

    /// Returns a task's place among those that are ready: the highest priority first, then in their order.
    fn rank(&self, number: usize) -> (Reverse<i32>, usize) {
        (Reverse(self.priorities.get(number).copied().unwrap_or_default()), number)
    }

    fn dependents(&self, number: usize) -> &[usize] {
        self.dependents.get(number).map(Vec::as_slice).unwrap_or_default()
    }
}

fn refused(detail: String) -> Error {
    Error::invalid("take tasks of warming", detail)
}

/// One run through the graph.
#[derive(Debug, Clone)]
pub(super) struct Turn {
    /// How many tasks each one still waits for; `None` if one of them failed.
    waits: Vec<Option<usize>>,
    ready: BTreeSet<(Reverse<i32>, usize)>,
}

impl Turn {
    /// Takes the task that is to run next, if one is ready.
    pub(super) fn next(&mut self) -> Option<usize> {
        self.ready.pop_first().map(|(_, number)| number)
    }

    /// Notes that a task came to its end; if it failed, returns those that cannot run because of it.
    pub(super) fn finish(&mut self, graph: &Graph, number: usize, is_done: bool) -> Vec<usize> {
        if is_done {
            for dependent in graph.dependents(number) {
                // One that was skipped waits no more.
                let Some(Some(waits)) = self.waits.get_mut(*dependent) else { continue };
                *waits -= 1;
                if *waits == 0 {
                    self.ready.insert(graph.rank(*dependent));
                }
            }
            return Vec::new();
        }
        let (mut skipped, mut failed) = (Vec::new(), vec![number]);
        while let Some(number) = failed.pop() {
            for dependent in graph.dependents(number) {
                let was_waiting = self.waits.get_mut(*dependent).and_then(Option::take);
                if was_waiting.is_some() {
                    skipped.push(*dependent);
                    failed.push(*dependent);
                }
            }
        }
        skipped
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn node(name: usize, priority: i32, after: impl IntoIterator<Item = usize>) -> Node {
        let after = after.into_iter().map(|it| it.to_string()).collect();
        Node { name: name.to_string(), priority, after }
    }

    prop_compose! {
        /// Tasks that are after others with lower numbers, in a shuffled order, so there is no circle.
        fn tasks()(count in 1..12_usize)(
            priorities in proptest::collection::vec(-2..3, count),
            after in proptest::collection::vec(proptest::collection::vec(any::<usize>(), 0..4), count),
            order in Just((0..count).collect::<Vec<_>>()).prop_shuffle(),
        ) -> Vec<Node> {
            let of = |number: usize| {
                let after = after[number].iter().filter(|_| 0 < number).map(|it| it % number);
                node(number, priorities[number], after)
            };
            order.into_iter().map(of).collect()
        }
    }

    /// The definition: of all whose dependencies are done, the highest priority, then the first.
    fn naive(nodes: &[Node]) -> Vec<usize> {
        let mut done: Vec<usize> = Vec::new();
        while done.len() < nodes.len() {
            let is_done = |name: &String| done.iter().any(|it| nodes[*it].name == *name);
            let ready = (0..nodes.len())
                .filter(|it| !done.contains(it) && nodes[*it].after.iter().all(is_done));
            let best = ready.min_by_key(|it| (Reverse(nodes[*it].priority), *it)).unwrap();
            done.push(best);
        }
        done
    }

    proptest! {
        #[test]
        fn tasks_run_after_what_they_need_and_of_those_ready_the_highest_priority_first(nodes in tasks()) {
            let graph = Graph::new(&nodes).unwrap();
            let (mut turn, mut order) = (graph.begin(), Vec::new());
            while let Some(number) = turn.next() {
                prop_assert!(turn.finish(&graph, number, true).is_empty());
                order.push(number);
            }
            prop_assert_eq!(order, naive(&nodes));
        }

        #[test]
        fn a_failure_skips_exactly_what_stands_on_it_and_nothing_twice(
            nodes in tasks(), failing: u32,
        ) {
            let graph = Graph::new(&nodes).unwrap();
            let fails = |number: usize| failing >> number & 1 == 1;
            let (mut turn, mut ran, mut skipped) = (graph.begin(), Vec::new(), Vec::new());
            while let Some(number) = turn.next() {
                skipped.extend(turn.finish(&graph, number, !fails(number)));
                ran.push(number);
            }
            let mut all: Vec<_> = ran.iter().chain(&skipped).copied().collect();
            all.sort_unstable();
            prop_assert_eq!(&all, &(0..nodes.len()).collect::<Vec<_>>());
            let by_name = |name: &String| nodes.iter().position(|it| it.name == *name).unwrap();
            for (number, node) in nodes.iter().enumerate() {
                let broken = node.after.iter().map(by_name)
                    .any(|it| skipped.contains(&it) || fails(it));
                prop_assert_eq!(skipped.contains(&number), broken);
            }
        }

        #[test]
        fn a_circle_anywhere_is_refused(nodes in tasks(), at in any::<usize>()) {
            let mut nodes = nodes;
            let last = at % nodes.len();
            let name = nodes[last].name.clone();
            // Everything that it stands on, itself at the least, now stands on it.
            let first = nodes[last].after.first().cloned().unwrap_or_else(|| name.clone());
            let first = nodes.iter().position(|it| it.name == first).unwrap();
            nodes[first].after.push(name.clone());
            let error = Graph::new(&nodes).unwrap_err().to_string();
            prop_assert!(error.contains("wait for each other") && error.contains(&name), "{}", error);
        }
    }

    #[test]
    fn unknown_and_repeated_names_are_refused() {
        let error = Graph::new(&[node(1, 0, [2])]).unwrap_err().to_string();
        assert!(error.contains("`1` is after `2`"), "{error}");
        assert!(Graph::new(&[node(1, 0, []), node(1, 0, [])]).is_err());
        assert!(Graph::new(&[]).unwrap().begin().next().is_none());
    }
}
