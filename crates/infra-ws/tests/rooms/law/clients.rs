//! The law, held against clients that come back by themselves: ours of Rust, and of the browser.

use std::time::Duration;

use async_trait::async_trait;
use infra_core::{backoff::Backoff, context::Context, random::Random, trace::TraceContext};
use infra_ws::{
    client::{Heard, Rooms, RoomsOptions},
    history::{Place, Window},
    suite::{Breach, Published, Site, Trouble, Viewer},
    wire::{Event, Recovered, ServerMessage},
};
use serde_json::{Value, json};

use super::{
    seeds,
    site::{Nodes, REPLAY, ROOM, Way},
};

const USER: &str = "user-1";

/// What a client told its application.
#[derive(Debug)]
pub(super) enum Told {
    Joined { from: Place, recovered: Recovered },
    Event { place: Place, data: Value },
}

/// A client that enters the room, follows its state, and comes back by itself.
#[async_trait]
pub(super) trait Listener: Send {
    async fn begin(&mut self, url: &str, user: &str);

    /// Returns what it told since it was asked last.
    async fn told(&mut self) -> Vec<Told>;

    /// Returns the state of the room as it has it.
    async fn state(&mut self) -> Value;
}

/// Drives a site and a client of it by a seed.
pub(super) async fn check(seed: u64, site: &mut Nodes, listener: &mut impl Listener) {
    let random = Random::seeded(seed);
    let mut run = Run {
        site,
        listener,
        viewer: Viewer::new(USER),
        published: Published::default(),
        before: None,
    };
    // The stream begins anew with each seed, and so does the client.
    run.site.trouble(Trouble::Renew).await;
    run.listener.begin(&run.site.url(0), USER).await;
    let mut state = json!({});
    let mut number = 0;
    for _ in 0..25 {
        let node = usize::try_from(random.below(2)).unwrap();
        match random.below(100) {
            0..45 => {
                for _ in 0..=random.below(6) {
                    number += 1;
                    let event = json!({"n": number, "for": random.below(4)});
                    let place = run.site.publish(node, &event).await.unwrap();
                    run.published.note(&place, event).unwrap();
                }
                state = json!({"n": number, "list": (0..number % 5).collect::<Vec<_>>(),
                    "é~/\u{1f3b2}": {"seed": seed, "same": "x".repeat(40)}});
                run.site.set_state(0, state.clone()).await;
            }
            45..60 => run.site.cut(0),
            60..66 => run.site.trouble(Trouble::Lose).await,
            66..72 => run.site.trouble(Trouble::Disorder).await,
            72..77 => run.site.trouble(Trouble::Frail).await,
            77..82 => {
                // What was said of the stream before is heard first, so that it can be judged.
                run.settle(seed).await;
                run.before = run.site.window().await.ok();
                run.site.trouble(Trouble::Renew).await;
            }
            82..90 => run.site.trouble(Trouble::Calm).await,
            _ => tokio::time::sleep(Duration::from_millis(20)).await,
        }
        run.listen(seed).await;
    }
    run.settle(seed).await;
    for _ in 0..2_000 {
        // It may come back from the last cut only now; what it tells then is judged like the rest.
        if number == 0 || run.listener.state().await == state {
            return run.come_to_the_end(seed).await;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("seed {seed}: the state is {} and not {state}", run.listener.state().await);
}

struct Run<'a, L> {
    site: &'a mut Nodes,
    listener: &'a mut L,
    viewer: Viewer,
    published: Published,
    /// The stream before it began anew: its last answers may be heard later.
    before: Option<Window>,
}

impl<L: Listener> Run<'_, L> {
    async fn listen(&mut self, seed: u64) {
        for told in self.listener.told().await {
            let judged = self.judge(&told).await;
            assert_eq!(judged, Ok(()), "seed {seed}: {told:?}");
        }
    }

    async fn judge(&mut self, told: &Told) -> Result<(), Breach> {
        let kept = self.site.window().await.unwrap();
        match told {
            Told::Joined { from, recovered } => {
                // A client that comes back before what it was promised has come asks again.
                self.viewer.reconnect(&self.published);
                let claim = self.viewer.seen().cloned();
                let said = (from, *recovered);
                let before = self.before.as_ref().filter(|before| before.epoch == from.epoch);
                let kept = before.unwrap_or(&kept);
                self.viewer.joined(claim.as_ref(), said, (kept, kept), REPLAY)
            }
            Told::Event { place, data } => {
                let event = Event { offset: place.offset, data: data.clone() };
                let (room, epoch) = (ROOM.to_owned(), place.epoch.clone());
                let message = ServerMessage::Events { room, epoch, events: vec![event] };
                let view = |user: &str, event: &Value| self.site.view(user, event);
                self.viewer.hear(&message, &self.published, &kept, view)
            }
        }
    }

    /// Ends the trouble; the client must come to the end of the stream by itself.
    async fn settle(&mut self, seed: u64) {
        self.site.trouble(Trouble::Calm).await;
        self.site.cut(0);
        self.come_to_the_end(seed).await;
    }

    /// Waits until the client has come to the end of the stream.
    async fn come_to_the_end(&mut self, seed: u64) {
        let mut settled = Ok(());
        for _ in 0..2_000 {
            self.listen(seed).await;
            let kept = self.site.window().await.unwrap();
            settled = self.viewer.settled(&kept);
            if settled.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(settled, Ok(()), "seed {seed}");
    }
}

/// The client of Rust.
#[derive(Debug, Default)]
struct Native {
    rooms: Option<Rooms>,
    /// What was heard and not yet asked for.
    told: Vec<Told>,
    state: Value,
}

#[async_trait]
impl Listener for Native {
    async fn begin(&mut self, url: &str, user: &str) {
        let user = user.to_owned();
        let backoff = Backoff::exponential(Duration::from_millis(5));
        let options = RoomsOptions::new(url, move || user.clone())
            .backoff(backoff.capped_at(Duration::from_millis(50)))
            .seed(7);
        let rooms = Rooms::start(options);
        rooms.join(ROOM, None, None).await.unwrap();
        rooms.follow(ROOM).await.unwrap();
        *self = Self { rooms: Some(rooms), ..Self::default() };
    }

    async fn told(&mut self) -> Vec<Told> {
        self.hear().await;
        std::mem::take(&mut self.told)
    }

    async fn state(&mut self) -> Value {
        self.hear().await;
        self.state.clone()
    }
}

impl Native {
    async fn hear(&mut self) {
        let rooms = self.rooms.as_mut().unwrap();
        while let Ok(heard) = tokio::time::timeout(Duration::from_millis(3), rooms.next()).await {
            let heard = heard.expect("it is never stopped");
            if let Heard::Joined { from, recovered, .. } = heard {
                self.told.push(Told::Joined { from, recovered });
            } else if let Heard::Event { place, data, .. } = heard {
                self.told.push(Told::Event { place, data });
            } else if let Heard::State { state, .. } = heard {
                self.state = state;
            } else {
                assert!(!matches!(heard, Heard::Refused { .. }), "{heard:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_of_rust_hears_everything_in_order_or_is_told_through_a_proxy_that_cuts() {
    for seed in seeds("WS_CLIENT_SEEDS", 5) {
        let mut site = Nodes::start(Way::Proxy).await;
        check(seed, &mut site, &mut Native::default()).await;
        site.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_of_rust_stays_while_it_hears_pings_and_asks_what_it_wants() {
    let quick = Duration::from_millis(20);
    let change = |setup: &mut crate::support::Setup| {
        // By the clock of this server all pongs come in one heartbeat.
        let options = setup.options.clone().control_frames(10_000);
        setup.options = options.heartbeat(quick, Duration::from_mins(1));
    };
    let server = crate::support::Server::with(change, |app| app).await;
    let url = format!("ws://{}/", server.address);
    let options = RoomsOptions::new(url, || "ann".to_owned()).patience(Duration::from_secs(2));
    assert!(format!("{options:?}").contains("ws://"));
    let mut rooms = Rooms::start(options);
    assert_eq!(rooms.next().await, Some(Heard::Connected("ann".to_owned())));
    let next = tokio::time::timeout(Duration::from_secs(5), rooms.next()).await;
    assert!(next.is_err(), "pings are signs of life: {next:?}");

    rooms.join("secret", None, None).await.unwrap();
    assert!(matches!(rooms.next().await, Some(Heard::Joined { .. })));
    assert_eq!(rooms.publish("secret", json!(1)).await.unwrap().unwrap().offset, 1);
    let passing = rooms.publish("secret", json!({"passing": "psst"})).await.unwrap();
    assert_eq!(passing, None, "it has no place");
    let rude = rooms.publish("secret", json!({"rude": true})).await.unwrap_err();
    assert_eq!(rude.kind(), &infra_core::ErrorKind::Denied);
    let echo = rooms.request(None, "echo", json!([7])).await.unwrap();
    assert_eq!(echo["data"], json!([7]));
    let trace = TraceContext::root(&Random::seeded(1), true);
    let asked = rooms.request(None, "trace", json!(null));
    let seen = Context::default().trace(trace).scope(asked).await.unwrap();
    assert_eq!(seen, json!(trace), "a question is of the trace in which it is asked");
    let unknown = rooms.request(None, "unknown", json!(null)).await.unwrap_err();
    assert_eq!(unknown.kind(), &infra_core::ErrorKind::NotFound);
    let deep = (0..40).fold(json!(1), |inner, _| json!([inner]));
    let lost = rooms.publish("secret", deep).await.unwrap_err();
    assert_eq!(lost.kind(), &infra_core::ErrorKind::Indeterminate, "whose it is cannot be read");
    rooms.leave("secret").await.unwrap();
    let gone = rooms.publish("secret", json!(1)).await.unwrap_err();
    assert_eq!(gone.kind(), &infra_core::ErrorKind::NotFound);

    let url = format!("ws://{}/", server.address);
    let mut bob = Rooms::start(RoomsOptions::new(url, || "bob".to_owned()));
    bob.join("secret", None, None).await.unwrap();
    let refused = async {
        loop {
            if let Some(Heard::Refused { room, code }) = bob.next().await {
                return (room, code);
            }
        }
    };
    let refused = tokio::time::timeout(Duration::from_secs(20), refused).await.unwrap();
    assert_eq!(refused, ("secret".to_owned(), infra_ws::wire::Code::Denied));
    server.rooms.revoke("bob", None, &infra_ws::Close::REVOKED).await;
    let stopped = tokio::time::timeout(Duration::from_secs(20), bob.next()).await.unwrap();
    assert!(matches!(stopped, Some(Heard::Stopped(close)) if close.code == 4012));
    assert_eq!(bob.next().await, None);
    let closed = bob.publish("secret", json!(1)).await.unwrap_err();
    assert_eq!(closed.kind(), &infra_core::ErrorKind::Closed);
}
