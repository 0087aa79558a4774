//! What each message costs the rate limiter: the server decides, never the client.

use std::num::NonZeroU32;

use super::client::{Ask, ClientMessage, Request};

/// Returns how many tokens of the player's bucket a message costs.
///
/// ```
/// use game_server::protocol::{cost, decode};
///
/// let message = decode(br#"{"type":"start","action":1}"#).unwrap();
/// assert_eq!(cost(&message).get(), 3);
/// ```
pub const fn cost(message: &ClientMessage) -> NonZeroU32 {
    let tokens = match message {
        ClientMessage::Request(Request::CreateRoom { .. }) => 5,
        ClientMessage::Request(Request::JoinRoom { .. } | Request::Spectate { .. }) => 2,
        ClientMessage::Request(
            Request::Hello { .. }
            | Request::ListRooms {}
            | Request::Emoji { .. }
            | Request::Ping { .. },
        ) => 1,
        ClientMessage::Action(numbered) => match &numbered.ask {
            Ask::Start {} => 3,
            Ask::Redeal { .. } => 2,
            Ask::LeaveRoom {}
            | Ask::AddBot { .. }
            | Ask::RemoveBot { .. }
            | Ask::Declare { .. }
            | Ask::Play { .. }
            | Ask::Chat { .. }
            | Ask::ComeBack {} => 1,
        },
    };
    match NonZeroU32::new(tokens) {
        Some(tokens) => tokens,
        None => NonZeroU32::MIN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::decode;

    #[test]
    fn the_table_of_costs_holds() {
        for (expected, json) in [
            (5, r#"{"type":"create_room","name":"Ann"}"#),
            (2, r#"{"type":"join_room","room":"K7Q2ZD","name":"Ann"}"#),
            (2, r#"{"type":"spectate","room":"K7Q2ZD"}"#),
            (1, r#"{"type":"leave_room","action":1}"#),
            (3, r#"{"type":"start","action":1}"#),
            (1, r#"{"type":"play","action":1,"pieces":[3]}"#),
            (1, r#"{"type":"declare","action":1,"piles":3}"#),
            (2, r#"{"type":"redeal","action":1,"accept":true}"#),
            (2, r#"{"type":"redeal","action":1,"accept":false}"#),
            (1, r#"{"type":"chat","action":1,"text":"hi"}"#),
            (1, r#"{"type":"emoji","emoji":"clap"}"#),
            (1, r#"{"type":"add_bot","action":1}"#),
            (1, r#"{"type":"ping","nonce":1}"#),
        ] {
            assert_eq!(cost(&decode(json.as_bytes()).unwrap()).get(), expected, "{json}");
        }
    }
}
