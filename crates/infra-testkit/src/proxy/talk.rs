//! Who speaks on a connection: how often its client asked.

use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};

/// One connection's conversation.
#[derive(Debug)]
pub(super) struct Talk<'a> {
    is_asked: AtomicBool,
    questions: &'a AtomicU64,
}

impl<'a> Talk<'a> {
    /// Begins a conversation, whose questions are counted with those of others.
    pub(super) fn new(questions: &'a AtomicU64) -> Self {
        Self { is_asked: AtomicBool::new(false), questions }
    }

    /// Takes into account that the client has spoken: until it is answered, that is one question.
    pub(super) fn asks(&self) {
        if !self.is_asked.swap(true, SeqCst) {
            // Nothing hangs on the count but who reads it afterwards.
            self.questions.fetch_add(1, Relaxed);
        }
    }

    /// Takes into account that the server has spoken.
    pub(super) fn answers(&self) {
        self.is_asked.store(false, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_in_pieces_is_one_question_and_the_server_may_speak_unasked() {
        let questions = AtomicU64::new(0);
        let check = |said: &str, expected| {
            let talk = Talk::new(&questions);
            for who in said.chars() {
                if who == '?' { talk.asks() } else { talk.answers() }
            }
            assert_eq!(questions.swap(0, SeqCst), expected, "{said}");
        };
        check("", 0);
        check("?", 1);
        check("???!!!", 1);
        check("?!?!", 2);
        check("!!??!?", 2);
    }
}
