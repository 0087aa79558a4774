//! Subscriptions by topic filter, on a trie: matching costs by the topic, not by their number.

use std::collections::HashMap;

use infra_core::Result;

use super::topic::{Dialect, Part};

/// Values under topic filters.
///
/// ```
/// use infra_messaging::route::{Dialect, Trie};
///
/// let mut trie = Trie::new(Dialect::Nats);
/// trie.insert("game.*", "games")?;
/// trie.insert("player.*.joined", "joined")?;
/// trie.insert(">", "all")?;
/// assert_eq!(trie.matches("game.started")?, [&"games", &"all"]);
/// assert_eq!(trie.matches("player.123.joined")?, [&"joined", &"all"]);
/// # Ok::<(), infra_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Trie<T> {
    dialect: Dialect,
    root: Node<T>,
    len: usize,
}

#[derive(Debug, Clone)]
struct Node<T> {
    words: HashMap<String, Self>,
    one: Option<Box<Self>>,
    /// Values whose filter ends here, each with its place in the order of insertion.
    ends: Vec<(usize, T)>,
    /// Those whose filter goes on with the rest, of at least so many tokens.
    rests: Vec<(usize, usize, T)>,
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self { words: HashMap::new(), one: None, ends: Vec::new(), rests: Vec::new() }
    }
}

impl<T> Trie<T> {
    /// Creates an empty trie.
    pub fn new(dialect: Dialect) -> Self {
        Self { dialect, root: Node::default(), len: 0 }
    }

    /// Adds a value under a filter.
    ///
    /// # Errors
    ///
    /// [`Invalid`](infra_core::ErrorKind::Invalid) if the filter is none of the dialect.
    pub fn insert(&mut self, filter: &str, value: T) -> Result<()> {
        let place = self.len;
        let mut node = &mut self.root;
        for part in self.dialect.parts(filter)? {
            node = match part {
                Part::Word(word) => node.words.entry(word).or_default(),
                Part::One => node.one.get_or_insert_default(),
                Part::Rest { least } => {
                    node.rests.push((place, least, value));
                    self.len += 1;
                    return Ok(());
                }
            };
        }
        node.ends.push((place, value));
        self.len += 1;
        Ok(())
    }

    /// Removes the values under a filter that `is_meant`, and returns how many went.
    ///
    /// # Errors
    ///
    /// As for [`Trie::insert`].
    pub fn remove(&mut self, filter: &str, is_meant: impl Fn(&T) -> bool) -> Result<usize> {
        let parts = self.dialect.parts(filter)?;
        let gone = self.root.remove(&parts, &is_meant);
        Ok(gone)
    }

    /// Returns the values whose filters admit a topic, in the order of insertion.
    ///
    /// # Errors
    ///
    /// [`Invalid`](infra_core::ErrorKind::Invalid) if it is no topic of the dialect.
    pub fn matches(&self, topic: &str) -> Result<Vec<&T>> {
        let tokens = self.dialect.divide(topic)?;
        let mut found = Vec::new();
        if self.dialect.is_hidden(&tokens) {
            let first = tokens.first().and_then(|first| self.root.words.get(*first));
            if let Some(node) = first {
                node.collect(tokens.get(1..).unwrap_or_default(), &mut found);
            }
        } else {
            self.root.collect(&tokens, &mut found);
        }
        found.sort_unstable_by_key(|(place, _)| *place);
        Ok(found.into_iter().map(|(_, value)| value).collect())
    }
}

impl<T> Node<T> {
    fn collect<'a>(&'a self, tokens: &[&str], found: &mut Vec<(usize, &'a T)>) {
        let rests = self.rests.iter().filter(|(_, least, _)| *least <= tokens.len());
        found.extend(rests.map(|(place, _, value)| (*place, value)));
        let Some((first, rest)) = tokens.split_first() else {
            found.extend(self.ends.iter().map(|(place, value)| (*place, value)));
            return;
        };
        if let Some(node) = self.words.get(*first) {
            node.collect(rest, found);
        }
        if let Some(node) = &self.one {
            node.collect(rest, found);
        }
    }

    fn remove(&mut self, parts: &[Part], is_meant: &impl Fn(&T) -> bool) -> usize {
        let Some((first, rest)) = parts.split_first() else {
            let count = self.ends.len();
            self.ends.retain(|(_, value)| !is_meant(value));
            return count - self.ends.len();
        };
        match first {
            Part::Rest { .. } => {
                let count = self.rests.len();
                self.rests.retain(|(_, _, value)| !is_meant(value));
                count - self.rests.len()
            }
            Part::One => {
                let gone = self.one.as_mut().map_or(0, |node| node.remove(rest, is_meant));
                self.one.take_if(|node| node.is_empty());
                gone
            }
            Part::Word(word) => {
                let Some(node) = self.words.get_mut(word) else { return 0 };
                let gone = node.remove(rest, is_meant);
                if node.is_empty() {
                    self.words.remove(word);
                }
                gone
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.words.is_empty() && self.one.is_none() && self.ends.is_empty() && self.rests.is_empty()
    }
}
