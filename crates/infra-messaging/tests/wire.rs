//! Messages as bytes: every field survives, and no bytes do more than be refused.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "a panic is how a test fails"
)]

use std::{collections::HashSet, sync::Arc, time::Duration};

use infra_core::{
    ErrorKind,
    clock::Timestamp,
    codec::{Codec as _, CodecTag, Payload},
    id::{CorrelationId, MessageId},
    queue::{Attempts, Cause, DeadLetter, Failure, Message, Priority},
    random::Random,
    trace::TraceContext,
};
use infra_messaging::{Codecs, MessagePack, Mint, Wire, codec_of, content_type, made};
use infra_testkit::clock::{DAWN, ManualClock};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

const BOTH: [CodecTag; 2] = [CodecTag::Json, CodecTag::MessagePack];

fn messages() -> impl Strategy<Value = Message> {
    let payload = (0..4_u8, 1..9_u32, proptest::collection::vec(any::<u8>(), 0..40));
    let times = (any::<u64>(), any::<Option<u64>>());
    let texts = (any::<Option<String>>(), any::<Option<String>>());
    let headers = proptest::collection::btree_map(".*", ".*", 0..4);
    (any::<u64>(), 0..4_usize, payload, times, texts, headers, any::<bool>()).prop_map(
        |(seed, urgency, (codec, schema, body), (delay, ttl), (key, dedup), headers, is_traced)| {
            let random = Random::seeded(seed);
            let id = MessageId::generate(Timestamp::from_millis(seed >> 20), &random);
            let codec = CodecTag::from_byte(codec).unwrap();
            let order = [Priority::Low, Priority::Normal, Priority::High, Priority::Critical];
            Message {
                id,
                payload: Payload { codec, schema, body: body.into() },
                priority: order[urgency],
                key,
                delay: Duration::from_nanos(delay),
                ttl: ttl.map(Duration::from_nanos),
                dedup,
                headers,
                correlation: is_traced.then(|| CorrelationId::generate(DAWN, &random)),
                trace: is_traced.then(|| TraceContext::root(&random, true)),
            }
        },
    )
}

proptest! {
    #[test]
    fn every_field_survives_both_codecs(message in messages()) {
        let wire = Wire::new();
        for codec in BOTH {
            let payload = wire.encode(codec, &message).unwrap();
            prop_assert_eq!(wire.decode(&payload).unwrap(), message.clone());
            let letter = DeadLetter {
                message: message.clone(),
                attempts: Attempts { deliveries: 5, failures: 4, crashes: 3, releases: 2, replays: 1 },
                cause: Cause::Failed,
                reason: "no".to_owned(),
                history: vec![Failure { at: DAWN, reason: "first".to_owned() }],
                died: DAWN,
            };
            let payload = wire.encode_letter(codec, &letter).unwrap();
            prop_assert_eq!(wire.decode_letter(&payload).unwrap(), letter);
        }
    }

    #[test]
    fn no_bytes_make_the_decoder_panic_or_accept_what_it_did_not_write(
        bytes in proptest::collection::vec(any::<u8>(), 0..200), message in messages(), at: usize, flip: u8,
    ) {
        let wire = Wire::new();
        for codec in BOTH {
            let payload = Payload { codec, schema: 1, body: bytes.clone().into() };
            prop_assert!(wire.decode(&payload).is_err());
            let mut body = wire.encode(codec, &message).unwrap().body.to_vec();
            let at = at % body.len();
            body[at] ^= flip;
            let _decoded = wire.decode(&Payload { codec, schema: 1, body: body.clone().into() });
            body.truncate(at);
            let cut = wire.decode(&Payload { codec, schema: 1, body: body.into() });
            prop_assert!(cut.is_err());
        }
    }
}

