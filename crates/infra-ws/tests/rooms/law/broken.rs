//! Sites that break the law on purpose: each must be caught.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use infra_core::Result;
use infra_ws::{
    history::{Entry, History, Place, Window},
    suite::{Breach, Site, Socket, Trouble},
    wire::{ClientMessage, Event, ServerMessage},
};
use serde_json::{Value, json};

use super::site::{Line, Nodes, REPLAY, Way};

/// A planted bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The history gives every third event as another one.
    Forges,
    /// A stream that begins anew keeps the name of the one before.
    SameEpoch,
    /// Less is sent again than is promised.
    Stingy,
    /// Now and then a message of events is not delivered.
    Leaks,
    /// Now and then a message is delivered twice.
    Stutters,
    /// Everybody sees everything.
    Tells,
    /// Whoever comes back is sent less than it was promised.
    Breaks,
}

impl Fault {
    pub(super) const ALL: [Self; 7] = [
        Self::Forges,
        Self::SameEpoch,
        Self::Stingy,
        Self::Leaks,
        Self::Stutters,
        Self::Tells,
        Self::Breaks,
    ];

    pub(super) const fn is_meant(self, breach: &Breach) -> bool {
        match self {
            Self::Forges | Self::Tells => matches!(breach, Breach::Altered { .. }),
            Self::SameEpoch => matches!(breach, Breach::Misplaced(_)),
            Self::Stingy => matches!(breach, Breach::Baseless { .. }),
            Self::Leaks => matches!(breach, Breach::Hole { .. }),
            Self::Stutters => matches!(breach, Breach::Again { .. }),
            Self::Breaks => matches!(breach, Breach::Unkept { .. }),
        }
    }
}

/// A history with a bug.
#[derive(Debug)]
struct Lying(Fault, Arc<dyn History>);

#[async_trait]
impl History for Lying {
    async fn append(&self, room: &str, body: Bytes) -> Result<Place> {
        Ok(self.named(self.1.append(room, body).await?))
    }

    async fn read(&self, room: &str, after: u64, limit: usize) -> Result<Window> {
        let mut window = self.1.read(room, after, limit).await?;
        if self.0 == Fault::SameEpoch && !window.epoch.is_empty() {
            "one".clone_into(&mut window.epoch);
        }
        let forged = |entry: Entry| match entry.offset % 3 {
            0 => Entry { body: Bytes::from_static(b"\"forged\""), ..entry },
            _ => entry,
        };
        if self.0 == Fault::Forges {
            window.entries = window.entries.into_iter().map(forged).collect();
        }
        Ok(window)
    }
}

impl Lying {
    fn named(&self, place: Place) -> Place {
        if self.0 == Fault::SameEpoch {
            return Place { epoch: "one".to_owned(), ..place };
        }
        place
    }
}

/// A site with a bug.
#[derive(Debug)]
pub(super) struct Spoilt {
    fault: Fault,
    nodes: Nodes,
}

impl Spoilt {
    pub(super) async fn start(fault: Fault) -> Self {
        let replay = if fault == Fault::Stingy { REPLAY / 4 } else { REPLAY };
        let wrap = |history| Arc::new(Lying(fault, history)) as Arc<dyn History>;
        Self { fault, nodes: Nodes::with(Way::Pipe, replay, wrap).await }
    }

    pub(super) async fn end(self) {
        self.nodes.end().await;
    }
}

#[async_trait]
impl Site for Spoilt {
    type Socket = Odd;

    fn room(&self) -> &str {
        self.nodes.room()
    }

    fn nodes(&self) -> usize {
        self.nodes.nodes()
    }

    fn view(&self, user: &str, event: &Value) -> Value {
        self.nodes.view(user, event)
    }

    async fn connect(&self, node: usize) -> Option<Odd> {
        let line = self.nodes.connect(node).await?;
        Some(Odd { line, fault: self.fault, count: 0, again: None })
    }

    async fn publish(&self, node: usize, event: &Value) -> Result<Place> {
        self.nodes.publish(node, event).await
    }

    async fn window(&self) -> Result<Window> {
        self.nodes.window().await
    }

    async fn trouble(&mut self, trouble: Trouble) {
        self.nodes.trouble(trouble).await;
    }
}

/// A socket with a bug.
#[derive(Debug)]
pub(super) struct Odd {
    line: Line,
    fault: Fault,
    count: u64,
    again: Option<ServerMessage>,
}

#[async_trait]
impl Socket for Odd {
    async fn send(&mut self, message: &ClientMessage) -> bool {
        self.line.send(message).await
    }

    async fn receive(&mut self) -> Option<ServerMessage> {
        if let Some(again) = self.again.take() {
            return Some(again);
        }
        loop {
            let message = self.line.receive().await?;
            let ServerMessage::Events { room, epoch, events } = &message else {
                return Some(message);
            };
            self.count += 1;
            let is_third = self.count.is_multiple_of(3);
            match self.fault {
                Fault::Leaks if is_third => {}
                Fault::Stutters if is_third => {
                    self.again = Some(message.clone());
                    return Some(message);
                }
                Fault::Tells => {
                    let shown = |event: &Event| {
                        let mut event = event.clone();
                        if event.data.is_null() {
                            event.data = json!({"n": 1, "for": 1});
                        }
                        event
                    };
                    let events = events.iter().map(shown).collect();
                    let (room, epoch) = (room.clone(), epoch.clone());
                    return Some(ServerMessage::Events { room, epoch, events });
                }
                // The first events behind an entry are those that were promised.
                Fault::Breaks if self.count == 1 => {}
                Fault::Forges
                | Fault::SameEpoch
                | Fault::Stingy
                | Fault::Leaks
                | Fault::Stutters
                | Fault::Breaks => return Some(message),
            }
        }
    }
}
