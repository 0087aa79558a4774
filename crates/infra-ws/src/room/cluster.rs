//! Several nodes that serve the same rooms, over a message bus and one shared history.
//!
//! The history is the truth: a node that hears of an event hands it out if it is the next one, and
//! reads the history otherwise. So the bus may lose and repeat; a loss that the bus tells of is
//! made good at once, any other at the next check.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::StreamExt;
use infra_core::{
    Result,
    pubsub::{Item, Pattern, PubSub, Subject, Subscription},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{broadcast::Sent, handler::RoomHandler, server::RoomServer};
use crate::{
    close::Close,
    frame::Class,
    history::{Entry, Place},
};

/// Names a node among others; drawn at random.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Node(pub(super) u64);

/// How nodes find each other.
#[derive(Debug, Clone)]
pub struct Cluster {
    bus: Arc<dyn PubSub>,
    prefix: String,
}

/// What nodes tell each other.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum Note {
    /// An event is in the history.
    Event { node: Node, room: String, place: Place, body: String },
    /// Something was said in passing.
    Passing { node: Node, room: String, data: Value },
    /// A user, or one session of it, may no longer be here.
    Revoke { node: Node, user: String, session: Option<String>, code: u16, reason: String },
}

impl Cluster {
    /// Meets other nodes on subjects that begin with `prefix`, such as `rooms`.
    pub fn new(bus: Arc<dyn PubSub>, prefix: impl Into<String>) -> Self {
        Self { bus, prefix: prefix.into() }
    }
}

impl<H: RoomHandler> RoomServer<H> {
    /// Joins a cluster; the other nodes must share this one's history.
    ///
    /// # Errors
    ///
    /// What the bus fails with; a prefix that is no subject is
    /// [`Invalid`](infra_core::ErrorKind::Invalid).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future joins nothing.
    pub async fn join_cluster(&self, cluster: Cluster) -> Result<()> {
        let subject = Subject::new(format!("{}.notes", cluster.prefix))?;
        let heard = cluster.bus.subscribe(&Pattern::new(subject.as_str())?).await?;
        let bus = Arc::new(Speaking { bus: cluster.bus, subject });
        self.0.bus.get_or_init(|| bus);
        let (server, stop) = (self.clone(), self.0.hub.shutdown.stop());
        self.0.hub.shutdown.spawn(async move {
            tokio::select! {
                () = server.listen(heard) => {}
                () = stop.requested() => {}
            }
        });
        Ok(())
    }

    /// Says something in passing to the members of a room, on all nodes; returns how many queues
    /// took it here.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave other nodes untold.
    pub async fn say(&self, room: &str, data: Value) -> Sent {
        let sent = self.broadcast().room(room).send(data.clone());
        self.note(&Note::Passing { node: self.0.node, room: room.to_owned(), data }).await;
        sent
    }

    /// Closes all connections of a user, or of one of its sessions, on all nodes; returns how many
    /// were closed here.
    ///
    /// A node that the bus does not reach is not told again: there they live on until what identified
    /// them expires. Whether they may come back is for the handler to say.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave other nodes untold.
    pub async fn revoke(&self, user: &str, session: Option<&str>, close: &Close) -> usize {
        let here = self.revoke_here(user, session, close);
        self.note(&Note::Revoke {
            node: self.0.node,
            user: user.to_owned(),
            session: session.map(ToOwned::to_owned),
            code: close.code,
            reason: close.reason.clone().into_owned(),
        })
        .await;
        here
    }

    fn revoke_here(&self, user: &str, session: Option<&str>, close: &Close) -> usize {
        let all = self.0.hub.of_user(user);
        let meant = all.iter().filter(|one| session.is_none() || one.session() == session);
        meant.map(|connection| connection.shed(close.clone())).count()
    }

    /// Tells the other nodes of an event.
    pub(super) async fn announce(&self, room: &str, place: &Place, body: Bytes) {
        if self.0.bus.get().is_none() {
            return;
        }
        self.note(&Note::Event {
            node: self.0.node,
            room: room.to_owned(),
            place: place.clone(),
            body: STANDARD.encode(&body),
        })
        .await;
    }

    async fn note(&self, note: &Note) {
        let Some(bus) = self.0.bus.get() else { return };
        let payload = serde_json::to_vec(note).map(Bytes::from).unwrap_or_default();
        if let Err(error) = bus.publish(payload).await {
            // Events are found again by the check of the history; the rest is at most once.
            tracing::warn!(error = &error as &dyn std::error::Error, "other nodes were not told");
        }
    }

    async fn listen(&self, mut heard: Subscription) {
        while let Some(item) = heard.next().await {
            match item {
                Item::Message { payload, .. } => {
                    if let Ok(note) = serde_json::from_slice(&payload) {
                        self.heard(note).await;
                    } else {
                        tracing::warn!("a note of another node is malformed");
                    }
                }
                Item::Gap { .. } => self.check_all().await,
            }
        }
    }

    async fn heard(&self, note: Note) {
        match note {
            Note::Event { node, .. } | Note::Passing { node, .. } | Note::Revoke { node, .. }
                if node == self.0.node => {}
            Note::Event { room, place, body, node: _ } => {
                let Ok(body) = STANDARD.decode(body) else { return };
                let entry = Entry { offset: place.offset, body: body.into() };
                if let Err(error) = self.arrived(&room, &place.epoch, &entry).await {
                    tracing::warn!(error = &error as &dyn std::error::Error, "history failed");
                }
            }
            Note::Passing { room, data, node: _ } => {
                self.broadcast().room(&room).class(Class::Ephemeral).send(data);
            }
            Note::Revoke { user, session, code, reason, node: _ } => {
                let close = Close { code, reason: reason.into() };
                self.revoke_here(&user, session.as_deref(), &close);
            }
        }
    }
}

/// The bus with the one subject on which nodes speak.
#[derive(Debug)]
pub(super) struct Speaking {
    bus: Arc<dyn PubSub>,
    subject: Subject,
}

impl Speaking {
    async fn publish(&self, payload: Bytes) -> Result<()> {
        self.bus.publish(&self.subject, payload).await
    }
}