#[test]
fn the_envelope_of_version_1_is_read_and_written_byte_for_byte() {
    let id = "018cc251-f400-7000-8000-000000000001".parse().unwrap();
    let message = Message::new(id, Payload::json(2, &serde_json::json!({"key": "value"})).unwrap())
        .priority(Priority::High)
        .key("room-1")
        .ttl(Duration::from_millis(1_500))
        .header("source", "test_source");
    let golden = concat!(
        r#"{"v":1,"id":"018cc251-f400-7000-8000-000000000001","priority":10,"codec":1,"schema":2,"#,
        r#""body":{"text":"{\"key\":\"value\"}"},"key":"room-1","#,
        r#""ttl":{"secs":1,"nanos":500000000},"headers":{"source":"test_source"}}"#,
    );
    let wire = Wire::new();
    let written = wire.encode(CodecTag::Json, &message).unwrap();
    assert_eq!(std::str::from_utf8(&written.body).unwrap(), golden);
    let read = Payload { codec: CodecTag::Json, schema: 1, body: golden.into() };
    assert_eq!(wire.decode(&read).unwrap(), message);
    for (from, to, kind) in [
        (r#""v":1"#, r#""v":2"#, ErrorKind::Unsupported),
        (r#""priority":10"#, r#""priority":11"#, ErrorKind::Corrupt),
        (r#""codec":1"#, r#""codec":9"#, ErrorKind::Corrupt),
        (r#""text""#, r#""pickle""#, ErrorKind::Corrupt),
    ] {
        let bent = Payload { body: golden.replace(from, to).into(), ..read.clone() };
        assert_eq!(*wire.decode(&bent).unwrap_err().kind(), kind, "{to}");
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Seat {
    player: String,
    points: i64,
}

#[test]
fn a_type_of_the_callers_survives_and_grows_by_fields_in_both_codecs() {
    #[derive(Deserialize)]
    struct Later {
        player: String,
        #[serde(default)]
        is_bot: bool,
    }
    let codecs = Codecs::new();
    let seat = Seat { player: "ann".to_owned(), points: -7 };
    for codec in BOTH {
        let payload = codecs.encode(codec, 1, &seat).unwrap();
        assert_eq!(payload.codec, codec);
        assert_eq!(codecs.decode::<Seat>(&payload).unwrap(), seat);
        let later: Later = codecs.decode(&payload).unwrap();
        assert_eq!((later.player.as_str(), later.is_bot), ("ann", false));
    }
}

#[test]
fn a_codec_is_chosen_by_its_tag_and_unknown_ones_are_refused() {
    let codecs = Codecs::new();
    for codec in BOTH {
        assert_eq!(codec_of(content_type(codec)).unwrap(), codec);
    }
    assert_eq!(codec_of("Application/JSON; charset=utf-8").unwrap(), CodecTag::Json);
    for unknown in ["", "application/x-python-pickle", "text/plain", "application/octet-stream"] {
        assert_eq!(*codec_of(unknown).unwrap_err().kind(), ErrorKind::Unsupported, "{unknown}");
    }
    for codec in [CodecTag::Raw, CodecTag::Bincode] {
        assert_eq!(*codecs.encode(codec, 1, &1).unwrap_err().kind(), ErrorKind::Unsupported);
        let payload = Payload { codec, schema: 1, body: "1".into() };
        assert_eq!(*codecs.decode::<u8>(&payload).unwrap_err().kind(), ErrorKind::Unsupported);
    }
    // JSON under the tag of the other codec is not guessed at.
    let wrong = Payload { codec: CodecTag::MessagePack, schema: 1, body: "{\"a\":1}".into() };
    assert!(codecs.decode::<std::collections::BTreeMap<String, u8>>(&wrong).is_err());
}

#[test]
fn size_and_depth_are_bounded_and_forged_lengths_allocate_nothing() {
    let codecs = Codecs::new().max_bytes(10);
    let long = Payload { codec: CodecTag::Json, schema: 1, body: "\"12345678901\"".into() };
    assert_eq!(*codecs.decode::<String>(&long).unwrap_err().kind(), ErrorKind::Corrupt);
    let said = codecs.encode(CodecTag::MessagePack, 1, "12345678901");
    assert_eq!(*said.unwrap_err().kind(), ErrorKind::Invalid);
    let deep = |codec, open: u8| Payload { codec, schema: 1, body: vec![open; 100_000].into() };
    for payload in [deep(CodecTag::Json, b'['), deep(CodecTag::MessagePack, 0x91)] {
        assert!(Codecs::new().decode::<serde_json::Value>(&payload).is_err());
    }
    assert!(MessagePack::decode::<Vec<u64>>(&[0xdd, 0xff, 0xff, 0xff, 0xff, 1]).is_err());
    assert!(MessagePack::decode::<String>(&[0xdb, 0xff, 0xff, 0xff, 0xff, 1]).is_err());
    assert!(MessagePack::decode::<u8>(&[1, 2]).is_err(), "trailing bytes");
}

#[test]
fn a_fresh_message_is_ordinary_its_id_unique_and_its_time_the_clocks() {
    let clock = ManualClock::new();
    let mint = Mint::new(Arc::new(clock.clone()), Random::seeded(3));
    let payload = Payload::json(1, &serde_json::json!({"data": "test"})).unwrap();
    let mut ids = HashSet::new();
    let mut last = mint.message(payload.clone());
    for step in 1..=50_000_u64 {
        clock.advance(Duration::from_millis(1));
        let message = mint.message(payload.clone());
        assert_eq!(message, Message::new(message.id, payload.clone()), "nothing else is set");
        assert_eq!(made(message.id), DAWN.plus(Duration::from_millis(step)));
        assert!(last.id < message.id, "ids sort by time");
        assert!(ids.insert(message.id));
        last = message;
    }
    let same: HashSet<_> = (0..10_000).map(|_| mint.id()).collect();
    assert_eq!(same.len(), 10_000, "also within a millisecond");
}
