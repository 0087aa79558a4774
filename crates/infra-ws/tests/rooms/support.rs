//! A server of rooms on a real socket, and clients that speak its protocol.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use infra_core::{Clock, clock::Timestamp, lifecycle::Shutdown};
use infra_testkit::clock::ManualClock;
use infra_ws::{
    Facts, Hub, Options, OriginPolicy,
    client::{Client, Received},
    history::{Bounds, History, MemoryHistory},
    layer::Layered,
    room::{
        Denied, Identity, Life, Published, Role, RoomHandler, RoomOptions, RoomServer, RoomState,
        Sight, TokenBook,
    },
    serve,
    token::KeyRing,
    wire::Code,
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;

pub const PATIENCE: Duration = Duration::from_secs(20);
pub const TICK: Duration = Duration::from_millis(200);

/// Tokens are `user`, `user/session` or `user/session/expiry`; "forged" is refused.
#[derive(Debug, Default)]
pub struct Table {
    pub lives: Mutex<Vec<(String, Life)>>,
    /// The state of rooms whose name begins with `state`.
    pub state: Mutex<(u64, Value)>,
    /// What the method `call` does, in the task of the connection that asks.
    pub call: Mutex<Option<Call>>,
}

pub struct Call(pub Box<dyn Fn() + Send>);

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Call")
    }
}

#[async_trait]
impl RoomHandler for Table {
    async fn authenticate(&self, token: &str, _facts: &Facts) -> Result<Identity, Denied> {
        if token == "never" {
            std::future::pending::<()>().await;
        }
        if token == "forged" {
            return Err(Denied::new(Code::Unauthenticated, "no such user"));
        }
        let mut parts = token.split('/');
        let mut who = Identity::user(parts.next().unwrap_or_default());
        if let Some(session) = parts.next() {
            who = who.session(session);
        }
        if let Some(expiry) = parts.next() {
            who = who.good_until(Timestamp::from_millis(expiry.parse().unwrap()));
        }
        Ok(who)
    }

    async fn may_enter(&self, who: &Identity, room: &str) -> Result<Role, Denied> {
        match room {
            "secret" if who.user != "ann" => Err(Denied::new(Code::Denied, "ann alone may enter")),
            game if game.starts_with("game") => Ok(Role::Player),
            _ => Ok(Role::Spectator),
        }
    }

    async fn publish(
        &self,
        _who: &Identity,
        _room: &str,
        data: Value,
    ) -> Result<Published, Denied> {
        if data.get("rude").is_some() {
            return Err(Denied::new(Code::Denied, "no rude words"));
        }
        Ok(match data.get("passing") {
            Some(passing) => Published::Passing(passing.clone()),
            None => Published::Event(data),
        })
    }

    async fn request(
        &self,
        who: &Identity,
        room: Option<&str>,
        method: &str,
        data: Value,
    ) -> Result<Value, Denied> {
        match method {
            "echo" => Ok(json!({"user": who.user, "room": room, "data": data})),
            "trace" => Ok(json!(infra_core::context::Context::current().trace_context())),
            "headers" => Ok(json!(infra_core::context::Context::current().headers())),
            "call" => {
                if let Some(Call(call)) = &*self.call.lock() {
                    call();
                }
                Ok(json!(null))
            }
            "panic" => panic!("as asked"),
            _ => Err(Denied::new(Code::NotFound, "no such method")),
        }
    }

    async fn state(&self, _who: &Identity, room: &str) -> Result<Option<RoomState>, Denied> {
        let (offset, data) = self.state.lock().clone();
        Ok(room.starts_with("state").then_some(RoomState { offset, data }))
    }

    fn view(&self, _room: &str, event: &Value, user: &str) -> Sight {
        if let Some(hands) = event.get("hands") {
            return Sight::Redacted(json!({"hand": hands.get(user)}));
        }
        match event.get("for").and_then(Value::as_str) {
            Some(only) if only != user => Sight::Hidden,
            _ => Sight::Full,
        }
    }

    async fn happened(&self, room: &str, life: Life) {
        self.lives.lock().push((room.to_owned(), life));
    }
}

pub struct Server {
    pub address: SocketAddr,
    pub hub: Arc<Hub>,
    pub rooms: RoomServer<Table>,
    pub clock: ManualClock,
    pub shutdown: Shutdown,
}

/// What a test may change of a server.
pub struct Setup {
    pub address: SocketAddr,
    pub options: Options,
    pub rooms: RoomOptions,
    pub history: Option<Arc<dyn History>>,
    pub bounds: Bounds,
}

impl Server {
    pub async fn start() -> Self {
        Self::with(|_| {}, |app| app).await
    }

