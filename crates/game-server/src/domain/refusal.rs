//! Why a command is refused, in codes that never change.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Declares the refusals with the text that explains each, so that none can be forgotten.
macro_rules! refusals {
    ($($name:ident = $code:literal, $text:literal;)*) => {
        /// Why a command is refused; in JSON its code.
        ///
        /// ```
        /// use game_server::domain::Refusal;
        ///
        /// assert_eq!(Refusal::NotYourTurn.code(), "not_your_turn");
        /// assert_eq!(serde_json::to_string(&Refusal::NotYourTurn).unwrap(), "\"not_your_turn\"");
        /// assert_eq!(Refusal::NotYourTurn.to_string(), "another seat is to act");
        /// ```
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum Refusal {
            $(#[doc = concat!("`", $code, "`: ", $text, ".")] #[serde(rename = $code)] $name,)*
        }

        impl Refusal {
            /// Every refusal.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Returns the stable code.
            pub const fn code(self) -> &'static str {
                match self {
                    $(Self::$name => $code,)*
                }
            }

            const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

refusals! {
    NoSuchRoom = "no_such_room", "the room has not been created";
    RoomExists = "room_exists", "the room has been created already";
    RoomFull = "room_full", "all four seats are taken";
    RoomAbandoned = "room_abandoned", "the room has been given up";
    GameRunning = "game_running", "the game has begun; only its own players come back to it";
    WrongPhase = "wrong_phase", "the action does not belong to the present phase";
    InvalidSettings = "invalid_settings", "a time of the settings is out of its range";
    NotAllowed = "not_allowed", "this actor cannot give this command";
    NotInRoom = "not_in_room", "the player has no seat in this room";
    AlreadyJoined = "already_joined", "the player has a seat in this room already";
    NameTaken = "name_taken", "somebody in the room has this name";
    NotHost = "not_host", "only the host can do this";
    NotABot = "not_a_bot", "there is no bot on this seat";
    NotSilent = "not_silent", "no bot plays for this player";
    NotYourTurn = "not_your_turn", "another seat is to act";
    NotDue = "not_due", "what this was about has happened since";
    DeclarationOutOfRange = "declaration_out_of_range", "a declaration is 0 to 8 piles";
    DeclarationSumsToEight = "declaration_sums_to_eight",
        "the four declarations must not add up to 8";
    MustDeclareAtLeastOne = "must_declare_at_least_one",
        "after two rounds of declaring 0, at least 1 must be declared";
    WrongPieceCount = "wrong_piece_count",
        "a turn is of 1 to 6 pieces, as many as its starter played";
    PieceNotHeld = "piece_not_held", "a piece is not in the player's hand";
    InvalidPlay = "invalid_play", "the starter of a turn must play a valid play";
    StaleAction = "stale_action", "a later action of this player has been answered already";
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_refusal_has_a_code_of_its_own_that_reads_back() {
        let codes: HashSet<_> = Refusal::ALL.iter().map(|refusal| refusal.code()).collect();
        assert_eq!(codes.len(), Refusal::ALL.len());
        for refusal in Refusal::ALL {
            let json = serde_json::to_string(refusal).unwrap();
            assert_eq!(json, format!("\"{}\"", refusal.code()));
            assert_eq!(serde_json::from_str::<Refusal>(&json).unwrap(), *refusal);
            assert!(refusal.code().chars().all(|c| c.is_ascii_lowercase() || c == '_'));
        }
    }
}
