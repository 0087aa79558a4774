//! A client that is cut off again and again sees every event that is meant for it once, in order.

use std::time::Duration;

use game_server::domain::{Event, Room, Seat, Viewer, view};
use infra_core::{SystemClock, event::RecordedEvent, machine::StateMachine};
use infra_testkit::{
    proxy::{FaultProxy, Faults},
    seed::Seed,
};
use rand::RngExt as _;
use serde_json::{Value, json};

use crate::{
    player::{Player, number, text},
    support::{act, options, start_with, until},
};

/// How often the client comes back.
const RESUMES: usize = 200;

/// The most events that a resume brings in this test.
const LIMIT: u32 = 6;

/// How long nothing is said before the client gives its connection up.
const QUIET: Duration = Duration::from_millis(15);

/// What the cut client was told, in order.
#[derive(Debug, Default)]
struct Told {
    events: Vec<(u64, Value)>,
    states: Vec<(usize, Value)>,
    resumes: usize,
    missed: u64,
    too_old: usize,
}

impl Told {
    fn hear(&mut self, message: &Value) {
        match text(message, "type") {
            "event" => self.events.push((number(message, "offset"), message["event"].clone())),
            "joined" => {
                self.states.push((self.events.len(), message["state"].clone()));
                if message["why"] == "too_old" {
                    self.resumes += 1;
                    self.too_old += 1;
                }
            }
            "resumed" => {
                self.resumes += 1;
                self.missed += number(message, "missed");
            }
            "error" | "not_resumed" => panic!("{message}"),
            _ => {}
        }
    }
}

/// A client that keeps its last action until it is answered.
#[derive(Debug)]
struct Cut {
    player: Player,
    told: Told,
    number: u64,
    pending: Option<Value>,
    patience: Duration,
}

impl Cut {
    /// Takes messages and acts until the connection is cut; returns whether the game is over.
    async fn go_on(&mut self) -> bool {
        // Where nobody says anything more, the connection is given up as well.
        while let Ok(Some(message)) = self.player.within(self.patience).await {
            self.told.hear(&message);
            self.player.take(&message).unwrap();
            match text(&message, "type") {
                "resumed" | "joined" => {
                    if let Some(pending) = self.pending.clone() {
                        let _sent = self.player.say(&pending).await.is_ok();
                    }
                }
                "ack" | "refused" if number(&message, "action") == self.number => {
                    assert!(message["retry_after_ms"].is_null(), "{message}");
                    self.pending = None;
                }
                _ => {}
            }
            if self.player.known.table.is_over && self.pending.is_none() {
                return true;
            }
            if self.pending.is_none()
                && let Some(mut choice) = self.player.known.table.choose()
            {
                self.number += 1;
                choice["action"] = json!(self.number);
                self.pending = Some(choice.clone());
                // A cut shows at the next read.
                let _sent = self.player.say(&choice).await.is_ok();
            }
        }
        false
    }

    /// Listens until everything up to `offset` was told.
    async fn listen(&mut self, offset: usize) {
        let is_told = |told: &Told| {
            let event = told.events.last().map_or(0, |(offset, _)| *offset);
            let state = told.states.last().map_or(0, |(_, state)| number(state, "offset"));
            usize::try_from(event.max(state)).unwrap() >= offset
        };
        while !is_told(&self.told) {
            let message = self.player.within(self.patience).await.unwrap().expect("closed");
            self.told.hear(&message);
        }
    }
}

