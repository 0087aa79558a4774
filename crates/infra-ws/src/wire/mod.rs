//! The protocol of rooms: what clients and the [`RoomServer`](crate::room::RoomServer) say.
//!
//! A message is one object, as JSON in a text message or as MessagePack in a binary one; the
//! subprotocol says which. See `docs/protocol-rooms.md` for the conversation.

mod client;
mod codec;
mod server;

pub(crate) use self::codec::Encoded;
pub use self::{
    client::ClientMessage,
    codec::{Codec, JSON, MSGPACK, Unreadable},
    server::{Cause, Code, Event, Part, Present, Recovered, ServerMessage},
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        app::Inbound,
        frame::Frame,
        history::Place,
        sync::{Update, hash},
    };

    fn message() -> ServerMessage {
        let events = vec![
            Event { offset: 7, data: json!({"n": [1, -2, 2.5, true, "x"]}) },
            Event { offset: 8, data: Value::Null },
        ];
        ServerMessage::Events { room: "a".to_owned(), epoch: "e".to_owned(), events }
    }

    fn inbound(frame: Frame) -> Inbound {
        match frame {
            Frame::Text(text) => Inbound::Text(text),
            Frame::Binary(bytes) => Inbound::Binary(bytes),
        }
    }

    #[test]
    fn both_codecs_carry_every_message_and_neither_takes_the_others() {
        let state = json!({"a": 1});
        let update = Update::Full { version: 1, hash: hash(&state), state };
        let all = [
            message(),
            ServerMessage::Pong,
            ServerMessage::State { room: "a".to_owned(), part: Part::Own, update },
            ServerMessage::Lost { room: "a".to_owned(), reason: Cause::TooOld },
        ];
        for codec in [Codec::Json, Codec::MsgPack] {
            for message in &all {
                let frame = inbound(codec.encode(message));
                assert_eq!(codec.decode::<ServerMessage>(&frame).as_ref(), Ok(message));
                let other = if codec == Codec::Json { Codec::MsgPack } else { Codec::Json };
                assert_eq!(other.decode::<ServerMessage>(&frame), Err(Unreadable));
            }
        }
        let encoded = Encoded::new(message());
        let (Frame::Text(one), Frame::Text(two)) =
            (encoded.frame(Codec::Json), encoded.frame(Codec::Json))
        else {
            panic!("text");
        };
        assert_eq!(one.as_str().as_ptr(), two.as_str().as_ptr(), "encoded once, shared");
        let binary = encoded.frame(Codec::MsgPack);
        assert!(binary.len() < one.len(), "{} {}", binary.len(), one.len());
        assert_eq!(Codec::of_protocol(Some(MSGPACK)), Codec::MsgPack);
        assert_eq!(Codec::of_protocol(None), Codec::Json);
    }

    #[test]
    fn unknown_types_fields_and_too_deep_messages_are_refused() {
        let refused =
            |text: &str| Codec::Json.decode::<ClientMessage>(&Inbound::Text(text.into())).is_err();
        assert!(!refused(r#"{"type":"publish","id":1,"room":"a","data":[[]]}"#));
        assert!(refused(r#"{"type":"shout","id":1}"#));
        assert!(refused(r#"{"type":"leave","id":1,"room":"a","why":2}"#));
        assert!(refused(r#"{"type":"leave","id":-1,"room":"a"}"#));
        let deep = format!(
            r#"{{"type":"publish","id":1,"room":"a","data":{}1{}}}"#,
            "[".repeat(40),
            "]".repeat(40)
        );
        assert!(refused(&deep));
        let mut value = json!(1);
        for _ in 0..200 {
            value = json!([value]);
        }
        let message =
            ClientMessage::Publish { id: 1, room: "a".to_owned(), data: value, trace: None };
        let frame = inbound(Codec::MsgPack.encode(&message));
        assert_eq!(Codec::MsgPack.decode::<ClientMessage>(&frame), Err(Unreadable));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(crate::suite_cases(512)))]
        #[test]
        fn any_bytes_are_decoded_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let binary = Inbound::Binary(bytes.clone().into());
            let _read = Codec::MsgPack.decode::<ClientMessage>(&binary).is_ok();
            if let Ok(text) = String::from_utf8(bytes) {
                let text = Inbound::Text(text.as_str().into());
                let _read = Codec::Json.decode::<ClientMessage>(&text).is_ok();
            }
        }

        #[test]
        fn a_spoilt_message_is_decoded_or_refused(at: prop::sample::Index, byte: u8) {
            let message = ClientMessage::Join {
                id: 9, room: "room".to_owned(), seat: Some(1), from: Some(Place::default()),
            };
            let Frame::Binary(bytes) = Codec::MsgPack.encode(&message) else { panic!("binary") };
            let mut bytes = bytes.to_vec();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _read = Codec::MsgPack.decode::<ClientMessage>(&Inbound::Binary(bytes.into()));
        }
    }
}
