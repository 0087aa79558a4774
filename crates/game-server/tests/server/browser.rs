//! Whole games in a real browser, Chromium without a head.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

use fantoccini::{
    Client, ClientBuilder, Locator, elements::Element, error::CmdError, key::Key,
    wd::WebDriverCompatibleCommand,
};
use serde_json::{Value, json};

use crate::support::{Host, eventually, options, start_with};

/// How to get what these tests need.
const INSTALL: &str = "chromedriver is needed: apt-get install chromium chromium-driver";

/// A browser; it ends with this value.
#[derive(Debug)]
struct Browser {
    driver: Child,
    page: Client,
}

impl Browser {
    async fn open(width: u32, height: u32) -> Self {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .spawn()
            .expect(INSTALL);
        let lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = lines.map_while(Result::ok).find_map(|line| {
            let (_, port) = line.split_once("started successfully on port ")?;
            Some(port.trim_end_matches('.').to_owned())
        });
        let window = format!("--window-size={width},{height}");
        let words =
            ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", &window];
        let chrome = json!({"goog:chromeOptions": {"args": words}});
        let mut builder =
            ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new());
        builder.capabilities(chrome.as_object().unwrap().clone());
        let page = builder.connect(&format!("http://127.0.0.1:{}", port.unwrap())).await.unwrap();
        Self { driver, page }
    }

    /// Reads what the page shows; nothing is done by it.
    async fn look(&self) -> Look {
        let script = r##"
            const text = (id) => document.getElementById(id)?.textContent ?? "";
            const all = (css) => [...document.querySelectorAll(css)];
            return {
                prompt: text("prompt"),
                keys: all("#actions [data-key]:not([disabled])").map((it) => it.dataset.key),
                hand: all("#hand [data-piece]").map((it) => it.dataset.piece),
                chosen: all("#hand [aria-pressed=true]").length,
                table: [
                    text("scores").replaceAll(" (you)", ""),
                    ...all("#felt .laid li").map((it) => it.title),
                ].join("|"),
                focus: document.activeElement?.dataset?.key ?? document.activeElement?.id ?? "",
                stops: all("a[href], button:not([disabled]), input, [tabindex='0']")
                    .filter((it) => it.checkVisibility())
                    .map((it) => it.dataset.key ?? it.id),
            };"##;
        serde_json::from_value(self.page.execute(script, Vec::new()).await.unwrap()).unwrap()
    }

    async fn find(&self, css: &str) -> Result<Element, CmdError> {
        self.page.wait().at_most(Duration::from_secs(20)).for_element(Locator::Css(css)).await
    }

    /// Keeps a picture of the page where the environment names a folder for it.
    async fn picture(&self, name: &str) {
        let picture = self.page.screenshot().await.unwrap();
        assert!(picture.starts_with(b"\x89PNG"));
        if let Some(folder) = std::env::var_os("SCREENSHOTS") {
            std::fs::write(std::path::Path::new(&folder).join(name), picture).unwrap();
        }
    }

    /// Returns role and name of everything that can be used, from the accessibility tree.
    async fn controls(&self) -> Vec<(String, String)> {
        let tree = self.page.issue_cmd(AccessibilityTree).await.unwrap();
        let nodes = tree["nodes"].as_array().unwrap().iter();
        let shown = nodes.filter(|node| node["ignored"] == false);
        let control = |node: &Value| {
            let role = node["role"]["value"].as_str()?.to_owned();
            let is_control =
                ["button", "textbox", "link", "checkbox", "combobox"].contains(&role.as_str());
            let name = node["name"]["value"].as_str().unwrap_or_default().to_owned();
            is_control.then_some((role, name))
        };
        shown.filter_map(control).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // First Chromium, which would outlive its driver.
        let mut browser = Command::new("pkill");
        let _ended = browser.args(["-KILL", "-P", &self.driver.id().to_string()]).status().is_ok();
        let _ended = self.driver.kill().is_ok() && self.driver.wait().is_ok();
    }
}

/// Asks Chromium for the accessibility tree, by its own protocol.
#[derive(Debug)]
struct AccessibilityTree;

impl WebDriverCompatibleCommand for AccessibilityTree {
    fn endpoint(
        &self,
        base_url: &url::Url,
        session_id: Option<&str>,
    ) -> Result<url::Url, url::ParseError> {
        base_url.join(&format!("session/{}/goog/cdp/execute", session_id.unwrap_or_default()))
    }

    fn method_and_body(&self, _request_url: &url::Url) -> (http::Method, Option<String>) {
        let body = json!({"cmd": "Accessibility.getFullAXTree", "params": {}});
        (http::Method::POST, Some(body.to_string()))
    }
}