/// Plays until its room's game is over, and talks while the other one is away.
async fn talk(mut player: Player) {
    let (mut action, mut words) = (0, 0);
    while !player.known.table.is_over {
        let mut choice = player.known.table.choose();
        if choice.is_none() {
            let message = player.within(Duration::from_mins(2)).await.unwrap().expect("closed");
            player.take(&message).unwrap();
            if message["connected"][0] == false && words < 40 {
                words += 1;
                choice = Some(json!({"type": "chat", "text": "well"}));
            }
        }
        let Some(mut choice) = choice else { continue };
        action += 1;
        choice["action"] = json!(action);
        while let Some(pause) = act(&mut player, &choice).await["retry_after_ms"].as_u64() {
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }
}

/// Compares what was told with the log, seen with the eyes of seat 0.
fn audit(told: &Told, log: &[RecordedEvent]) {
    let viewer = Viewer::Seat(Seat::ALL[0]);
    let mut room = Room::default();
    let mut views = vec![Value::Null];
    let mut states = vec![Value::Null];
    for recorded in log {
        let event: Event = recorded.event.payload.decode().unwrap();
        room.evolve(&event);
        views.push(serde_json::to_value(view(&event, viewer)).unwrap());
        states.push(serde_json::to_value(room.view(viewer)).unwrap());
    }
    let mut next = 0;
    let mut whole = told.states.iter().peekable();
    for (index, (offset, event)) in told.events.iter().enumerate() {
        while let Some((_, state)) = whole.next_if(|(before, _)| *before <= index) {
            let offset = number(state, "offset");
            assert_eq!(state, &states[usize::try_from(offset).unwrap()], "the state at {offset}");
            assert!(next <= offset + 1, "a state goes back to {offset}");
            next = offset + 1;
        }
        assert_eq!(*offset, next, "each event once, in order");
        assert_eq!(event, &views[usize::try_from(*offset).unwrap()], "event {offset}");
        next += 1;
    }
    assert_eq!(next, log.len() as u64 + 1, "every event up to the last");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_resumes_200_times_sees_every_event_once_in_order() {
    let mut dice = Seed(41).dice();
    let options = game_server::config::Options {
        connections_per_address: Some(2_000),
        resume_events: Some(LIMIT),
        ..options()
    };
    let host = start_with(options, SystemClock::shared()).await;
    let proxy = FaultProxy::start(host.server.addr()).await.unwrap();
    let mut player = Player::connect(proxy.addr()).await.unwrap();
    player.say(&json!({"type": "create_room", "name": "Cut"})).await.unwrap();
    let joined = until(&mut player, "joined").await;
    let room = player.known.room.clone();
    let mut cut = Cut { player, told: Told::default(), number: 1, pending: None, patience: QUIET };
    cut.told.hear(&joined);
    let talking = tokio::spawn(talk(host.guest(&room, "Talk").await));
    cut.pending = Some(json!({"type": "start", "action": 1}));
    cut.player.say(cut.pending.as_ref().unwrap()).await.unwrap();
    proxy.cut();

    while cut.told.resumes < RESUMES {
        cut.go_on().await;
        // In the middle of what it hears, or of what it says.
        let (down, up) = (dice.random_range(1..7_000), dice.random_range(1..4_000));
        let is_up = dice.random_bool(0.3);
        proxy.set(Faults {
            cut_after: (!is_up).then_some(down),
            cut_up_after: is_up.then_some(up),
            ..Faults::default()
        });
        let mut known = cut.player.known.clone();
        if cut.told.too_old == 0 && RESUMES / 2 < cut.told.resumes {
            // It has forgotten all but the first event.
            known.table.offset = 1;
        }
        if let Ok(again) = Player::come_back(proxy.addr(), known).await {
            cut.player = again;
        }
    }
    proxy.set(Faults::default());
    proxy.cut();
    cut.patience = Duration::from_secs(20);
    // What a cut connection had still to read may say that the game is over: only one that is whole counts.
    loop {
        cut.player = Player::come_back(proxy.addr(), cut.player.known).await.unwrap();
        if cut.go_on().await {
            break;
        }
    }
    talking.await.unwrap();
    cut.listen(host.log_of(&room).await.len()).await;
    assert!(
        0 < cut.told.missed && 0 < cut.told.too_old,
        "{:?}",
        (cut.told.missed, cut.told.too_old)
    );
    audit(&cut.told, &host.log_of(&room).await);
    println!(
        "{} resumes, {} missed, {} too old",
        cut.told.resumes, cut.told.missed, cut.told.too_old
    );
}
