//! Request and reply over a bus, within a deadline.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use infra_core::{
    Clock, Error, ErrorKind, Result,
    codec::{CodecTag, Payload},
    context::Context,
    lifecycle::Stop,
    pubsub::{Item, Pattern, PubSub, Subject, Subscription},
    queue::Message,
};
use tokio::task::JoinSet;

use crate::{codec::Codecs, mint::Mint, wire::Wire};

/// The header with the subject that the answer is expected on.
pub const REPLY_TO: &str = "reply-to";

const REQUEST: &str = "request answer";
const WIRE: Wire = Wire::with(Codecs::new());

/// How many requests are answered at a time; others wait on the bus.
const MAX_ANSWERING: usize = 1_000;

/// Asks whoever answers on a subject.
///
/// The bus delivers at most once, so a request whose answer does not come in time may have been
/// answered or not.
#[derive(Debug, Clone)]
pub struct Requester {
    bus: Arc<dyn PubSub>,
    mint: Mint,
    clock: Arc<dyn Clock>,
}

impl Requester {
    /// Creates a requester; deadlines are judged by `clock`.
    pub fn new(bus: Arc<dyn PubSub>, mint: Mint, clock: Arc<dyn Clock>) -> Self {
        Self { bus, mint, clock }
    }

    /// Asks, and waits for the answer for `patience` or until the deadline of the present
    /// [`Context`], whichever is sooner.
    ///
    /// # Errors
    ///
    /// [`Timeout`](ErrorKind::Timeout) if no answer came in time,
    /// [`Unavailable`](ErrorKind::Unavailable) if the answer may have been lost, and what the bus
    /// fails with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the request sent or not; the answer is not looked at.
    pub async fn ask(
        &self,
        subject: &Subject,
        payload: Payload,
        patience: Duration,
    ) -> Result<Payload> {
        let message = self.mint.message(payload);
        let reply_to = format!("reply.{}", message.id);
        let mut answers = self.bus.subscribe(&Pattern::new(&reply_to)?).await?;
        let request = WIRE.encode(CodecTag::Json, &message.header(REPLY_TO, reply_to))?;
        self.bus.publish(subject, request.body).await?;
        let left = Context::current().deadline_of().map(|deadline| deadline.left(self.clock.now()));
        let patience = left.map_or(patience, |left| left.min(patience));
        let answer = tokio::time::timeout(patience, next(&mut answers)).await;
        match answer.map_err(|cause| Error::new(ErrorKind::Timeout, REQUEST).because(cause))? {
            Some(Item::Message { payload, .. }) => Ok(read(payload)?.payload),
            Some(Item::Gap { .. }) => {
                Err(Error::new(ErrorKind::Unavailable, REQUEST).detail("the answer may be lost"))
            }
            None => Err(Error::new(ErrorKind::Closed, REQUEST)),
        }
    }
}

async fn next(subscription: &mut Subscription) -> Option<Item> {
    std::future::poll_fn(|cx| subscription.as_mut().poll_next(cx)).await
}

fn read(body: Bytes) -> Result<Message> {
    WIRE.decode(&Payload { codec: CodecTag::Json, schema: crate::wire::VERSION, body })
}

/// Answers the requests on the subjects that a pattern admits, until it is told to stop; a request
/// that `answer` fails on, or that is none, is not answered. Each runs in a task of its own.
///
/// # Errors
///
/// What subscribing fails with.
///
/// # Cancel safety
///
/// Dropping the future ends the answers that are under way.
pub async fn answer<F, A>(
    bus: Arc<dyn PubSub>,
    pattern: &Pattern,
    mint: Mint,
    answer: F,
    stop: Stop,
) -> Result<()>
where
    F: Fn(Message) -> A,
    A: Future<Output = Result<Payload>> + Send + 'static,
{
    let mut requests = bus.subscribe(pattern).await?;
    let mut answering = JoinSet::new();
    loop {
        while answering.try_join_next().is_some() {}
        if MAX_ANSWERING <= answering.len() {
            answering.join_next().await;
        }
        let item = tokio::select! {
            biased;
            () = stop.requested() => return Ok(()),
            item = next(&mut requests) => item,
        };
        let body = match item {
            Some(Item::Message { payload, .. }) => payload,
            Some(Item::Gap { .. }) => continue,
            None => return Ok(()),
        };
        let Ok(request) = read(body) else { continue };
        let to = request.headers.get(REPLY_TO).map(Subject::new);
        let Some(Ok(to)) = to else { continue };
        let (bus, mint, said) = (Arc::clone(&bus), mint.clone(), answer(request));
        answering.spawn(async move {
            let Ok(payload) = said.await else { return };
            if let Ok(envelope) = WIRE.encode(CodecTag::Json, &mint.message(payload)) {
                // If the bus is gone, so is the one who asked.
                let _is_sent = bus.publish(&to, envelope.body).await.is_ok();
            }
        });
    }
}
