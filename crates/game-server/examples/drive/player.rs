//! A player as a stranger would write one from docs/protocol.md: JSON over a socket, nothing else
//! of the server's.

use std::{net::SocketAddr, time::Duration};

use infra_ws::client::{Client, Received};
use serde_json::{Value, json};

/// What goes wrong here ends the run.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the player knows of its room.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    /// Its seat.
    pub(crate) seat: u64,
    /// The room's epoch.
    pub(crate) epoch: String,
    /// The last event that it saw.
    pub(crate) offset: u64,
    /// Its pieces.
    pub(crate) hand: Vec<u64>,
    /// Who starts the present turn.
    pub(crate) leader: u64,
    /// How many have played in it, and how many pieces each puts down.
    pub(crate) played: (u64, usize),
    /// What was declared, and who begins.
    pub(crate) declared: (Vec<u64>, u64),
    /// Whether the declarations have begun, and whether it is asked about a redeal.
    pub(crate) asked: bool,
    /// Whether a round is being played.
    pub(crate) dealt: bool,
    /// Whether the game is over.
    pub(crate) is_over: bool,
}

/// What a player keeps between two connections.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    /// The token to come back with.
    pub(crate) token: Option<Value>,
    /// The state of its room.
    pub(crate) table: Table,
    /// Its room.
    pub(crate) room: String,
}

/// A connected player.
#[derive(Debug)]
pub(crate) struct Player {
    /// The connection itself.
    pub(crate) client: Client,
    /// What it knows.
    pub(crate) known: Known,
}

impl Player {
    /// Connects as a new player.
    pub(crate) async fn connect(addr: SocketAddr) -> Result<Self, Failure> {
        Self::hello(addr, Known::default(), json!({"type": "hello"})).await
    }

    /// Connects as a player who was there before.
    pub(crate) async fn come_back(addr: SocketAddr, known: Known) -> Result<Self, Failure> {
        let from = json!({"epoch": known.table.epoch, "offset": known.table.offset});
        let resume = json!({"token": known.token, "from": from});
        Self::hello(addr, known, json!({"type": "hello", "resume": resume})).await
    }

    async fn hello(addr: SocketAddr, known: Known, hello: Value) -> Result<Self, Failure> {
        let protocol = [("sec-websocket-protocol", "liap.v1")];
        let client = Client::connect(&format!("ws://{addr}/ws"), &protocol).await?;
        let mut player = Self { client, known };
        player.say(&hello).await?;
        let welcome = player.next().await?.ok_or("closed before the welcome")?;
        match text(&welcome, "type") {
            "welcome" => Ok(player),
            _ => Err(format!("no welcome: {welcome}").into()),
        }
    }

    /// Sends a message.
    pub(crate) async fn say(&mut self, message: &Value) -> Result<(), Failure> {
        Ok(self.client.send(message.to_string()).await?)
    }

    /// Returns the next message; `None` if the connection has ended.
    pub(crate) async fn next(&mut self) -> Result<Option<Value>, Failure> {
        self.within(PATIENCE).await
    }

    /// Returns the next message within `patience`; `None` if the connection has ended.
    pub(crate) async fn within(&mut self, patience: Duration) -> Result<Option<Value>, Failure> {
        let text = self.unread(patience).await?;
        Ok(text.map(|text| serde_json::from_str(&text)).transpose()?)
    }

    /// Returns the text of the next message within `patience`; `None` if the connection has ended.
    pub(crate) async fn unread(&mut self, patience: Duration) -> Result<Option<String>, Failure> {
        match self.client.receive(patience).await? {
            Received::Text(text) => Ok(Some(text)),
            Received::Binary(_) => Err("a binary message".into()),
            Received::Closed(_) => Ok(None),
        }
    }