/// What the page shows.
#[derive(Debug, serde::Deserialize)]
struct Look {
    prompt: String,
    keys: Vec<String>,
    hand: Vec<String>,
    chosen: usize,
    /// The scores, and what lies on the table.
    table: String,
    focus: String,
    /// What Tab goes through, in order.
    stops: Vec<String>,
}

/// What a player wants to press next.
#[derive(Debug, PartialEq)]
enum Wish {
    /// A button of the moment.
    Button(String),
    /// A piece of the hand.
    Piece(String),
    /// The game is over.
    Over,
    /// It is not this player's turn.
    Wait,
}

impl Look {
    /// Chooses by what is shown alone, as a person would.
    fn wish(&self) -> Wish {
        let has = |key: &str| self.keys.iter().any(|shown| shown == key);
        if has("again") {
            return Wish::Over;
        }
        if has("keep") {
            return Wish::Button("keep".to_owned());
        }
        let mut numbers = self.keys.iter().filter(|key| key.starts_with("declare-"));
        if let Some(second) = numbers.nth(1) {
            return Wish::Button(second.clone());
        }
        let Some(asked) = self.prompt.strip_prefix("Your turn: ").filter(|_| has("play")) else {
            return Wish::Wait;
        };
        let wanted = asked
            .strip_prefix("put down ")
            .and_then(|rest| rest.split(' ').next()?.parse().ok())
            .unwrap_or(1);
        if self.chosen == wanted {
            return Wish::Button("play".to_owned());
        }
        match self.hand.get(self.chosen) {
            Some(piece) => Wish::Piece(piece.clone()),
            None => Wish::Wait,
        }
    }
}

async fn fast_host() -> Host {
    let fast = game_server::config::Options { bot_delay: Some("10..20".to_owned()), ..options() };
    start_with(fast, infra_core::SystemClock::shared()).await
}

/// Starts a server on the whole stack, where that is built in.
#[cfg(all(feature = "postgres", feature = "redis", feature = "nats", feature = "s3"))]
async fn fast_host_on_servers() -> (Host, crate::stack::Stack) {
    let stack = crate::stack::Stack::start().await;
    let fast = game_server::config::Options { bot_delay: Some("10..20".to_owned()), ..options() };
    (stack.host(fast).await, stack)
}

#[cfg(not(all(feature = "postgres", feature = "redis", feature = "nats", feature = "s3")))]
async fn fast_host_on_servers() -> (Host, ()) {
    (fast_host().await, ())
}

const TRICKY: &str = "<img src=x onerror=document.title='pwned'>";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_game_is_played_by_clicks_and_no_text_becomes_html() {
    let host = fast_host().await;
    let browser = Browser::open(1_280, 1_100).await;
    browser.page.goto(&format!("http://{}/", host.server.addr())).await.unwrap();
    let name = browser.find("#name").await.unwrap();
    name.clear().await.unwrap();
    name.send_keys("Mei Ling").await.unwrap();
    browser.find("#quick").await.unwrap().click().await.unwrap();
    browser.find("#actions [data-key]").await.unwrap();
    let chat = browser.find("#chat-text").await.unwrap();
    chat.send_keys(TRICKY).await.unwrap();
    browser.find("#chat button").await.unwrap().click().await.unwrap();
    let said = Locator::XPath("//ol[@id='feed']//*[contains(., 'onerror')]");
    browser.page.wait().for_element(said).await.unwrap();
    assert_is_text(&browser).await;
    let mut presses = 0;
    let mut is_pictured = false;
    let mut seen = Vec::new();
    loop {
        let look = browser.look().await;
        if seen.last() != Some(&look.table) {
            seen.push(look.table.clone());
        }
        let css = match look.wish() {
            Wish::Over => break,
            Wish::Wait => continue,
            Wish::Button(key) => format!("#actions [data-key='{key}']"),
            Wish::Piece(piece) => format!("#hand [data-piece='{piece}']"),
        };
        if !is_pictured && css.contains("piece") && look.prompt.contains("leads") {
            browser.page.execute("scrollTo(0, 0)", Vec::new()).await.unwrap();
            browser.picture("game.png").await;
            is_pictured = true;
        }
        // What is drawn anew in between cannot be pressed: look again.
        if let Ok(button) = browser.page.find(Locator::Css(&css)).await {
            presses += usize::from(button.click().await.is_ok());
        }
    }
    assert!(20 < presses && is_pictured, "{presses}");
    assert_replayed(&browser, &seen).await;

    assert_counted_and_shown(&host).await;
}

