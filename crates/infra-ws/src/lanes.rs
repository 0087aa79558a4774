//! Waiting messages in lanes of priority, served by one scheduler.

use std::collections::VecDeque;

/// How urgent a message is compared with others to the same client.
///
/// Messages of one priority keep their order. A more urgent one overtakes, but whatever waits at
/// the head of its lane is served after at most twenty others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Priority {
    /// What may wait, such as a list of rooms.
    Low,
    /// What has an order among itself, such as the events of a room.
    #[default]
    Normal,
    /// What a person waits for.
    High,
    /// What cannot wait, such as a last word before the end.
    Critical,
}

/// How often a waiting lane may be passed over before it has its turn.
const PATIENCE: u8 = 16;

const LANES: usize = 4;

#[derive(Debug)]
struct Lane<T> {
    waiting: VecDeque<T>,
    /// How many of higher lanes were taken while this one waited.
    passed: u8,
}

/// Lanes of messages; the last is the most urgent.
#[derive(Debug)]
pub(crate) struct Lanes<T> {
    lanes: [Lane<T>; LANES],
    len: usize,
}

impl<T> Lanes<T> {
    pub(crate) fn new() -> Self {
        Self {
            lanes: std::array::from_fn(|_| Lane { waiting: VecDeque::new(), passed: 0 }),
            len: 0,
        }
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn push(&mut self, priority: Priority, item: T) {
        if let Some(lane) = self.lanes.get_mut(priority as usize) {
            lane.waiting.push_back(item);
            self.len += 1;
        }
    }

    /// Takes the next: of the lane that was passed over too often, else of the most urgent.
    pub(crate) fn pop(&mut self) -> Option<T> {
        if self.is_empty() {
            return None;
        }
        let chosen = self.next_lane()?;
        for lane in self.lanes.iter_mut().take(chosen) {
            if !lane.waiting.is_empty() {
                lane.passed = lane.passed.saturating_add(1);
            }
        }
        let lane = self.lanes.get_mut(chosen)?;
        lane.passed = 0;
        let item = lane.waiting.pop_front();
        self.len -= usize::from(item.is_some());
        item
    }

    /// Takes out the first that is a victim: of the least urgent lane, the oldest.
    pub(crate) fn remove_first(&mut self, is_victim: impl Fn(&T) -> bool) -> Option<T> {
        for lane in &mut self.lanes {
            if let Some(place) = lane.waiting.iter().position(&is_victim) {
                let item = lane.waiting.remove(place);
                if lane.waiting.is_empty() {
                    lane.passed = 0;
                }
                self.len -= usize::from(item.is_some());
                return item;
            }
        }
        None
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::new();
    }

    /// Returns the lane in which everything waits, if there is one: mostly there is.
    fn only_lane(&self) -> Option<usize> {
        self.lanes.iter().position(|lane| lane.waiting.len() == self.len)
    }

    fn next_lane(&self) -> Option<usize> {
        if let Some(only) = self.only_lane() {
            return Some(only);
        }
        let waiting = || {
            let lanes = self.lanes.iter().enumerate();
            lanes.filter(|(_, lane)| !lane.waiting.is_empty())
        };
        let starving = waiting().filter(|(_, lane)| PATIENCE <= lane.passed);
        let chosen = starving.max_by_key(|(_, lane)| lane.passed).or_else(|| waiting().next_back());
        chosen.map(|(index, _)| index)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [Priority; LANES] =
        [Priority::Low, Priority::Normal, Priority::High, Priority::Critical];

    #[test]
    fn the_most_urgent_comes_first_whatever_the_order_of_arrival() {
        let mut lanes = Lanes::new();
        for priority in [Priority::Low, Priority::Critical, Priority::Normal, Priority::High] {
            lanes.push(priority, priority);
        }
        let order: Vec<_> = std::iter::from_fn(|| lanes.pop()).collect();
        let mut sorted = ALL;
        sorted.reverse();
        assert_eq!(order, sorted);
    }

    #[test]
    fn a_victim_is_the_oldest_of_the_least_urgent() {
        let mut lanes = Lanes::new();
        for (priority, item) in [(Priority::High, 1), (Priority::Low, 2), (Priority::Low, 3)] {
            lanes.push(priority, item);
        }
        assert_eq!(lanes.remove_first(|item| *item != 2), Some(3));
        assert_eq!(lanes.remove_first(|item| *item != 2), Some(1));
        assert_eq!(lanes.remove_first(|item| *item != 2), None);
        assert_eq!(lanes.len(), 1);
        lanes.clear();
        assert!(lanes.is_empty());
    }

    proptest! {
        #[test]
        fn each_lane_keeps_its_order_and_none_starves(
            steps in proptest::collection::vec((0..LANES + 2, 1..4_usize), 0..400),
        ) {
            let mut lanes = Lanes::new();
            let mut model: [VecDeque<u32>; LANES] = Default::default();
            let mut waited = [0_u8; LANES];
            let mut next = 0;
            for (step, count) in steps {
                for _ in 0..count {
                    if let Some(priority) = ALL.get(step) {
                        next += 1;
                        lanes.push(*priority, (step, next));
                        model[step].push_back(next);
                        continue;
                    }
                    let Some((lane, item)) = lanes.pop() else {
                        prop_assert!(model.iter().all(VecDeque::is_empty));
                        continue;
                    };
                    prop_assert_eq!(model[lane].pop_front(), Some(item));
                    for (other, items) in model.iter().enumerate() {
                        let waits = other != lane && !items.is_empty();
                        waited[other] = if waits { waited[other] + 1 } else { 0 };
                        prop_assert!(waited[other] <= PATIENCE + 4, "{:?}", waited);
                    }
                }
                prop_assert_eq!(lanes.len(), model.iter().map(VecDeque::len).sum::<usize>());
            }
        }
    }
}
