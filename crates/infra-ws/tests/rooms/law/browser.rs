//! The client of the browser, in Chromium without a head.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use async_trait::async_trait;
use axum::{
    Router,
    http::header::CONTENT_TYPE,
    response::{Html, IntoResponse},
    routing::get,
};
use fantoccini::{Client, ClientBuilder};
use infra_core::random::Random;
use infra_ws::{OriginPolicy, browser, sync};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{
    clients::{Listener, Told, check},
    seeds,
    site::{Nodes, ROOM},
};
use crate::{
    client::{Way, serve_in},
    support::PATIENCE,
};

/// How to get what these tests need.
const INSTALL: &str = "chromedriver is needed: apt-get install chromium chromium-driver";

const PAGE: &str = "<!doctype html><title>rooms</title><script type=module src=/page.js></script>";

/// What the page does with the modules.
const SCRIPT: &str = r#"
import { Link } from "./link.js";
import { Rooms } from "./rooms.js";
import { apply, hash } from "./delta.js";

let rooms = null;
window.told = [];
window.begin = (url, user, room) => {
  rooms?.stop();
  window.told = [];
  window.state = null;
  rooms = new Rooms({
    url,
    token: () => user,
    link: { firstPause: 5, longestPause: 50 },
    onJoined: (room, { from, recovered }) => told.push({ from, recovered }),
    onEvent: (room, { data }) => told.push({ place: rooms.place(room), data }),
    onState: (room, part, state) => (window.state = state),
    onRefused: (room, { code, message }) => told.push({ refused: `${code}: ${message}` }),
  });
  rooms.join(room);
  rooms.follow(room);
  rooms.start();
};
window.tries = (url, [patience, welcomeWithin], room) => {
  rooms?.stop();
  window.pauses = [];
  rooms = new Rooms({
    url,
    token: () => "ann",
    patience,
    link: { patience: welcomeWithin, firstPause: 1, random: () => 1 },
    onStatus: ({ kind, pause, reason }) => kind === "waiting" && pauses.push({ pause, reason }),
  });
  if (room !== null) rooms.join(room);
  rooms.start();
};
window.knocks = (codes) => new Promise((done) => {
  const [Socket, later] = [window.WebSocket, window.setTimeout];
  const pauses = [];
  let [clock, timer] = [0, null];
  window.setTimeout = (task) => (timer = task);
  window.WebSocket = class {
    constructor() {
      queueMicrotask(() => this.onclose({ code: codes[pauses.length], reason: "" }));
    }
    close() {}
  };
  const onStatus = ({ kind, pause }) => {
    if (kind !== "waiting") return;
    pauses.push(pause);
    clock += pause;
    if (pauses.length < codes.length) {
      queueMicrotask(() => timer());
      return;
    }
    [window.WebSocket, window.setTimeout] = [Socket, later];
    done(pauses);
  };
  new Link({ url: "", random: () => 1, now: () => clock, onStatus }).start();
});
window.ask = (method, data, room) => rooms.request(method, data, room).catch(({ code }) => code);
window.publish = (room, data) => rooms.publish(room, data);
window.judge = (cases) => Promise.all(cases.map(async ([before, patch, after, wanted]) => {
  const result = apply(before, patch);
  return (await hash(result)) === wanted && (await hash(after)) === wanted;
}));
window.isReady = true;
"#;

/// The process that drives a browser; both end with this value.
#[derive(Debug)]
struct Driver(Child);

impl Drop for Driver {
    fn drop(&mut self) {
        // First its browser, which would outlive it.
        let mut browser = Command::new("pkill");
        let _ended = browser.args(["-KILL", "-P", &self.0.id().to_string()]).status().is_ok();
        let _ended = self.0.kill().is_ok() && self.0.wait().is_ok();
    }
}

/// A browser with the page open.
#[derive(Debug)]
struct Browser {
    page: Client,
    _driver: Driver,
}