/// The game is on the board of the lobby, and the dashboard shows it from inside.
async fn assert_counted_and_shown(host: &Host) {
    let admin = Browser::open(1_280, 1_100).await;
    eventually("the game is counted", || async {
        host.get("/api/leaderboard").await.2.contains("Mei Ling")
    })
    .await;
    admin.page.goto(&format!("http://{}/", host.server.addr())).await.unwrap();
    let leader = Locator::XPath("//*[@id='best']//th[@scope='row'][.='Mei Ling']");
    admin.page.wait().for_element(leader).await.unwrap();
    admin.page.goto(&format!("http://{}/dashboard", host.server.admin_addr())).await.unwrap();
    admin.find("svg").await.unwrap();
    // The inside is drawn: where all rooms are, and every check with its age.
    admin.find("#machine svg [data-state='completed'][data-active='1']").await.unwrap();
    admin.find("#checks [data-check='events'][data-status='up']").await.unwrap();
    admin.find("#queues [data-queue='archive queue']").await.unwrap();
    admin.find("#limits [data-figure='rooms in memory']").await.unwrap();
    for store in ["events", "documents", "archive", "bus"] {
        let closed = format!("#breakers [data-breaker='{store}'][data-state='closed']");
        admin.find(&closed).await.unwrap();
    }
    // Other tests of this process may be counted too.
    let archived = "//tr[@data-figure='games archived']/td[.!='0']";
    admin.page.wait().for_element(Locator::XPath(archived)).await.unwrap();
    let script = "return [document.querySelectorAll('#rates svg .column').length, \
                  document.querySelectorAll('#latencies svg .column').length, \
                  document.getElementById('games').textContent, \
                  document.querySelector('#checks tbody tr').textContent]";
    let drawn = admin.page.execute(script, Vec::new()).await.unwrap();
    assert!(drawn[0].as_u64().unwrap() > 0 && drawn[1].as_u64().unwrap() > 0, "{drawn}");
    assert!(drawn[2].as_str().unwrap().contains("Played to the end1"), "{drawn}");
    assert!(drawn[3].as_str().unwrap().contains(" ago"), "{drawn}");
    let shown = admin.page.source().await.unwrap();
    assert!(!shown.contains("<img src=\"x\""), "a name was made into HTML");
    admin.picture("dashboard.png").await;
    travel_in_time(&admin).await;
}

/// Steps through the replay of the game, to its end and back: what was seen live comes in its order.
async fn assert_replayed(browser: &Browser, seen: &[String]) {
    browser.find("#actions [data-key='replay']").await.unwrap().click().await.unwrap();
    browser.find("#actions [data-key='replay-forward']:not([disabled])").await.unwrap();
    let mut shown = vec![browser.look().await.table];
    let forward = "document.querySelector(\"[data-key='replay-forward']\").click()";
    while browser.look().await.keys.iter().any(|key| key == "replay-forward") {
        browser.page.execute(forward, Vec::new()).await.unwrap();
        shown.push(browser.look().await.table);
    }
    let mut steps = shown.iter();
    for table in seen {
        assert!(steps.any(|step| step == table), "never replayed, or too late: {table}");
    }
    assert_eq!(shown.last(), seen.last(), "both end alike");
    browser.find("[data-key='replay-back']").await.unwrap().click().await.unwrap();
    assert_eq!(Some(&browser.look().await.table), shown.get(shown.len() - 2));
    browser.find("[data-key='replay-first']").await.unwrap().click().await.unwrap();
    assert_eq!(Some(&browser.look().await.table), shown.first());
    // It goes on by itself, and stops when it is told to.
    let play = || browser.find("[data-key='replay-play']");
    play().await.unwrap().click().await.unwrap();
    browser.find("[data-key='replay-back']:not([disabled])").await.unwrap();
    play().await.unwrap().click().await.unwrap();
    assert_named(browser).await;
    browser.picture("replay.png").await;
    browser.find("[data-key='leave']").await.unwrap().click().await.unwrap();
    // Behind the replay the table is still there.
    browser.find("#actions [data-key='again']").await.unwrap();
}