    pub async fn with(
        change: impl FnOnce(&mut Setup),
        layers: impl FnOnce(Layered<RoomServer<Table>>) -> Layered<RoomServer<Table>>,
    ) -> Self {
        let clock = ManualClock::new();
        let options = Options::new(OriginPolicy::same_host())
            .protocol(infra_ws::wire::JSON)
            .protocol(infra_ws::wire::MSGPACK)
            .token_prefix("bearer.");
        let mut setup = Setup {
            address: "127.0.0.1:0".parse().unwrap(),
            options,
            rooms: RoomOptions::new().tick(Duration::from_millis(5)),
            history: None,
            bounds: Bounds::new(),
        };
        change(&mut setup);
        let shared: Arc<dyn Clock> = Arc::new(clock.clone());
        let shutdown = Shutdown::new();
        // Sockets live by real time, rooms and tokens by the clock that a test moves.
        let hub = Hub::new(setup.options, Arc::clone(&shared), shutdown.clone());
        let history = setup
            .history
            .unwrap_or_else(|| Arc::new(MemoryHistory::new(setup.bounds, Arc::clone(&shared))));
        let tokens = TokenBook::in_memory(KeyRing::from_secret([7; 32]), shared);
        let rooms =
            RoomServer::new(Arc::clone(&hub), Table::default(), history, tokens, setup.rooms);
        let listener = TcpListener::bind(setup.address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = Arc::new(layers(Layered::new(rooms.clone())));
        let serving = Arc::clone(&hub);
        shutdown.spawn(async move { serve(listener, serving, app).await.unwrap() });
        Self { address, hub, rooms, clock, shutdown }
    }

    pub async fn raw(&self) -> Player {
        self.with_headers(&[("sec-websocket-protocol", infra_ws::wire::JSON)]).await
    }

    pub async fn with_headers(&self, headers: &[(&'static str, &str)]) -> Player {
        let url = format!("ws://{}/", self.address);
        Player { client: Client::connect(&url, headers).await.unwrap(), seen: Vec::new(), id: 0 }
    }

    /// Connects as a user.
    pub async fn player(&self, token: &str) -> Player {
        let mut player = self.raw().await;
        player.say(json!({"type": "connect", "token": token})).await;
        player.expect("connected").await;
        player
    }

    /// Connects as a user and enters a room.
    pub async fn in_room(&self, token: &str, room: &str) -> (Player, Value) {
        let mut player = self.player(token).await;
        let joined = player.join(room, Value::Null).await;
        (player, joined)
    }

    /// Waits until nobody is connected any more.
    pub async fn settled(&self) {
        until(|| self.hub.count() == 0 && self.hub.connections().is_empty()).await;
    }

    pub fn now(&self) -> u64 {
        Clock::wall(&self.clock).as_millis()
    }
}

pub async fn until(is_so: impl Fn() -> bool) {
    let so = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, so).await.expect("it becomes so in time");
}

/// A client; what comes while it waits for something else is kept in `seen`.
pub struct Player {
    pub client: Client,
    pub seen: Vec<Value>,
    id: u64,
}

impl Player {
    pub async fn say(&mut self, message: Value) {
        self.client.send(message.to_string()).await.unwrap();
    }

    /// Asks something and returns the answer.
    pub async fn ask(&mut self, mut message: Value) -> Value {
        self.id += 1;
        message["id"] = json!(self.id);
        self.say(message).await;
        loop {
            let answer = self.next().await;
            if answer["id"] == json!(self.id) {
                return answer;
            }
            self.seen.push(answer);
        }
    }

    pub async fn join(&mut self, room: &str, from: Value) -> Value {
        let mut message = json!({"type": "join", "room": room});
        if !from.is_null() {
            message["from"] = from;
        }
        self.ask(message).await
    }

    pub async fn publish(&mut self, room: &str, data: Value) -> Value {
        self.ask(json!({"type": "publish", "room": room, "data": data})).await
    }

    /// Returns the next message.
    pub async fn next(&mut self) -> Value {
        match self.client.receive(PATIENCE).await.unwrap() {
            Received::Text(text) => serde_json::from_str(&text).unwrap(),
            other @ (Received::Binary(_) | Received::Closed(_)) => panic!("{other:?}"),
        }
    }

    /// Waits for a message of a type.
    pub async fn expect(&mut self, kind: &str) -> Value {
        if let Some(place) = self.seen.iter().position(|message| message["type"] == kind) {
            return self.seen.remove(place);
        }
        loop {
            let message = self.next().await;
            if message["type"] == kind {
                return message;
            }
            self.seen.push(message);
        }
    }

    /// Waits for `count` events and returns their offsets and data.
    pub async fn events(&mut self, count: usize) -> Vec<(u64, Value)> {
        let mut events = Vec::new();
        while events.len() < count {
            let message = self.expect("events").await;
            for event in message["events"].as_array().unwrap() {
                events.push((event["offset"].as_u64().unwrap(), event["data"].clone()));
            }
        }
        assert_eq!(events.len(), count, "{events:?}");
        events
    }

    /// Returns the code with which the server closes.
    pub async fn closed(&mut self) -> Option<(u16, String)> {
        loop {
            if let Received::Closed(close) = self.client.receive(PATIENCE).await.unwrap() {
                return close.map(|close| (close.code, close.reason.into_owned()));
            }
        }
    }
}
