//! The servers: each sends what it is ordered to all of its clients.

use std::{
    io::BufRead,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use fastwebsockets::{Frame as FastFrame, Payload, Role, WebSocket};
use futures_util::{SinkExt, StreamExt};
use infra_core::{SystemClock, lifecycle::Shutdown};
use infra_ws::{
    App, Class, Close, Connection, Facts, Frame, Hub, Inbound, Options, OriginPolicy, Rooms,
    history::{Bounds, MemoryHistory},
    room::{
        Denied, Identity, Published, Role as RoomRole, RoomHandler, RoomOptions, RoomServer,
        TokenBook,
    },
    serve,
    token::KeyRing,
};
use serde_json::{Value, json};
use socketioxide::{SocketIo, extract::SocketRef};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_tungstenite::tungstenite::{
    Message, Utf8Bytes, handshake::derive_accept_key, protocol::WebSocketConfig,
};

/// So many messages of so many bytes, all at once or so many a second.
#[derive(Debug, Clone, Copy)]
struct Order {
    count: u32,
    size: usize,
    per_second: u32,
}

/// Runs a server until its input ends; its port and, if it has rooms, their epochs are its first lines.
pub(crate) fn run(kind: &str) {
    let kind = kind.to_owned();
    measure::run(async move {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        match kind.as_str() {
            "infra-ws" => infra(listener, address, hub(Duration::from_secs(15))).await,
            // Each connection has written pings before it is measured.
            "infra-ws beating" => infra(listener, address, hub(Duration::from_millis(500))).await,
            "infra-ws rooms" => rooms(listener, address).await,
            "tokio-tungstenite" => tungstenite(listener, address).await,
            "fastwebsockets" => fast(listener, address).await,
            "socketioxide" => socket_io(listener, address).await,
            unknown => panic!("{unknown}"),
        }
    });
}

fn orders() -> mpsc::UnboundedReceiver<Order> {
    let (sender, receiver) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let mut numbers = line.split(' ').map(|word| word.parse().unwrap());
            let mut next = || numbers.next().unwrap();
            let (count, size, per_second) = (next(), next(), next());
            let order = Order { count, size: size as usize, per_second };
            if sender.send(order).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Says everything that is ordered; each message begins with the time at which it was due.
async fn obey(address: SocketAddr, say: impl AsyncFn(String)) {
    println!("{}", address.port());
    let mut orders = orders();
    while let Some(Order { count, size, per_second }) = orders.recv().await {
        let pause = Duration::from_secs(1).checked_div(per_second).unwrap_or_default();
        let begun = tokio::time::Instant::now();
        for n in 0..count {
            if !pause.is_zero() {
                tokio::time::sleep_until(begun + pause * n).await;
            }
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
            let mut text = format!("#{now:020}#");
            text.extend(std::iter::repeat_n('x', size.saturating_sub(text.len())));
            say(text).await;
        }
    }
}

/// Puts every connection into one room.
#[derive(Debug)]
struct All(Rooms);

#[async_trait]
impl App for All {
    type Session = Connection;

    async fn open(&self, connection: Connection) -> Result<Connection, Close> {
        self.0.join("all", &connection);
        Ok(connection)
    }

    async fn message(&self, _session: &mut Connection, _message: Inbound) -> Result<(), Close> {
        Ok(())
    }

    async fn closed(&self, session: Connection) {
        self.0.leave_all(session.id());
    }
}

/// With all that it is: limits, deadlines, heartbeats, bounded queues and their ledger.
fn hub(heartbeat: Duration) -> Arc<Hub> {
    let options = Options::new(OriginPolicy::same_host())
        .connections(19_000, 19_000)
        .per_user(19_000)
        .first_message(Duration::from_secs(600))
        .heartbeat(heartbeat, Duration::from_secs(600))
        .protocol(infra_ws::wire::JSON);
    Hub::new(options, SystemClock::shared(), Shutdown::new())
}

async fn infra(listener: TcpListener, address: SocketAddr, hub: Arc<Hub>) {
    let app = Arc::new(All(Rooms::new()));
    tokio::spawn(serve(listener, hub, Arc::clone(&app)));
    obey(address, async |text| {
        app.0.broadcast("all", &Frame::text(text), Class::Durable, None);
    })
    .await;
}

#[derive(Debug)]
struct Anybody;

#[async_trait]
impl RoomHandler for Anybody {
    async fn authenticate(&self, token: &str, _: &Facts) -> Result<Identity, Denied> {
        Ok(Identity::user(token))
    }

    async fn may_enter(&self, _: &Identity, _: &str) -> Result<RoomRole, Denied> {
        Ok(RoomRole::Spectator)
    }

    async fn publish(&self, _: &Identity, _: &str, data: Value) -> Result<Published, Denied> {
        Ok(Published::Event(data))
    }
}

async fn rooms(listener: TcpListener, address: SocketAddr) {
    let (hub, clock) = (hub(Duration::from_secs(15)), SystemClock::shared());
    let history = Arc::new(MemoryHistory::new(Bounds::new(), Arc::clone(&clock)));
    let tokens = TokenBook::in_memory(KeyRing::generate().unwrap(), clock);
    let rooms = RoomServer::new(Arc::clone(&hub), Anybody, history, tokens, RoomOptions::new());
    let mut epochs = Vec::new();
    for room in 0..100 {
        let room = format!("room-{room}");
        for n in 0..9 {
            rooms.publish(&room, &json!({"n": n})).await.unwrap();
        }
        epochs.push(rooms.publish(&room, &json!({"n": 9})).await.unwrap().epoch);
    }
    println!("{}", epochs.join(" "));
    tokio::spawn(serve(listener, hub, Arc::new(rooms)));
    obey(address, async |_| {}).await;
}

/// What a user of a bare library writes: a queue for each client. Tungstenite writes what waits in
/// batches; fastwebsockets has no buffer for that, and writes each message.
type Clients<T> = Arc<Mutex<Vec<mpsc::UnboundedSender<T>>>>;

fn enlist<T>(clients: &Clients<T>) -> mpsc::UnboundedReceiver<T> {
    let (sender, receiver) = mpsc::unbounded_channel();
    clients.lock().unwrap().push(sender);
    receiver
}

async fn tungstenite(listener: TcpListener, address: SocketAddr) {
    let clients: Clients<Utf8Bytes> = Arc::default();
    let accepting = Arc::clone(&clients);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let clients = Arc::clone(&accepting);
            tokio::spawn(async move {
                socket.set_nodelay(true).unwrap();
                // As the hub reads, and half of what it writes at once.
                let config = WebSocketConfig::default()
                    .read_buffer_size(2 * 1024)
                    .write_buffer_size(16 * 1024);
                let accepted = tokio_tungstenite::accept_async_with_config(socket, Some(config));
                let Ok(mut socket) = accepted.await else { return };
                if socket.send(Message::text("welcome")).await.is_err() {
                    return;
                }
                let mut queue = enlist(&clients);
                loop {
                    tokio::select! {
                        next = queue.recv() => {
                            let Some(text) = next else { return };
                            let mut sent = socket.feed(Message::Text(text)).await;
                            while let (Ok(()), Ok(text)) = (&sent, queue.try_recv()) {
                                sent = socket.feed(Message::Text(text)).await;
                            }
                            if sent.is_err() || socket.flush().await.is_err() {
                                return;
                            }
                        }
                        heard = socket.next() => match heard {
                            Some(Ok(_)) => {}
                            Some(Err(_)) | None => return,
                        },
                    }
                }
            });
        }
    });
    obey(address, async |text| {
        let text = Utf8Bytes::from(text);
        clients.lock().unwrap().retain(|client| client.send(text.clone()).is_ok());
    })
    .await;
}

