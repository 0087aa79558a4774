//! The game of Liap Tui as a pure domain: no I/O, no time, no randomness of its own.
//!
//! A room is its event stream. [`Command`]s come in, [`Event`]s come out, [`view`] and
//! [`RoomView`] are all that anybody outside ever sees of them.

mod command;
mod event;
mod piece;
mod pieces;
mod play;
mod player;
mod refusal;
mod room_view;
mod seat;
mod settings;
mod text;
mod view;

pub use command::{Act, Actor, Command, Entropy};
pub use event::{AbandonReason, Cause, Event, Hands};
pub use piece::{Colour, Kind, PIECES, Piece};
pub use pieces::Pieces;
pub use play::{LONGEST_PLAY, Play, PlayType, classify};
pub use player::{ActionNumber, PlayerId, Style};
pub use refusal::Refusal;
pub use room_view::{ChatView, GameView, Laid, Phase, ResultView, RoomView, SeatView, Status};
pub use seat::{BySeat, SEATS, Seat};
pub use settings::{Millis, Settings};
pub use text::{ChatText, Name, Text, TextError};
pub use view::{Viewed, Viewer, is_shared, view};
