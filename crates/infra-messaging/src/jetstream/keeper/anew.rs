//! Takes up the log anew, from an image where the log does not bring what comes next.

use infra_core::{Error, ErrorKind, Result};
use tokio::time::sleep;

use super::{Keeper, PAUSE, fires};
use crate::{
    jetstream::{picture, replica::Replica, server::Link, tail::Tail},
    queue::Options,
};

/// Reads the newest image, however often that takes. It must hold the entry `missing`, unless the
/// log has that one still.
async fn load(link: Link, options: Options, missing: Option<u64>) -> Result<Replica> {
    // An entry is cut away after the image that holds it was written, so it is looked first.
    let gone = match missing {
        Some(missing) if link.is_gone(missing).await => Some(missing),
        Some(_) | None => None,
    };
    loop {
        match picture::load(&link, options).await {
            Err(error) if error.is_transient() => sleep(PAUSE).await,
            loaded => {
                let replica = loaded?.unwrap_or_else(|| Replica::new(options));
                return holding(gone, replica);
            }
        }
    }
}

/// Refuses a replica that lacks an entry which the log does not have any more.
fn holding(gone: Option<u64>, replica: Replica) -> Result<Replica> {
    match gone {
        Some(gone) if replica.applied < gone => {
            let detail = format!("sequence {gone} is in neither the log nor an image");
            Err(Error::new(ErrorKind::Corrupt, "read log of queue").detail(detail))
        }
        Some(_) | None => Ok(replica),
    }
}

impl Keeper {
    pub(super) fn read_anew(&mut self) {
        self.tail = Tail::after(&self.link, self.replica.applied);
    }

    /// Takes up the newest image, instead of the entry `missing` if the log does not bring that, and
    /// the log from there on. As long as it cannot be read, whoever asks is told so as in any other
    /// outage; nothing is read if nobody holds the queue any more.
    pub(super) async fn load_anew(&mut self, missing: Option<u64>) -> Result<()> {
        let mut loading = Box::pin(load(self.link.clone(), self.options, missing));
        while self.is_open || !self.outbox.is_empty() {
            self.begin_outage();
            tokio::select! {
                loaded = &mut loading => {
                    self.replica = loaded?;
                    self.outage = None;
                    self.read_anew();
                    break;
                }
                request = self.requests.recv(), if self.is_open => self.take_in(request),
                () = fires(self.outage.as_mut().map(Pin::as_mut)) => {
                    self.end_outage("no image of the queue can be read");
                    self.give_up();
                }
            }
            self.forget_the_gone();
        }
        // What was on its way may be in the image, where nobody sees what became of it.
        self.give_up();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{error::Error as _, num::NonZeroU64, sync::Arc};

    use bytes::Bytes;
    use infra_core::{SystemClock, id::QueueName, queue::Queue as _};
    use infra_testkit::server::{Kind, Server};
    use tokio::sync::{mpsc, oneshot};

    use super::*;
    use crate::jetstream::{
        Hand, JetStream, JetStreamQueue,
        entry::Command,
        request::{Look, Request, Wish},
    };

    fn queue_name(name: &str) -> QueueName {
        QueueName::new(name).unwrap()
    }

    #[tokio::test]
    async fn an_entry_that_somebody_removed_from_the_log_is_named_instead_of_looked_for_for_ever() {
        let server = Server::start(Kind::Nats).await.unwrap();
        let (at, options) = (JetStream::at(server.url()), Options::new(9));
        let open = || {
            let (at, clock) = (at.clone(), SystemClock::shared());
            JetStreamQueue::connect(at, queue_name("work"), options, clock)
        };
        let queue = open().await.unwrap();
        queue.set_paused(true).await.unwrap();
        queue.set_paused(false).await.unwrap();
        let link = Link::open(&at, &queue_name("work"), &options).await.unwrap();
        let (last, _) = link.last(&link.stream, link.log()).await.unwrap().unwrap();
        let stream = link.context.get_stream_no_info(&link.stream).await.unwrap();
        assert!(!link.is_gone(last - 1).await);
        stream.delete_message(last - 1).await.unwrap();
        assert!(link.is_gone(last - 1).await);
        let refused = open().await.unwrap_err();
        assert_eq!(*refused.kind(), ErrorKind::Poisoned);
        let cause = refused.source().unwrap().to_string();
        assert!(cause.contains(&format!("sequence {} is in neither", last - 1)), "{cause}");
        queue.set_paused(true).await.unwrap();
    }

    #[tokio::test]
    async fn an_image_that_has_lost_a_part_is_named_instead_of_asked_for_for_ever() {
        let server = Server::start(Kind::Nats).await.unwrap();
        let at = JetStream::at(server.url()).cut_log_every(NonZeroU64::new(50).unwrap());
        let options = Options::new(9);
        let open = || {
            let (at, clock) = (at.clone(), SystemClock::shared());
            JetStreamQueue::connect(at, queue_name("work"), options, clock)
        };
        let queue = open().await.unwrap();
        let link = Link::open(&at, &queue_name("work"), &options).await.unwrap();
        while picture::load(&link, options).await.unwrap().is_none() {
            queue.set_paused(true).await.unwrap();
        }
        drop(queue);
        // The first image of a queue has all its parts.
        open().await.unwrap();
        let images = link.context.get_stream_no_info(&link.images).await.unwrap();
        images.purge().filter(format!("{}.image.>", link.prefix)).await.unwrap();
        let refused = open().await.unwrap_err();
        assert_eq!(*refused.kind(), ErrorKind::Corrupt);
        assert!(refused.to_string().contains("part 0"), "{refused}");
    }

    #[tokio::test]
    async fn who_asks_while_no_image_can_be_read_is_told_and_a_dropped_queue_ends_the_keeper() {
        let mut server = Server::start(Kind::Nats).await.unwrap();
        let (at, options) = (JetStream::at(server.url()), Options::new(9));
        let link = Link::open(&at, &queue_name("work"), &options).await.unwrap();
        let (requests, receiver) = mpsc::unbounded_channel();
        let hand = Hand { requests, failed: Arc::default() };
        let clock = SystemClock::shared();
        let mut keeper = Keeper::open(link, options, clock, &hand, receiver).await.unwrap();
        server.kill().unwrap();
        let (answer, taken) = oneshot::channel();
        keeper.takers.push_back(Request { wish: Wish::Take(Bytes::new()), answer });
        let loading = tokio::spawn(async move {
            keeper.load_anew(None).await.unwrap();
            keeper.takers.len()
        });
        let looked = hand.ask(Wish::Look(Look::Stats));
        let (written, looked) = tokio::join!(hand.write(&Command::Pass), looked);
        for said in [written, looked] {
            assert_eq!(*said.unwrap_err().kind(), ErrorKind::Unavailable);
        }
        drop(hand);
        assert_eq!(loading.await.unwrap(), 1, "a taker goes on waiting");
        drop(taken);
    }
}