impl Browser {
    async fn open(url: &str) -> Self {
        let mut command = Command::new("chromedriver");
        command.arg("--port=0").stdout(Stdio::piped());
        // It is held from here on, so that no panic leaves it behind.
        let mut driver = Driver(command.spawn().expect(INSTALL));
        let lines = BufReader::new(driver.0.stdout.take().unwrap()).lines();
        let port = lines.map_while(Result::ok).find_map(|line| {
            let (_, port) = line.split_once("started successfully on port ")?;
            Some(port.trim_end_matches('.').to_owned())
        });
        let words = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"];
        let chrome = json!({"goog:chromeOptions": {"args": words}});
        let connector = hyper_util::client::legacy::connect::HttpConnector::new();
        let mut builder = ClientBuilder::new(connector);
        builder.capabilities(chrome.as_object().unwrap().clone());
        let page = builder.connect(&format!("http://127.0.0.1:{}", port.unwrap())).await.unwrap();
        page.goto(url).await.unwrap();
        let browser = Self { page, _driver: driver };
        while browser.run("return window.isReady === true", Vec::new()).await != json!(true) {}
        browser
    }

    async fn run(&self, script: &str, words: Vec<Value>) -> Value {
        self.page.execute(script, words).await.unwrap()
    }

    /// Runs a script that promises its answer.
    async fn promise(&self, call: &str, words: Vec<Value>) -> Value {
        let script = format!("const done = [...arguments].pop(); {call}.then(done)");
        self.page.execute_async(&script, words).await.unwrap()
    }
}

#[async_trait]
impl Listener for Browser {
    async fn begin(&mut self, url: &str, user: &str) {
        self.run("begin(...arguments)", vec![json!(url), json!(user), json!(ROOM)]).await;
    }

    async fn told(&mut self) -> Vec<Told> {
        let told = self.run("return told.splice(0)", Vec::new()).await;
        let read = |told: &Value| {
            assert!(told["refused"].is_null(), "{told}");
            if told["recovered"].is_null() {
                let place = serde_json::from_value(told["place"].clone()).unwrap();
                return Told::Event { place, data: told["data"].clone() };
            }
            let from = serde_json::from_value(told["from"].clone()).unwrap();
            let recovered = serde_json::from_value(told["recovered"].clone()).unwrap();
            Told::Joined { from, recovered }
        };
        told.as_array().unwrap().iter().map(read).collect()
    }

    async fn state(&mut self) -> Value {
        self.run("return state", Vec::new()).await
    }
}

