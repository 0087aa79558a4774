//! Feeds spoilt bytes to everything that reads what clients and servers send, for so many seconds.
//!
//! `cargo run --release -p infra-ws --example fuzz -- SECONDS [SEED]`
//!
//! Each input is one that is good, of which some bytes are changed, cut, repeated or put in from
//! another one; nothing may panic, take long, or take a token that was changed.

use std::time::{Duration, Instant};

use infra_core::{clock::Timestamp, random::Random};
use infra_ws::{
    Inbound,
    sync::{self, Document, Replica, Update},
    token::{Claims, KeyRing},
    wire::{ClientMessage, Codec, ServerMessage},
};
use serde_json::{Value, json};

/// The longest that one input may take, and how often one that took longer is tried again.
const PATIENCE: Duration = Duration::from_secs(2);
const TRIES: usize = 10;

#[expect(clippy::print_stdout, clippy::disallowed_methods, reason = "a program for people")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let seconds: u64 = words.next().ok_or("SECONDS are needed")?.parse()?;
    let seed = words.next().map_or(Ok(1), |word| word.parse())?;
    let (random, ring) = (Random::seeded(seed), KeyRing::from_secret([7; 32]));
    let corpus = corpus(&ring)?;
    let begun = Instant::now();
    let (mut inputs, mut taken) = (0_u64, [0_u64; 4]);
    while begun.elapsed() < Duration::from_secs(seconds) {
        let bytes = spoil(&corpus, &random);
        let feed = || {
            let since = Instant::now();
            let are_taken = [
                read::<ClientMessage>(&bytes),
                read::<ServerMessage>(&bytes),
                apply(&bytes),
                verify(&bytes, &ring, &corpus),
            ];
            (are_taken, since.elapsed() < PATIENCE)
        };
        let (are_taken, is_quick) = feed();
        // What takes long takes long again; a machine that is busy does not always.
        let is_slow = !is_quick && (0..TRIES).all(|_| !feed().1);
        assert!(!is_slow, "seed {seed}, input {inputs}: {bytes:?}");
        for (sum, is_taken) in taken.iter_mut().zip(are_taken) {
            *sum += u64::from(is_taken);
        }
        inputs += 1;
    }
    println!(
        "{inputs} inputs in {seconds} s with seed {seed}; taken as client's, server's, delta, token: {taken:?}"
    );
    Ok(())
}

/// Returns what is good.
fn corpus(ring: &KeyRing) -> Result<Vec<Vec<u8>>, Box<dyn std::error::Error>> {
    let clients = [
        json!({"type": "connect", "token": "ann"}),
        json!({"type": "join", "id": 1, "room": "a", "seat": 2, "from": {"epoch": "e", "offset": 9}}),
        json!({"type": "resume", "id": 2, "token": "x.y", "from": {"epoch": "e", "offset": 9}}),
        json!({"type": "publish", "id": 3, "room": "a", "data": [[1.5, null], {"é": "\u{1f3b2}"}]}),
        json!({"type": "request", "id": 4, "room": "a", "method": "m", "data": {"deep": [[[[]]]]}}),
        json!({"type": "sync", "room": "a", "version": 7}),
    ];
    let mut document =
        Document::new(json!({"list": [1, 2, 3], "a/b~c": {"x": 1}, "rest": "x".repeat(99)}));
    let before = document.version();
    document.set(json!({"list": [1, 3, 4, 5], "a/b~c": {"y": 2}, "rest": "x".repeat(99)}));
    document.tick();
    let mut corpus = Vec::new();
    for message in clients {
        let message: ClientMessage = serde_json::from_value(message)?;
        corpus.extend([Codec::Json, Codec::MsgPack].map(|codec| bytes_of(codec.encode(&message))));
    }
    for version in [None, Some(before)] {
        corpus.push(serde_json::to_vec(&document.update_for(version))?);
    }
    let claims = Claims {
        user: "ann".to_owned(),
        room: "a".to_owned(),
        session: None,
        generation: 3,
        expires: Timestamp::from_millis(u64::MAX / 2),
    };
    corpus.push(ring.sign(&claims).into_bytes());
    Ok(corpus)
}

fn bytes_of(frame: infra_ws::Frame) -> Vec<u8> {
    match frame {
        infra_ws::Frame::Text(text) => text.as_str().as_bytes().to_vec(),
        infra_ws::Frame::Binary(bytes) => bytes.to_vec(),
    }
}

fn spoil(corpus: &[Vec<u8>], random: &Random) -> Vec<u8> {
    let below = |bound: usize| usize::try_from(random.below(bound as u64)).unwrap_or(0);
    let pick = || corpus.get(below(corpus.len())).cloned().unwrap_or_default();
    let mut bytes = pick();
    for _ in 0..below(6) {
        let at = below(bytes.len().max(1));
        match below(6) {
            0 => bytes.truncate(at),
            1 => {
                let byte = u8::try_from(random.below(256)).unwrap_or(0);
                if let Some(place) = bytes.get_mut(at) {
                    *place = byte;
                }
            }
            2 => {
                if let Some(place) = bytes.get_mut(at) {
                    *place ^= 1 << below(8);
                }
            }
            3 => {
                let tail = bytes.split_off(at);
                bytes.extend(pick().into_iter().take(below(40)));
                bytes.extend(tail);
            }
            4 => {
                let piece: Vec<u8> = bytes.iter().skip(at).take(below(20)).copied().collect();
                (0..below(200)).for_each(|_| bytes.extend(&piece));
            }
            _ => {
                let end = (at + below(9)).min(bytes.len());
                bytes.drain(at..end);
            }
        }
    }
    bytes
}

fn read<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> bool {
    let binary = Inbound::Binary(bytes.to_vec().into());
    let text = str::from_utf8(bytes).map(|text| Inbound::Text(text.into()));
    Codec::MsgPack.decode::<T>(&binary).is_ok()
        | text.is_ok_and(|text| Codec::Json.decode::<T>(&text).is_ok())
}

/// Applies a delta, if it is one, to states that it may fit; a replica that takes it has its hash.
fn apply(bytes: &[u8]) -> bool {
    let Ok(update) = serde_json::from_slice::<Update>(bytes) else { return false };
    let states =
        [json!({"list": [1, 2, 3], "a/b~c": {"x": 1}, "rest": "x".repeat(99)}), Value::Null];
    states.into_iter().any(|state| {
        let mut replica = Replica::new();
        let whole = Document::new(state).update_for(None);
        let is_taken = replica.apply(whole).is_ok() && replica.apply(update.clone()).is_ok();
        if let (true, Update::Delta { hash, .. } | Update::Full { hash, .. }) = (is_taken, &update)
        {
            assert_eq!(&sync::hash(replica.state()), hash);
        }
        is_taken
    })
}

/// Verifies a token; one that is not of the corpus must not be taken.
fn verify(bytes: &[u8], ring: &KeyRing, corpus: &[Vec<u8>]) -> bool {
    let Ok(text) = str::from_utf8(bytes) else { return false };
    let is_good = ring.verify(text, Timestamp::from_millis(1)).is_ok();
    assert!(!is_good || corpus.iter().any(|good| good == bytes), "{text} was taken");
    is_good
}
