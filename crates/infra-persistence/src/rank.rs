//! An ordered set that knows the place of each key: a treap whose nodes count what is below them.
//!
//! Seidel and Aragon, "Randomized Search Trees", 1996. Insertion, removal and the count of smaller
//! keys take a time that grows with the logarithm of the size.

/// An ordered set of keys with their places.
#[derive(Debug, Clone)]
pub(crate) struct Ranks<K> {
    root: Tree<K>,
    /// Draws the priorities; their order need not be secret, only free of patterns.
    state: u64,
}

type Tree<K> = Option<Box<Node<K>>>;

#[derive(Debug, Clone)]
struct Node<K> {
    key: K,
    priority: u64,
    size: usize,
    left: Tree<K>,
    right: Tree<K>,
}

fn size<K>(tree: Option<&Node<K>>) -> usize {
    tree.map_or(0, |node| node.size)
}

/// Makes a tree of a node whose branches have changed.
fn counted<K>(node: &mut Node<K>) {
    node.size = 1 + size(node.left.as_deref()) + size(node.right.as_deref());
}

/// Splits a tree into the keys below `key` and the others.
fn split<K: Ord>(tree: Tree<K>, key: &K) -> (Tree<K>, Tree<K>) {
    let Some(mut node) = tree else { return (None, None) };
    if node.key < *key {
        let (low, high) = split(node.right.take(), key);
        node.right = low;
        counted(&mut node);
        return (Some(node), high);
    }
    let (low, high) = split(node.left.take(), key);
    node.left = high;
    counted(&mut node);
    (low, Some(node))
}

/// Joins two trees of which the first has the smaller keys.
fn join<K>(low: Tree<K>, high: Tree<K>) -> Tree<K> {
    match (low, high) {
        (tree, None) | (None, tree) => tree,
        (Some(mut low), Some(mut high)) => {
            if high.priority < low.priority {
                low.right = join(low.right.take(), Some(high));
                counted(&mut low);
                return Some(low);
            }
            high.left = join(Some(low), high.left.take());
            counted(&mut high);
            Some(high)
        }
    }
}

/// Takes a key out of a tree.
fn remove<K: Ord>(tree: Tree<K>, key: &K) -> Tree<K> {
    let mut node = tree?;
    match key.cmp(&node.key) {
        std::cmp::Ordering::Less => node.left = remove(node.left.take(), key),
        std::cmp::Ordering::Greater => node.right = remove(node.right.take(), key),
        std::cmp::Ordering::Equal => return join(node.left, node.right),
    }
    counted(&mut node);
    Some(node)
}

impl<K> Default for Ranks<K> {
    fn default() -> Self {
        Self { root: None, state: 0x9e37_79b9_7f4a_7c15 }
    }
}

impl<K: Ord> Ranks<K> {
    /// Adds a key that is not there.
    pub(crate) fn insert(&mut self, key: K) {
        // SplitMix64 (Steele, Lea, Flood, 2014).
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let priority = mixed ^ (mixed >> 31);
        let (low, high) = split(self.root.take(), &key);
        let node = Box::new(Node { key, priority, size: 1, left: None, right: None });
        self.root = join(join(low, Some(node)), high);
    }

    /// Takes a key away, if it is there.
    pub(crate) fn remove(&mut self, key: &K) {
        self.root = remove(self.root.take(), key);
    }

    /// Counts the keys below `key`.
    pub(crate) fn below<Q: Ord + ?Sized>(&self, key: &Q) -> usize
    where
        K: std::borrow::Borrow<Q>,
    {
        let (mut tree, mut count) = (&self.root, 0);
        while let Some(node) = tree {
            if node.key.borrow() < key {
                count += 1 + size(node.left.as_deref());
                tree = &node.right;
            } else {
                tree = &node.left;
            }
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn places_are_those_of_a_sorted_set(steps in proptest::collection::vec((0..40_u32, any::<bool>()), 0..200)) {
            let (mut ranks, mut model) = (Ranks::default(), BTreeSet::new());
            for (key, is_added) in steps {
                if is_added && model.insert(key) {
                    ranks.insert(key);
                } else if !is_added {
                    ranks.remove(&key);
                    model.remove(&key);
                }
                prop_assert_eq!(size(ranks.root.as_deref()), model.len());
                for asked in [0, key, key + 1, 40] {
                    prop_assert_eq!(ranks.below(&asked), model.range(..asked).count());
                }
            }
        }
    }

    #[test]
    fn a_hundred_thousand_keys_in_order_make_no_deep_tree() {
        fn depth<K>(tree: Option<&Node<K>>) -> usize {
            tree.map_or(0, |node| 1 + depth(node.left.as_deref()).max(depth(node.right.as_deref())))
        }
        let mut ranks = Ranks::default();
        (0..100_000).for_each(|key| ranks.insert(key));
        assert_eq!(ranks.below(&77_777), 77_777);
        assert!(depth(ranks.root.as_deref()) < 100, "{}", depth(ranks.root.as_deref()));
    }
}