async fn fast(listener: TcpListener, address: SocketAddr) {
    let clients: Clients<Arc<str>> = Arc::default();
    let accepting = Arc::clone(&clients);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let clients = Arc::clone(&accepting);
            tokio::spawn(async move {
                socket.set_nodelay(true).unwrap();
                let Some(socket) = upgraded(socket).await else { return };
                let mut socket = WebSocket::after_handshake(socket, Role::Server);
                let mut queue = enlist(&clients);
                let text = |text: &str| FastFrame::text(Payload::Owned(text.as_bytes().to_vec()));
                if socket.write_frame(text("welcome")).await.is_err() {
                    return;
                }
                while let Some(next) = queue.recv().await {
                    let frame = FastFrame::text(Payload::Borrowed(next.as_bytes()));
                    if socket.write_frame(frame).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    obey(address, async |text| {
        let text: Arc<str> = text.into();
        clients.lock().unwrap().retain(|client| client.send(Arc::clone(&text)).is_ok());
    })
    .await;
}

/// Answers the opening handshake by hand.
async fn upgraded(mut socket: TcpStream) -> Option<TcpStream> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        socket.read_buf(&mut head).await.ok().filter(|count| 0 < *count)?;
    }
    let head = String::from_utf8(head).ok()?;
    let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "))?;
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        derive_accept_key(key.as_bytes())
    );
    socket.write_all(answer.as_bytes()).await.ok()?;
    Some(socket)
}

async fn socket_io(listener: TcpListener, address: SocketAddr) {
    // Its queue must hold a burst; what does not fit it refuses.
    let (layer, io) = SocketIo::builder().max_buffer_size(1_024).build_layer();
    io.ns("/", async |_: SocketRef| {});
    let router = axum::Router::<()>::new().layer(layer);
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    obey(address, async |text| {
        let _sent = io.emit("m", &text).await.is_ok();
    })
    .await;
}
