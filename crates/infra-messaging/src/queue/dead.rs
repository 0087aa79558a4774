//! The dead letters of a queue: the oldest go when there are too many.

use std::collections::VecDeque;

use infra_core::{
    clock::Timestamp,
    id::MessageId,
    queue::{Cause, DeadLetter},
};

use super::entry::Number;

/// Keeps dead letters by the number of their death, oldest first.
#[derive(Debug)]
pub(crate) struct DeadLetters {
    letters: VecDeque<(Number, DeadLetter)>,
    capacity: usize,
}

impl DeadLetters {
    pub(crate) const fn new(capacity: usize) -> Self {
        Self { letters: VecDeque::new(), capacity }
    }

    /// Adds a letter and returns the numbers of the oldest, which were dropped for it.
    pub(crate) fn add(&mut self, number: Number, letter: DeadLetter) -> Vec<Number> {
        self.letters.push_back((number, letter));
        let excess = self.letters.len().saturating_sub(self.capacity);
        self.letters.drain(..excess).map(|(number, _)| number).collect()
    }

    pub(crate) fn len(&self) -> u64 {
        self.letters.len() as u64
    }

    /// Returns all letters with their numbers, oldest first.
    #[cfg(feature = "nats")]
    pub(crate) fn all(&self) -> impl Iterator<Item = &(Number, DeadLetter)> {
        self.letters.iter()
    }

    pub(crate) fn oldest(&self, limit: usize) -> Vec<DeadLetter> {
        self.letters.iter().take(limit).map(|(_, letter)| letter.clone()).collect()
    }

    /// Returns the key of a letter.
    pub(crate) fn key_of(&self, number: Number) -> Option<String> {
        let place = self.letters.binary_search_by_key(&number, |(own, _)| *own).ok()?;
        self.letters.get(place)?.1.message.key.clone()
    }

    pub(crate) fn take(&mut self, id: MessageId) -> Option<(Number, DeadLetter)> {
        let place = self.letters.iter().position(|(_, letter)| letter.message.id == id)?;
        self.letters.remove(place)
    }

    /// Removes the letters of before a time, of one cause or of any, and returns their numbers.
    pub(crate) fn purge(&mut self, before: Timestamp, cause: Option<Cause>) -> Vec<Number> {
        let mut gone = Vec::new();
        self.letters.retain(|(number, letter)| {
            let is_meant = cause.is_none_or(|cause| cause == letter.cause);
            let is_kept = before <= letter.died || !is_meant;
            if !is_kept {
                gone.push(*number);
            }
            is_kept
        });
        gone
    }
}
