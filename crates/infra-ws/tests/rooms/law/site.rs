//! Two nodes that share a history, reached by pipes or through proxies.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use infra_core::{
    Clock, Result, SystemClock, id::Collection, lifecycle::Shutdown, store::DocumentStore,
};
use infra_testkit::{
    model::ModelDocuments,
    proxy::{FaultProxy, Faults},
};
use infra_ws::{
    Facts, Hub, Options, OriginPolicy,
    client::{Client, Received},
    history::{Bounds, History, MemoryHistory, Place, Window},
    room::{
        Cluster, Denied, Identity, Published, Role, RoomHandler, RoomOptions, RoomServer, Sight,
        TokenBook,
    },
    serve, serve_stream,
    suite::{Site, Socket, Trouble},
    token::KeyRing,
    wire::{ClientMessage, ServerMessage},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf},
    net::TcpListener,
};

use super::bus::Bus;

pub(super) const ROOM: &str = "room";

/// The most that is sent again; the history keeps a little more.
pub(super) const REPLAY: u64 = 20;

/// How a socket reaches a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Pipe,
    Proxy,
}

/// Admits everybody, and lets some events be seen by some alone.
#[derive(Debug)]
pub(super) struct Watch;

#[async_trait]
impl RoomHandler for Watch {
    async fn authenticate(&self, token: &str, _: &Facts) -> Result<Identity, Denied> {
        Ok(Identity::user(token))
    }

    async fn may_enter(&self, _: &Identity, _: &str) -> Result<Role, Denied> {
        Ok(Role::Spectator)
    }

    async fn publish(&self, _: &Identity, _: &str, data: Value) -> Result<Published, Denied> {
        Ok(Published::Event(data))
    }

    fn view(&self, _room: &str, event: &Value, user: &str) -> Sight {
        sight(event, user)
    }
}

fn sight(event: &Value, user: &str) -> Sight {
    let is_own = |viewer: u64| user == format!("user-{viewer}");
    match event["for"].as_u64() {
        Some(1) if !is_own(1) => Sight::Hidden,
        Some(2) if !is_own(2) => Sight::Redacted(json!({"n": event["n"]})),
        _ => Sight::Full,
    }
}

#[derive(Debug)]
struct Node {
    hub: Arc<Hub>,
    rooms: RoomServer<Watch>,
    shutdown: Shutdown,
    proxy: Option<FaultProxy>,
}

/// The nodes, and what they share.
#[derive(Debug)]
pub(super) struct Nodes {
    way: Way,
    members: Vec<Node>,
    memory: Arc<MemoryHistory>,
    history: Arc<dyn History>,
    store: Arc<dyn DocumentStore>,
    bus: Arc<Bus>,
    replay: u64,
    origin: OriginPolicy,
    is_frail: AtomicBool,
    frailty: AtomicU64,
}

impl Nodes {
    pub(super) async fn start(way: Way) -> Self {
        Self::with(way, REPLAY, |memory| memory).await
    }

    /// Starts nodes behind proxies that admit the pages of a web server.
    pub(super) async fn for_pages_of(origin: &str) -> Self {
        let mut site = Self::start(Way::Proxy).await;
        site.origin = OriginPolicy::listed([origin]);
        for node in 0..site.members.len() {
            site.trouble(Trouble::Kill(node)).await;
        }
        site
    }

    /// Returns where a node is reached, through its proxy.
    pub(super) fn url(&self, node: usize) -> String {
        format!("ws://{}/", self.members[node].proxy.as_ref().unwrap().addr())
    }

    /// Cuts all connections to a node.
    pub(super) fn cut(&self, node: usize) {
        let proxy = self.members[node].proxy.as_ref().unwrap();
        proxy.set(Faults { cut_after: self.faults(), ..Faults::default() });
        proxy.cut();
    }

    pub(super) async fn set_state(&self, node: usize, state: Value) {
        self.members[node].rooms.set_state(ROOM, state).await.unwrap();
    }

    pub(super) async fn with(
        way: Way,
        replay: u64,
        wrap: impl FnOnce(Arc<dyn History>) -> Arc<dyn History>,
    ) -> Self {
        let clock = SystemClock::shared();
        let bounds = Bounds::new().count(25).age(Duration::from_millis(1_500));
        let memory = Arc::new(MemoryHistory::new(bounds, Arc::clone(&clock)));
        let history = wrap(Arc::clone(&memory) as Arc<dyn History>);
        let store: Arc<dyn DocumentStore> = Arc::new(ModelDocuments::new(clock));
        let mut site = Self {
            way,
            members: Vec::new(),
            memory,
            history,
            store,
            bus: Arc::new(Bus::new()),
            replay,
            origin: OriginPolicy::same_host(),
            is_frail: AtomicBool::new(false),
            frailty: AtomicU64::new(0),
        };
        for _ in 0..2 {
            let node = site.node().await;
            site.members.push(node);
        }
        site
    }

