//! A chat in the browser: open the printed address twice, and stop and start this program meanwhile.
//!
//! `cargo run -p infra-ws --example chat --features axum`

use std::{net::SocketAddr, sync::Arc};

use async_trait::async_trait;
use axum::{
    Router,
    extract::State,
    http::header::CONTENT_TYPE,
    response::{Html, Response},
    routing::{any, get},
};
use infra_core::{SystemClock, lifecycle::Shutdown};
use infra_ws::{
    Facts, Hub, Options, OriginPolicy, browser,
    extract::Upgrade,
    history::{Bounds, MemoryHistory},
    layer::{Layered, Validate},
    room::{Denied, Identity, Published, Role, RoomHandler, RoomOptions, RoomServer, TokenBook},
    token::KeyRing,
    wire::{Code, JSON},
};
use serde_json::{Value, json};

/// Everybody with a name may say something of at most 500 letters.
#[derive(Debug)]
struct Chat;

#[async_trait]
impl RoomHandler for Chat {
    async fn authenticate(&self, token: &str, _: &Facts) -> Result<Identity, Denied> {
        match token.trim() {
            "" => Err(Denied::new(Code::Unauthenticated, "a name is needed")),
            name => Ok(Identity::user(name)),
        }
    }

    async fn may_enter(&self, _: &Identity, _: &str) -> Result<Role, Denied> {
        Ok(Role::Spectator)
    }

    async fn publish(&self, who: &Identity, _: &str, data: Value) -> Result<Published, Denied> {
        match data.as_str() {
            Some(text) if text.chars().count() <= 500 => {
                Ok(Published::Event(json!({"by": who.user, "text": text})))
            }
            _ => Err(Denied::new(Code::Denied, "at most 500 letters")),
        }
    }
}

type App = Layered<RoomServer<Chat>>;

const PAGE: &str = r"<!doctype html><meta charset=utf-8><title>chat</title>
<ol id=said></ol><form><input id=text autofocus maxlength=500><button>Say</button></form>
<p id=status></p><script type=module src=/chat.js></script>";

const SCRIPT: &str = r#"
import { Rooms } from "./rooms.js";
const byId = (id) => document.getElementById(id);
const show = (text) => byId("said").append(Object.assign(document.createElement("li"), { textContent: text }));
const name = prompt("Your name?") || "nobody";
const rooms = new Rooms({
  url: `ws://${location.host}/ws`,
  token: () => name,
  onEvent: (room, { data }) => show(`${data.by}: ${data.text}`),
  onJoined: (room, { recovered }) => recovered.outcome === "not_recovered" && show("(something is missing here)"),
  onPresence: (room, { joined, left }) => show(`+ ${joined.map(({ user }) => user)} - ${left}`),
  onStatus: ({ kind }) => (byId("status").textContent = kind),
});
rooms.join("lobby");
rooms.start();
document.querySelector("form").addEventListener("submit", (event) => {
  event.preventDefault();
  rooms.publish("lobby", byId("text").value).then(() => (byId("text").value = ""), ({ message }) => show(message));
});
"#;

async fn socket(State((hub, app)): State<(Arc<Hub>, Arc<App>)>, upgrade: Upgrade) -> Response {
    upgrade.serve(&hub, &app)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (clock, shutdown) = (SystemClock::shared(), Shutdown::new());
    let options = Options::new(OriginPolicy::same_host()).protocol(JSON);
    let hub = Hub::new(options, Arc::clone(&clock), shutdown);
    let history = Arc::new(MemoryHistory::new(Bounds::new(), Arc::clone(&clock)));
    let tokens = TokenBook::in_memory(KeyRing::generate()?, clock);
    let rooms = RoomServer::new(Arc::clone(&hub), Chat, history, tokens, RoomOptions::new());
    let app = Arc::new(Layered::new(rooms).layer(Validate::text()));

    let script = |text: &'static str| {
        get(move || async move { ([(CONTENT_TYPE, "text/javascript")], text) })
    };
    let router = Router::new()
        .route("/ws", any(socket))
        .with_state((hub, app))
        .route("/", get(|| async { Html(PAGE) }))
        .route("/chat.js", script(SCRIPT))
        .route("/link.js", script(browser::LINK))
        .route("/rooms.js", script(browser::ROOMS))
        .route("/delta.js", script(browser::DELTA));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:9000").await?;
    #[expect(clippy::print_stdout, reason = "it tells where to look")]
    {
        println!("http://{}/", listener.local_addr()?);
    }
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    Ok(axum::serve(listener, service).await?)
}
