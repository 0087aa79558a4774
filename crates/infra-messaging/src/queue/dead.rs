//! The dead letters of a queue: the oldest go when there are too many.

use std::collections::VecDeque;

use infra_core::{clock::Timestamp, id::MessageId, queue::DeadLetter};

/// Keeps dead letters, oldest first.
#[derive(Debug)]
pub(crate) struct DeadLetters {
    letters: VecDeque<DeadLetter>,
    capacity: usize,
}

impl DeadLetters {
    pub(crate) const fn new(capacity: usize) -> Self {
        Self { letters: VecDeque::new(), capacity }
    }

    /// Adds a letter and returns how many of the oldest were dropped for it.
    pub(crate) fn add(&mut self, letter: DeadLetter) -> u64 {
        self.letters.push_back(letter);
        let excess = self.letters.len().saturating_sub(self.capacity);
        self.letters.drain(..excess);
        excess as u64
    }

    pub(crate) fn len(&self) -> u64 {
        self.letters.len() as u64
    }

    pub(crate) fn oldest(&self, limit: usize) -> Vec<DeadLetter> {
        self.letters.iter().take(limit).cloned().collect()
    }

    pub(crate) fn take(&mut self, id: MessageId) -> Option<DeadLetter> {
        let place = self.letters.iter().position(|letter| letter.message.id == id)?;
        self.letters.remove(place)
    }

    /// Removes the letters of before a time and returns how many went.
    pub(crate) fn purge(&mut self, before: Timestamp) -> u64 {
        let count = self.letters.len();
        self.letters.retain(|letter| before <= letter.died);
        (count - self.letters.len()) as u64
    }
}