    async fn node(&self) -> Node {
        let clock: Arc<dyn Clock> = SystemClock::shared();
        let shutdown = Shutdown::new();
        let options =
            Options::new(self.origin.clone()).outbox(60, 8 * 1024).protocol(infra_ws::wire::JSON);
        let hub = Hub::new(options, Arc::clone(&clock), shutdown.clone());
        let ring = KeyRing::from_secret([7; 32]);
        let collection = Collection::new("tokens").unwrap();
        let tokens = TokenBook::in_store(ring, clock, Arc::clone(&self.store), collection);
        let options = RoomOptions::new()
            .replay(self.replay, 10)
            .check(Duration::from_millis(25))
            .tick(Duration::from_millis(5));
        let history = Arc::clone(&self.history);
        let rooms = RoomServer::new(Arc::clone(&hub), Watch, history, tokens, options);
        let cluster = Cluster::new(Arc::clone(&self.bus) as Arc<_>, "law");
        rooms.join_cluster(cluster).await.unwrap();
        let proxy = match self.way {
            Way::Pipe => None,
            Way::Proxy => {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let address = listener.local_addr().unwrap();
                let (serving, app) = (Arc::clone(&hub), Arc::new(rooms.clone()));
                shutdown.spawn(async move { serve(listener, serving, app).await.unwrap() });
                Some(FaultProxy::start(address).await.unwrap())
            }
        };
        Node { hub, rooms, shutdown, proxy }
    }

    pub(super) fn forget(&self) {
        self.memory.forget(ROOM);
    }

    pub(super) async fn end(self) {
        for node in self.members {
            node.shutdown.close(Duration::ZERO).await;
        }
    }

    fn faults(&self) -> Option<u64> {
        let is_frail = self.is_frail.load(Ordering::SeqCst);
        is_frail.then(|| 300 + self.frailty.fetch_add(211, Ordering::SeqCst) % 3_000)
    }
}

#[async_trait]
impl Site for Nodes {
    type Socket = Line;

    fn room(&self) -> &str {
        ROOM
    }

    fn nodes(&self) -> usize {
        self.members.len()
    }

    fn view(&self, user: &str, event: &Value) -> Value {
        match sight(event, user) {
            Sight::Full => event.clone(),
            Sight::Hidden => Value::Null,
            Sight::Redacted(event) => event,
        }
    }

    async fn connect(&self, node: usize) -> Option<Line> {
        let node = &self.members[node];
        let url = "ws://node/";
        let client = match &node.proxy {
            None => {
                // Small enough that a client which does not read is soon felt.
                let (ours, theirs) = tokio::io::duplex(4 * 1024);
                let (hub, app) = (Arc::clone(&node.hub), Arc::new(node.rooms.clone()));
                let peer = SocketAddr::from(([192, 0, 2, 1], 9));
                tokio::spawn(async move { serve_stream(theirs, peer, &hub, &app).await });
                Client::over(Frail { inner: ours, left: self.faults() }, url, &[]).await
            }
            Some(proxy) => {
                proxy.set(Faults { cut_after: self.faults(), ..Faults::default() });
                Client::connect(&format!("ws://{}/", proxy.addr()), &[]).await
            }
        };
        client.ok().map(Line)
    }

    async fn publish(&self, node: usize, event: &Value) -> Result<Place> {
        self.members[node].rooms.publish(ROOM, event).await
    }

    async fn window(&self) -> Result<Window> {
        self.history.read(ROOM, 0, 0).await
    }

    async fn trouble(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::Kill(node) => {
                let fresh = self.node().await;
                let dead = std::mem::replace(&mut self.members[node], fresh);
                dead.shutdown.close(Duration::ZERO).await;
            }
            Trouble::Renew => self.forget(),
            Trouble::Lose => self.bus.lose(),
            Trouble::Disorder => self.bus.hold(),
            Trouble::Frail => self.is_frail.store(true, Ordering::SeqCst),
            Trouble::Calm => {
                self.is_frail.store(false, Ordering::SeqCst);
                self.bus.calm();
            }
        }
    }
}

/// A client that speaks the protocol of rooms as JSON.
#[derive(Debug)]
pub(super) struct Line(Client);

#[async_trait]
impl Socket for Line {
    async fn send(&mut self, message: &ClientMessage) -> bool {
        self.0.send(serde_json::to_string(message).unwrap()).await.is_ok()
    }

    async fn receive(&mut self) -> Option<ServerMessage> {
        match self.0.receive(Duration::MAX).await.unwrap() {
            Received::Text(text) => Some(serde_json::from_str(&text).unwrap()),
            Received::Binary(bytes) => panic!("{bytes:?}"),
            Received::Closed(_) => None,
        }
    }
}

/// A pipe that ends after so many bytes.
#[derive(Debug)]
struct Frail {
    inner: DuplexStream,
    left: Option<u64>,
}

impl AsyncRead for Frail {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.left == Some(0) {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        let read = (buf.filled().len() - before) as u64;
        self.left = self.left.map(|left| left.saturating_sub(read));
        polled
    }
}

impl AsyncWrite for Frail {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