    /// Takes a message into account; returns an error if an event is missing or comes twice.
    pub(crate) fn take(&mut self, message: &Value) -> Result<(), Failure> {
        match text(message, "type") {
            "joined" => self.joined(message),
            "resumed" => {
                self.known.token = token(message).or_else(|| self.known.token.take());
                Ok(())
            }
            "event" => {
                let offset = number(message, "offset");
                if offset != self.known.table.offset + 1 {
                    let last = self.known.table.offset;
                    return Err(format!("{}: event {offset} after {last}", self.known.room).into());
                }
                self.known.table.offset = offset;
                self.known.table.event(message.get("event").unwrap_or(&Value::Null));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn joined(&mut self, message: &Value) -> Result<(), Failure> {
        let state = message.get("state").ok_or("joined without a state")?;
        self.known.token = token(message);
        text(message, "room").clone_into(&mut self.known.room);
        self.known.table = Table::from_state(state, text(message, "epoch"));
        Ok(())
    }
}

impl Table {
    fn from_state(state: &Value, epoch: &str) -> Self {
        let mut table = Self { epoch: epoch.to_owned(), ..Self::default() };
        table.seat = number(state, "viewer");
        table.offset = number(state, "offset");
        table.is_over = matches!(text(state, "status"), "completed" | "abandoned");
        let Some(game) = state.get("game").filter(|game| !game.is_null()) else { return table };
        let phase = text(game, "phase");
        table.dealt = phase != "scoring" && !table.is_over;
        table.hand = numbers(game.get("hand"));
        table.leader = number(game, "leader");
        let laid = game.get("table").and_then(Value::as_array);
        let first =
            laid.and_then(|laid| laid.first()).map(|play| numbers(play.get("pieces")).len());
        table.played = (laid.map_or(0, Vec::len) as u64, first.unwrap_or(0));
        let declared = game.get("declared").and_then(Value::as_array);
        let declared = declared.into_iter().flatten().filter_map(Value::as_u64).collect();
        table.declared = (declared, number(game, "starter"));
        table.asked = phase == "preparation" && game.get("awaited") == Some(&json!(table.seat));
        if phase == "preparation" && !table.asked {
            table.dealt = false;
        }
        table
    }

    fn event(&mut self, event: &Value) {
        match text(event, "type") {
            "dealt" => {
                self.hand = numbers(event.get("hand"));
                self.leader = number(event, "starter");
                self.declared = (Vec::new(), self.leader);
                self.played = (0, 0);
                self.asked = false;
                self.dealt = true;
            }
            "redeal_asked" => {
                self.asked = number(event, "seat") == self.seat;
                self.dealt = self.asked;
            }
            "redeal_declined" => {
                self.asked = false;
                self.dealt = true;
            }
            "declared" => self.declared.0.push(number(event, "piles")),
            "played" => {
                let pieces = numbers(event.get("pieces"));
                if self.played.0 == 0 {
                    self.played.1 = pieces.len();
                }
                self.played.0 += 1;
                self.hand.retain(|piece| !pieces.contains(piece));
            }
            "turn_won" => {
                self.leader = number(event, "winner");
                self.played = (0, 0);
            }
            "round_scored" => self.dealt = false,
            "game_ended" | "room_abandoned" => self.is_over = true,
            _ => {}
        }
    }

    /// Returns a legal move, if it is this player's turn; it may have been overtaken.
    pub(crate) fn choose(&self) -> Option<Value> {
        if self.asked {
            return Some(json!({"type": "redeal", "accept": false}));
        }
        if !self.dealt || self.is_over {
            return None;
        }
        let (declared, starter) = &self.declared;
        let n_declared = declared.len() as u64;
        if n_declared < 4 {
            let is_mine = (starter + n_declared) % 4 == self.seat;
            let sum: u64 = declared.iter().sum();
            let piles = if n_declared == 3 && sum + 1 == 8 { 2 } else { 1 };
            return is_mine.then(|| json!({"type": "declare", "piles": piles}));
        }
        let is_mine = self.played.0 < 4 && (self.leader + self.played.0) % 4 == self.seat;
        let count = if self.played.0 == 0 { 1 } else { self.played.1 };
        let mut pieces: Vec<u64> = self.hand.iter().take(count).copied().collect();
        pieces.sort_unstable();
        let has_enough = pieces.len() == count;
        (is_mine && has_enough).then(|| json!({"type": "play", "pieces": pieces}))
    }
}

/// Returns a field as text.
pub(crate) fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// Returns a field as a number.
pub(crate) fn number(value: &Value, field: &str) -> u64 {
    value.get(field).and_then(Value::as_u64).unwrap_or_default()
}

fn numbers(value: Option<&Value>) -> Vec<u64> {
    let list = value.and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_u64).collect()
}

fn token(message: &Value) -> Option<Value> {
    message.get("token")?.get("token").cloned()
}
