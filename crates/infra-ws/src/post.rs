//! A message on its way into queues: made once, shared by all that it waits in.

use std::sync::Arc;

use crate::{
    budget::Advance,
    frame::{Class, Frame},
    ledger::Account,
};

/// How many different messages a fan-out remembers, such as one for each codec and view.
const KNOWN: usize = 4;

/// A message, what becomes of it where a queue is full, and the room that sent it, if one did.
#[derive(Debug)]
pub(crate) struct Post {
    pub(crate) frame: Frame,
    pub(crate) class: Class,
    pub(crate) account: Option<Arc<Account>>,
}

impl Post {
    pub(crate) fn new(frame: Frame, class: Class, account: Option<&Arc<Account>>) -> Arc<Self> {
        Arc::new(Self { frame, class, account: account.map(Arc::clone) })
    }
}

/// One message to many clients: what they have in common is made and counted once for many of them.
#[derive(Debug)]
pub(crate) struct Fanout<'a> {
    pub(crate) advance: Advance,
    class: Class,
    account: Option<&'a Arc<Account>>,
    known: Vec<Arc<Post>>,
}

impl<'a> Fanout<'a> {
    pub(crate) fn new(class: Class, account: Option<&'a Arc<Account>>) -> Self {
        Self { advance: Advance::for_many(), class, account, known: Vec::new() }
    }

    /// Returns the message of a frame; the same one for the same bytes.
    pub(crate) fn post(&mut self, frame: Frame) -> Arc<Post> {
        if let Some(known) = self.known.iter().find(|known| known.frame.shares(&frame)) {
            return Arc::clone(known);
        }
        let post = Post::new(frame, self.class, self.account);
        if self.known.len() < KNOWN {
            self.known.push(Arc::clone(&post));
        }
        post
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_frame_is_one_message_and_another_is_not() {
        let mut fanout = Fanout::new(Class::Durable, None);
        let frame = Frame::text("a".to_owned());
        let first = fanout.post(frame.clone());
        assert!(Arc::ptr_eq(&first, &fanout.post(frame)));
        assert!(!Arc::ptr_eq(&first, &fanout.post(Frame::text("a".to_owned()))));
        for n in 0..10 {
            assert_eq!(fanout.post(Frame::text(n.to_string())).frame, Frame::text(n.to_string()));
        }
        assert_eq!(fanout.known.len(), KNOWN);
    }
}