/// Serves the page with the modules beside it.
async fn page() -> SocketAddr {
    let script = |text: &'static str| {
        get(move || async move { ([(CONTENT_TYPE, "text/javascript")], text).into_response() })
    };
    let router = Router::new()
        .route("/", get(|| async { Html(PAGE) }))
        .route("/page.js", script(SCRIPT))
        .route("/link.js", script(browser::LINK))
        .route("/rooms.js", script(browser::ROOMS))
        .route("/delta.js", script(browser::DELTA));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_of_the_browser_hears_everything_in_order_or_is_told() {
    let origin = format!("http://{}", page().await);
    let mut browser = Browser::open(&origin).await;
    for seed in seeds("WS_BROWSER_SEEDS", 3) {
        let mut site = Nodes::for_pages_of(&origin).await;
        check(seed, &mut site, &mut browser).await;
        site.end().await;
    }

    let site = Nodes::for_pages_of(&origin).await;
    browser.begin(&site.url(0), "user-1").await;
    while browser.told().await.is_empty() {}
    let said = browser.promise("publish(...arguments)", vec![json!(ROOM), json!("hello")]).await;
    assert_eq!(said["place"]["offset"], 1);
    let refused = browser.promise("ask(...arguments)", vec![json!("unknown")]).await;
    assert_eq!(refused, "not_found", "this server answers no question");

    let (random, mut cases) = (Random::seeded(7), Vec::new());
    for _ in 0..100 {
        let (before, after) = (value(&random, 4), value(&random, 4));
        let patch = sync::diff(&before, &after);
        cases.push(json!([before, patch, after, sync::hash(&after)]));
    }
    // As text, so that the driver makes nothing else of a name like `__proto__`.
    let text = serde_json::to_string(&cases).unwrap();
    let judged = browser.promise("judge(JSON.parse(arguments[0]))", vec![json!(text)]).await;
    assert_eq!(judged, json!(vec![true; cases.len()]), "the browser's state is the server's");
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_of_the_browser_waits_for_no_answer_for_ever_and_longer_for_a_room() {
    let origin = format!("http://{}", page().await);
    let browser = Browser::open(&origin).await;
    let tries = async |way, patience: [u64; 2], room: Option<&str>| {
        let url = serve_in(way, OriginPolicy::listed([&*origin])).await;
        browser.run("tries(...arguments)", vec![json!(url), json!(patience), json!(room)]).await;
    };
    let pauses = async |count: usize| {
        let enough = async {
            loop {
                let pauses = browser.run("return pauses", Vec::new()).await;
                if count <= pauses.as_array().unwrap().len() {
                    return pauses;
                }
            }
        };
        tokio::time::timeout(PATIENCE * 3, enough).await.expect("it pauses")
    };

    // The browser may be slow: only what is waited for has a short time.
    let (short, long) = (300, 600_000);
    tries(Way::Mute, [short, long], None).await;
    let code = async {
        loop {
            let code = browser.promise("ask(...arguments)", vec![json!("echo")]).await;
            // Until it is connected, what is asked is lost.
            if code != "lost" {
                return code;
            }
        }
    };
    assert_eq!(tokio::time::timeout(PATIENCE * 3, code).await.unwrap(), "unanswered");
    assert_eq!(pauses(0).await, json!([]), "the connection goes on");

    tries(Way::Mute, [short, long], Some("room")).await;
    assert_eq!(pauses(1).await[0]["reason"], "no answer in time");
    tries(Way::Strange, [long, short], None).await;
    assert_eq!(pauses(1).await[0]["reason"], "no welcome in time");

    tries(Way::Unavailable, [long, long], Some("room")).await;
    for (pause, wanted) in pauses(5).await.as_array().unwrap().iter().zip([1, 2, 4, 8, 16]) {
        assert_eq!(*pause, json!({"pause": wanted, "reason": "no room now"}));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_of_the_browser_looks_for_a_server_that_is_away_with_short_pauses() {
    let browser = Browser::open(&format!("http://{}", page().await)).await;
    let pauses = async |codes: Vec<u16>| -> Vec<u64> {
        let pauses = browser.promise("knocks(...arguments)", vec![json!(codes)]).await;
        serde_json::from_value(pauses).unwrap()
    };
    let away = pauses([vec![1012], vec![1006; 37]].concat()).await;
    assert_eq!(away[0], 500);
    assert!(away[1..31].iter().all(|pause| *pause == 1_000), "for half a minute: {away:?}");
    assert_eq!(away[31..], [500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000]);
    let busy = pauses(vec![1013, 1013, 1013, 1006]).await;
    assert_eq!(busy, [500, 1_000, 2_000, 500], "what is told apart is counted apart");
}

/// Makes a random value; its names are such as trip up whoever sorts or escapes them otherwise.
fn value(random: &Random, depth: u64) -> Value {
    let names = ["a", "b/c", "d~e", "é", "\u{ffff}", "\u{1f3b2}", "__proto__", "10", "9", ""];
    match random.below(if depth == 0 { 4 } else { 7 }) {
        0 => Value::Null,
        1 => json!(random.below(3) == 0),
        2 => json!(random.below(1_000)),
        3 => json!("\u{1f3b2}\n\"\\/\u{7f}é"),
        4 => (0..random.below(5)).map(|_| value(random, depth - 1)).collect(),
        _ => {
            let chosen = names.iter().filter(|_| random.below(2) == 0);
            chosen.map(|name| ((*name).to_owned(), value(random, depth - 1))).collect()
        }
    }
}
