//! Reads a client's message from bytes, bounded before it parses.

use super::{
    client::{Ask, ClientMessage, Numbered, Request, Resume},
    code::ErrorCode,
    fields::Fields,
    limits::{DEPTH, MESSAGE_BYTES},
    malformed::Malformed,
    position::Position,
    scan::too_deep,
    strict,
};
use crate::domain::ActionNumber;

/// Reads one message of a client.
///
/// Size and depth are checked before anything is parsed. Unknown types, unknown fields and fields
/// named twice are refused.
///
/// # Errors
///
/// [`Malformed`] with the code and, where there is one, the field.
///
/// ```
/// use game_server::protocol::{ErrorCode, decode};
///
/// let refused = decode(br#"{"type":"declare","action":7,"piles":"many"}"#).unwrap_err();
/// assert_eq!(refused.code, ErrorCode::InvalidValue);
/// assert_eq!(refused.field.as_deref(), Some("piles"));
/// assert_eq!(refused.action, Some(7));
/// ```
pub fn decode(bytes: &[u8]) -> Result<ClientMessage, Malformed> {
    if MESSAGE_BYTES < bytes.len() {
        let text = format!("a message has at most {MESSAGE_BYTES} bytes");
        return Err(Malformed::new(ErrorCode::TooLarge, text));
    }
    if let Some(at) = too_deep(bytes, DEPTH) {
        let text = format!("nested deeper than {DEPTH} at byte {at}");
        return Err(Malformed::new(ErrorCode::TooDeep, text));
    }
    let mut fields = Fields::of_message(strict::parse(bytes)?)?;
    let action = fields.peek_number("action");
    let kind: String = fields.required("type").map_err(|error| error.of_action(action))?;
    message(&kind, fields).map_err(|error| error.of_action(action))
}

fn message(kind: &str, mut fields: Fields) -> Result<ClientMessage, Malformed> {
    if let Some(request) = request(kind, &mut fields)? {
        fields.finish()?;
        return Ok(ClientMessage::Request(request));
    }
    let Some(ask) = ask(kind, &mut fields)? else {
        let unknown = Malformed::new(ErrorCode::UnknownType, format!("no message is a {kind:?}"));
        return Err(unknown.at("type"));
    };
    let action = ActionNumber::new(fields.number("action", 1)?);
    fields.finish()?;
    Ok(ClientMessage::Action(Numbered { action, ask }))
}

fn request(kind: &str, fields: &mut Fields) -> Result<Option<Request>, Malformed> {
    let request = match kind {
        "hello" => Request::Hello { resume: resume(fields)? },
        "list_rooms" => Request::ListRooms {},
        "create_room" => Request::CreateRoom {
            name: fields.required("name")?,
            settings: fields.optional("settings")?,
        },
        "join_room" => {
            Request::JoinRoom { room: fields.required("room")?, name: fields.required("name")? }
        }
        "spectate" => Request::Spectate { room: fields.required("room")?, from: position(fields)? },
        "emoji" => Request::Emoji { emoji: fields.required("emoji")? },
        "ping" => Request::Ping { nonce: fields.number("nonce", 0)? },
        _ => return Ok(None),
    };
    Ok(Some(request))
}

fn ask(kind: &str, fields: &mut Fields) -> Result<Option<Ask>, Malformed> {
    let ask = match kind {
        "leave_room" => Ask::LeaveRoom {},
        "add_bot" => Ask::AddBot { style: fields.optional("style")?.unwrap_or_default() },
        "remove_bot" => Ask::RemoveBot { seat: fields.required("seat")? },
        "start" => Ask::Start {},
        "redeal" => Ask::Redeal { accept: fields.required("accept")? },
        "declare" => Ask::Declare { piles: fields.required("piles")? },
        "play" => Ask::Play { pieces: fields.required("pieces")? },
        "chat" => Ask::Chat { text: fields.required("text")? },
        "come_back" => Ask::ComeBack {},
        _ => return Ok(None),
    };
    Ok(Some(ask))
}

fn resume(fields: &mut Fields) -> Result<Option<Resume>, Malformed> {
    let Some(mut resume) = fields.object("resume")? else { return Ok(None) };
    let token = resume.required("token")?;
    let from = position(&mut resume)?;
    resume.finish()?;
    Ok(Some(Resume { token, from }))
}