/// Chooses the room and goes back to its first event and to now again.
async fn travel_in_time(admin: &Browser) {
    admin.find("#rooms button").await.unwrap().click().await.unwrap();
    let shows = async |stage: &str, moment: &str| {
        let picture = format!("#diagram svg[aria-label$=' {stage}']");
        admin.find(&picture).await.unwrap_or_else(|error| panic!("{stage}: {error}"));
        let said = format!("//*[@id='moment'][starts-with(., '{moment}')]");
        admin.page.wait().for_element(Locator::XPath(&said)).await.unwrap();
    };
    shows("completed", "Now").await;
    admin.find("#first").await.unwrap().click().await.unwrap();
    shows("waiting", "Event 1 of ").await;
    let who = admin.find("#seats tbody").await.unwrap().text().await.unwrap();
    assert!(who.contains("Mei Ling") && who.contains("free"), "{who}");
    admin.find("#later").await.unwrap().click().await.unwrap();
    shows("waiting", "Event 2 of ").await;
    // The slider is worked by keys alone: Home, End, arrows.
    let slider = admin.find("#offset").await.unwrap();
    slider.send_keys(&char::from(Key::End).to_string()).await.unwrap();
    shows("completed", "Event ").await;
    let back: String = std::iter::repeat_n(char::from(Key::Left), 2).collect();
    slider.send_keys(&back).await.unwrap();
    shows("scoring", "Event ").await;
    let source = admin.page.source().await.unwrap();
    assert!(!source.contains("\"hand\""), "a hand is on the page");
    assert_named(admin).await;
    admin.find("#now").await.unwrap().click().await.unwrap();
    shows("completed", "Now").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_game_is_played_by_keyboard_on_a_narrow_page_with_every_control_named() {
    let (host, _stack) = fast_host_on_servers().await;
    let browser = Browser::open(500, 844).await;
    // Chromium's own window is at least 500 wide: the page is made narrow as a phone's.
    browser.page.goto("about:blank").await.unwrap();
    browser.page.set_window_size(390, 844).await.unwrap();
    browser.page.goto(&format!("http://{}/", host.server.addr())).await.unwrap();
    browser.find("#name").await.unwrap();
    press_until(&browser, "name").await;
    let name = browser.page.active_element().await.unwrap();
    name.send_keys(&format!("{TRICKY}{}", char::from(Key::Enter))).await.unwrap();
    browser.find("#actions [data-key]").await.unwrap();
    assert_named(&browser).await;
    let mut presses = 0;
    let mut seen = Vec::new();
    loop {
        let look = browser.look().await;
        if seen.last() != Some(&look.table) {
            seen.push(look.table.clone());
        }
        let key = match look.wish() {
            Wish::Over => break,
            Wish::Wait => continue,
            Wish::Button(key) => key,
            Wish::Piece(piece) => format!("piece-{piece}"),
        };
        if look.focus != key {
            step(&browser, &look, &key).await;
            continue;
        }
        if presses % 20 == 0 {
            assert_named(&browser).await;
        }
        let focused = browser.page.active_element().await.unwrap();
        presses += usize::from(focused.send_keys(" ").await.is_ok());
    }
    assert!(20 < presses, "{presses}");
    assert_is_text(&browser).await;
    browser.picture("phone.png").await;
    let width =
        browser.page.execute("return document.documentElement.scrollWidth <= innerWidth", vec![]);
    assert_eq!(width.await.unwrap(), true, "nothing is cut off at the side");
    assert_replayed(&browser, &seen).await;
}

/// Moves the focus to what is wanted: along the hand by arrows, else by Tab.
async fn step(browser: &Browser, look: &Look, wanted: &str) {
    let place = |key: &str| look.stops.iter().position(|stop| stop == key);
    let is_piece = |key: &str| key.starts_with("piece-");
    let (key, times) = match (place(&look.focus), place(wanted)) {
        (Some(here), Some(there)) if is_piece(&look.focus) && is_piece(wanted) => {
            (if there < here { Key::Left } else { Key::Right }, here.abs_diff(there))
        }
        (Some(here), Some(there)) if here < there => (Key::Tab, there - here),
        _ => (Key::Tab, 1),
    };
    let keys: String = std::iter::repeat_n(char::from(key), times).collect();
    let focused = browser.page.active_element().await.unwrap();
    // The element may be drawn anew in between; then the next look tells where the focus is.
    let _moved = focused.send_keys(&keys).await.is_ok();
}

/// Presses Tab until an element of this id has the focus.
async fn press_until(browser: &Browser, id: &str) {
    for _ in 0..40 {
        if browser.look().await.focus == id {
            return;
        }
        let focused = browser.page.active_element().await.unwrap();
        focused.send_keys(&char::from(Key::Tab).to_string()).await.unwrap();
    }
    panic!("`{id}` cannot be reached by Tab");
}

/// What was typed stands on the page as it was typed.
async fn assert_is_text(browser: &Browser) {
    let script = "return [document.title, document.querySelectorAll('#room img').length, \
                  document.getElementById('room').textContent]";
    let seen = browser.page.execute(script, Vec::new()).await.unwrap();
    assert_ne!(seen[0], "pwned");
    assert_eq!(seen[1], 0, "a text was made into HTML");
    let shown = seen[2].as_str().unwrap();
    assert!(shown.contains("<img src=x onerror="), "{shown}");
}

async fn assert_named(browser: &Browser) {
    let controls = browser.controls().await;
    assert!(5 < controls.len(), "{controls:?}");
    let nameless: Vec<_> = controls.iter().filter(|(_, name)| name.trim().is_empty()).collect();
    assert!(nameless.is_empty(), "without a name: {nameless:?} of {controls:?}");
}