fn position(fields: &mut Fields) -> Result<Option<Position>, Malformed> {
    let Some(mut from) = fields.object("from")? else { return Ok(None) };
    let epoch = from.required("epoch")?;
    let offset = from.number("offset", 0)?;
    from.finish()?;
    Ok(Some(Position { epoch, offset }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::{ServerMessage, limits::GREATEST_NUMBER};

    /// One good message of every type, with every field.
    const GOOD: [&str; 16] = [
        r#"{"type":"hello","resume":{"token":"t.1","from":{"epoch":"e-1","offset":5}}}"#,
        r#"{"type":"list_rooms"}"#,
        r#"{"type":"create_room","name":"Ann","settings":{"turn_ms":20000}}"#,
        r#"{"type":"join_room","room":"K7Q2ZD","name":"Ann"}"#,
        r#"{"type":"spectate","room":"K7Q2ZD","from":{"epoch":"e-1","offset":0}}"#,
        r#"{"type":"emoji","emoji":"thumbs_up"}"#,
        r#"{"type":"ping","nonce":0}"#,
        r#"{"type":"leave_room","action":1}"#,
        r#"{"type":"add_bot","action":2,"style":"bold"}"#,
        r#"{"type":"remove_bot","action":3,"seat":3}"#,
        r#"{"type":"start","action":4}"#,
        r#"{"type":"redeal","action":5,"accept":false}"#,
        r#"{"type":"declare","action":6,"piles":8}"#,
        r#"{"type":"play","action":7,"pieces":[31,0]}"#,
        r#"{"type":"chat","action":8,"text":"well played"}"#,
        r#"{"type":"come_back","action":9}"#,
    ];

    fn check(json: &str, code: ErrorCode, field: Option<&str>) {
        let error = decode(json.as_bytes()).unwrap_err();
        assert_eq!((error.code, error.field.as_deref()), (code, field), "{json}");
    }

    #[test]
    fn every_message_reads_back_as_it_was_written() {
        for json in GOOD {
            let message = decode(json.as_bytes()).unwrap();
            assert!(json.contains(&format!("\"{}\"", message.name())), "{json}");
            let again = serde_json::to_string(&message).unwrap();
            assert_eq!(decode(again.as_bytes()).unwrap(), message, "{again}");
        }
    }

    #[test]
    fn a_message_with_one_field_too_many_is_refused_by_the_name_of_the_field() {
        for json in GOOD {
            let more = json.replacen('{', r#"{"extra":1,"#, 1);
            check(&more, ErrorCode::UnknownField, Some("extra"));
        }
        let hello =
            r#"{"type":"hello","resume":{"token":"t","from":{"epoch":"e","offset":0,"x":1}}}"#;
        check(hello, ErrorCode::UnknownField, Some("resume.from.x"));
        let create = r#"{"type":"create_room","name":"Ann","settings":{"turn":1}}"#;
        check(create, ErrorCode::InvalidValue, Some("settings"));
    }

    #[test]
    fn a_field_that_is_missing_or_wrong_is_named() {
        use ErrorCode::{InvalidValue, MissingField, NotAnObject, UnknownType};
        for (json, code, field) in [
            ("[]", NotAnObject, None),
            ("{}", MissingField, Some("type")),
            (r#"{"type":7}"#, InvalidValue, Some("type")),
            (r#"{"type":"fly"}"#, UnknownType, Some("type")),
            (r#"{"type":"start"}"#, MissingField, Some("action")),
            (r#"{"type":"start","action":null}"#, MissingField, Some("action")),
            (r#"{"type":"start","action":0}"#, InvalidValue, Some("action")),
            (r#"{"type":"start","action":-1}"#, InvalidValue, Some("action")),
            (r#"{"type":"start","action":1.5}"#, InvalidValue, Some("action")),
            (r#"{"type":"declare","action":1,"piles":256}"#, InvalidValue, Some("piles")),
            (r#"{"type":"play","action":1,"pieces":[32]}"#, InvalidValue, Some("pieces")),
            (r#"{"type":"play","action":1,"pieces":[3,3]}"#, InvalidValue, Some("pieces")),
            (r#"{"type":"remove_bot","action":1,"seat":4}"#, InvalidValue, Some("seat")),
            (r#"{"type":"chat","action":1,"text":""}"#, InvalidValue, Some("text")),
            (r#"{"type":"chat","action":1,"text":"a\u202eb"}"#, InvalidValue, Some("text")),
            (r#"{"type":"join_room","room":"k7q2zd","name":"A"}"#, InvalidValue, Some("room")),
            (r#"{"type":"create_room","name":"a\u0000"}"#, InvalidValue, Some("name")),
            (r#"{"type":"hello","resume":{}}"#, MissingField, Some("resume.token")),
            (r#"{"type":"hello","resume":"t"}"#, InvalidValue, Some("resume")),
            (r#"{"type":"emoji","emoji":"skull"}"#, InvalidValue, Some("emoji")),
        ] {
            check(json, code, field);
        }
    }

    #[test]
    fn what_is_no_json_is_refused_and_so_is_a_field_named_twice() {
        for json in ["", "{", "nope", "{\"type\":\"start\",}", "{} {}", "\u{feff}{}", "{'a':1}"] {
            check(json, ErrorCode::BadJson, None);
        }
        check(
            r#"{"type":"start","action":1,"action":2}"#,
            ErrorCode::DuplicateField,
            Some("action"),
        );
        assert_eq!(decode(b"\"\xff\"").unwrap_err().code, ErrorCode::BadJson);
        assert_eq!(decode(b"{\"type\":\"start\xff\"}").unwrap_err().code, ErrorCode::BadJson);
    }

    #[test]
    fn size_and_depth_are_refused_before_anything_is_parsed() {
        let large = vec![b' '; MESSAGE_BYTES + 1];
        assert_eq!(decode(&large).unwrap_err().code, ErrorCode::TooLarge);
        let full = format!(r#"{{"type":"list_rooms"{}}}"#, " ".repeat(MESSAGE_BYTES - 21));
        assert_eq!(full.len(), MESSAGE_BYTES);
        assert!(decode(full.as_bytes()).is_ok());
        // Neither of these is JSON: only a decoder that looks first calls them too deep.
        let deep = "[".repeat(MESSAGE_BYTES);
        assert_eq!(decode(deep.as_bytes()).unwrap_err().code, ErrorCode::TooDeep);
        let deep = "{\"a\":".repeat(DEPTH + 1);
        assert_eq!(decode(deep.as_bytes()).unwrap_err().code, ErrorCode::TooDeep);
    }

    #[test]
    fn the_answer_names_the_action_if_it_can_be_read() {
        let error = decode(br#"{"type":"chat","action":41,"text":""}"#).unwrap_err();
        assert_eq!(error.action, Some(41));
        let error = decode(br#"{"type":"chat","action":"41","text":"x"}"#).unwrap_err();
        assert_eq!(error.action, None);
    }

    #[test]
    fn no_answer_repeats_much_of_what_a_client_sent() {
        let long = "x".repeat(60_000);
        for json in [
            format!(r#"{{"type":"{long}"}}"#),
            format!(r#"{{"type":"emoji","emoji":"{long}"}}"#),
            format!(r#"{{"type":"start","action":"{long}"}}"#),
            format!(r#"{{"type":"start","action":1,"{long}":1}}"#),
        ] {
            let answer = decode(json.as_bytes()).unwrap_err().answer(false).encode();
            assert!(answer.len() < 600, "{}", answer.len());
        }
    }

    /// Decodes what may be anything, and holds that the answer to it is short and readable.
    fn survive(bytes: &[u8]) {
        if let Err(error) = decode(bytes) {
            let answer = error.clone().answer(true);
            let text = answer.encode();
            assert!(text.len() < 600, "{text}");
            assert_eq!(ServerMessage::decode(&text).unwrap(), answer);
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            survive(&bytes);
        }

        #[test]
        fn a_mutated_message_is_read_or_refused_and_never_panics(
            which in 0..GOOD.len(),
            cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
            until in any::<prop::sample::Index>(),
        ) {
            let mut bytes = GOOD[which].as_bytes().to_vec();
            for (at, byte) in cuts {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            survive(&bytes);
            survive(&bytes[..until.index(bytes.len())]);
        }

        #[test]
        fn whatever_is_read_reads_back_the_same(
            action in 1..=GREATEST_NUMBER,
            piles in any::<u8>(),
            text in ".{0,40}",
        ) {
            let chat = serde_json::json!({"type": "chat", "action": action, "text": text});
            let declare = serde_json::json!({"type": "declare", "action": action, "piles": piles});
            for json in [chat.to_string(), declare.to_string()] {
                if let Ok(message) = decode(json.as_bytes()) {
                    let again = serde_json::to_vec(&message).unwrap();
                    prop_assert_eq!(decode(&again), Ok(message));
                }
            }
        }
    }
}
